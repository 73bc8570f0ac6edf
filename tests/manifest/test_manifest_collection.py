"""Old records of a chain: removed where allowed, and without cost where not (append-only, object lock)."""

import os
from collections.abc import Iterator

import pytest
from cas_world import PREFIX, MixedSites

from drtool.errors import StoreError
from drtool.manifest import Manifest, MemoryState, Policy, SetPolicy
from drtool.manifest.acceptor import collect
from drtool.manifest.beginning import places_of
from drtool.manifest.chain import COLLECT_AT_ONCE
from drtool.manifest.drive import Driver
from drtool.manifest.names import version_name, version_of
from drtool.manifest.witness import Witness
from drtool.model import ObjectInfo
from drtool.paxos import Ballot, accept, promise
from drtool.paxos.record import record_hash
from drtool.stores import MemoryStore

OLD_COMMITS = 1200


class AppendOnly(MemoryStore):
    """A store that never deletes. It counts the listed names of registers and the requested deletes."""

    def __init__(self, *, keeps: bool = True) -> None:
        super().__init__("chain")
        self.keeps = keeps
        self.listed = 0
        self.refused = 0

    def list(self, prefix: str = "", start_after: str = "") -> Iterator[ObjectInfo]:
        for row in super().list(prefix, start_after):
            self.listed += row.name.startswith(PREFIX)
            yield row

    def delete(self, name: str) -> None:
        if self.keeps:
            self.refused += 1
            raise StoreError(f"{name} is locked")
        super().delete(name)

    def versions(self):
        return [version for row in super().list(PREFIX) if (version := version_of(PREFIX, row.name)) is not None]


class LockedSites(MixedSites):
    """Three sites that keep everything."""

    def __init__(self, root) -> None:
        super().__init__(root, 3, 0)
        self.locked = {name: AppendOnly() for name in self.names}

    def stores(self):
        return self.locked

    def grow_old(self, commits: int) -> None:
        """The records that `commits` quiet commits leave."""
        config = self.host().read().config
        for name, place in places_of(config, self.keys.repository, self.keys, Witness()).items():
            store = self.locked[name]
            data = store.get(version_name(PREFIX, max(store.versions())))
            record = place.decode(data)
            for number in range(record.promised.round + 1, record.promised.round + 1 + commits):
                ballot = Ballot(number, b"o" * 16)
                for rule in (promise, lambda *words, value=record.value: accept(*words[:3], value, words[3])):
                    record = rule(record, record_hash(data), ballot, os.urandom(16))
                    data = place.encode(record)
                    store.put(version_name(PREFIX, record.version), data)


@pytest.fixture
def sites(tmp_path):
    sites = LockedSites(tmp_path)
    sites.found()
    return sites


def test_old_records_that_cannot_be_deleted_cost_nothing(sites):
    sites.grow_old(OLD_COMMITS)
    store, host = sites.locked["site0"], Manifest(sites.stores(), sites.keys, MemoryState())
    host.read()
    assert store.listed > 2 * OLD_COMMITS, "a new host reads the whole listing, once"
    store.listed = store.refused = 0
    for _ in range(10):
        host.read()
    assert store.listed <= 10 * 4
    store.listed = 0
    for copies in range(64):
        host.commit(SetPolicy(Policy(1 + copies % 2)))
    assert store.listed < OLD_COMMITS, "the listing read by a collection is bounded too"
    assert 0 < store.refused <= 64 / 8, "a refusal ends that collection, and later ones try again occasionally"
    assert len(store.versions()) == 1 + 2 * OLD_COMMITS + 2 * 64
    assert not host.check()


def test_records_are_removed_piece_by_piece_after_their_lock_ends(sites):
    sites.grow_old(150)
    host = Manifest(sites.stores(), sites.keys, MemoryState())
    host.read()
    for store in sites.locked.values():
        store.keeps = False
    before = len(sites.locked["site0"].versions())
    for copies in range(16):
        host.commit(SetPolicy(Policy(1 + copies % 2)))
    left = sites.locked["site0"].versions()
    assert len(left) == before + 2 * 16 - 2 * COLLECT_AT_ONCE, "more goes each time than was added since"
    assert left == list(range(left[0], left[-1] + 1)), "oldest first"
    assert not host.check()


def test_compaction_takes_all_that_it_may(sites):
    sites.grow_old(100)
    host = Manifest(sites.stores(), sites.keys, MemoryState())
    assert host.compact().records == dict.fromkeys(sites.names, 0)
    for store in sites.locked.values():
        store.keeps = False
    assert min(host.compact().records.values()) > 200
    assert {len(store.versions()) for store in sites.locked.values()} == {2}


def test_the_newest_two_always_stay(sites):
    sites.grow_old(3)
    config = sites.host().read().config
    place = places_of(config, sites.keys.repository, sites.keys, Witness())["site0"]
    store = sites.locked["site0"]
    store.keeps = False
    newest = max(store.versions())
    driver = Driver(sites.stores(), MemoryState())
    assert driver.run(collect(place, newest)) == newest - 2
    assert store.versions() == [newest - 1, newest]
    assert driver.run(collect(place, newest)) == 0
