"""Manifests over swapped registers, alone and beside chains: commits, failing sites, and the results of `check`."""

import os
import shutil
import threading

import pytest
from cas_world import PREFIX, STATE, MixedSites
from manifest_world import backup, snapshot, sources

from drtool.errors import NoQuorum, Refused
from drtool.manifest import AddSnapshot, Manifest, MemoryState, OpenSession, Policy, SetPolicy
from drtool.manifest.acceptor import change_site, read_site
from drtool.manifest.beginning import places_of
from drtool.manifest.drive import Driver
from drtool.manifest.ports import Delete, List, PutIfAbsent, Read, ReadTagged, Swap
from drtool.manifest.proposer import accepting
from drtool.manifest.witness import Witness
from drtool.paxos import Ballot, promise
from drtool.paxos.record import record_hash

LAST = "site2"


@pytest.fixture(params=[3, 1], ids=["three that swap", "two chains and one that swaps"])
def sites(request, tmp_path):
    return MixedSites(tmp_path, 3, request.param)


@pytest.fixture
def manifest(sites):
    return sites.found()


@pytest.fixture
def swapping(sites, manifest):
    """The store of a created site with a swapped register."""
    return sites.swapping[LAST]


def policies(host: Manifest, *copies: int) -> None:
    for each in copies:
        host.commit(SetPolicy(Policy(each)))


def problems(host: Manifest) -> list[tuple[str, str]]:
    return [(problem.site, problem.kind) for problem in host.check()]


def status_of(host: Manifest, site: str = LAST):
    return next(row for row in host.status().acceptors if row.site == site)


def test_every_host_reads_a_commit(sites, manifest):
    committed = backup(manifest)
    view = sites.host("another").read()
    assert (view.sequence, view.digest) == (committed.view.sequence, committed.view.digest)
    assert {voter.site: voter.mode for voter in view.config.voters if voter.mode == "cas"} == dict.fromkeys(
        sites.swapping, "cas"
    )
    assert not problems(sites.host("another"))
    assert {row.lag for row in sites.host().status().acceptors} == {0}


def test_a_manifest_is_founded_once(sites, manifest):
    with pytest.raises(Refused):
        sites.found()


def test_a_swapped_register_remains_one_object_after_any_commits(sites, manifest, swapping):
    for _ in range(12):
        backup(manifest)
    assert [row.name for row in swapping.list(PREFIX)] == [STATE]
    assert status_of(sites.host()).version == 49


def test_a_quiet_commit_takes_six_round_trips_and_a_read_two_for_every_host(sites, manifest):
    """A swapped register has no predecessor to read. A chain costs a host that did not write it one more request."""
    quiet_read, change = [List, ReadTagged], [Swap, List, Swap, List]
    for name in ("host", "another"):
        steps: list[object] = []
        host = sites.host(name, hook=lambda _step, request, steps=steps: steps.append(request))
        host.read()
        steps.clear()
        host.read()
        assert [type(r) for r in steps if getattr(r, "site", "") == LAST] == quiet_read
        steps.clear()
        policies(host, 1 if name == "host" else 2)
        assert [type(r) for r in steps if getattr(r, "site", "") == LAST] == quiet_read + change
        if "site0" not in sites.swapping:
            chain = [type(r) for r in steps if getattr(r, "site", "") == "site0"]
            assert chain == [List, Read, PutIfAbsent, List, PutIfAbsent, List]
        assert not any(isinstance(r, Delete) for r in steps)


@pytest.mark.parametrize("cas", [3, 1])
def test_eight_hosts_commit_at_once_and_every_acknowledged_commit_is_there_once(tmp_path, cas):
    sites = MixedSites(tmp_path, 3, cas)
    sites.found()
    start, acknowledged = threading.Barrier(8), []

    def work(name: str) -> None:
        host = Manifest(sites.stores(), sites.keys, MemoryState(), patience_s=60.0, deadline_s=90.0)
        start.wait(30)
        for i in range(2):
            session, mark = os.urandom(16), f"{name}.{i}"
            opening = OpenSession(kind="backup", host_id=name, host=name, source=mark, session=session)
            host.commit([opening, AddSnapshot(session, snapshot(session, mark))])
            acknowledged.append(mark)

    threads = [threading.Thread(target=work, args=(f"host{i}",)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    view = sites.host().read()
    assert len(acknowledged) == 16
    assert sorted(sources(view)) == sorted(acknowledged)
    assert view.sequence == 1 + 2 * 16
    assert not problems(sites.host())


def test_a_site_that_is_away_is_done_without_and_catches_up(sites, manifest, swapping):
    stores = sites.stores()
    del stores[LAST]
    backup(sites.host(sites=stores))
    assert status_of(sites.host()).lag == 2
    assert not problems(sites.host())
    sites.host().refresh()
    assert status_of(sites.host()).lag == 0


def test_a_wiped_register_is_absent_until_something_was_chosen_without_it(sites, manifest, swapping):
    backup(manifest)
    swapping.delete(STATE)
    sites.host().read()
    assert "holds no acceptor" in status_of(sites.host()).problem
    assert (LAST, "absent") in problems(sites.host())
    assert not list(swapping.list(PREFIX)), "a reader does not create it again"
    backup(sites.host())
    assert (status_of(sites.host()).problem, status_of(sites.host()).lag) == (None, 0)
    assert not problems(sites.host())


def test_a_damaged_register_is_named_and_is_not_overwritten(sites, manifest, swapping):
    damaged = bytearray(swapping.get(STATE))
    damaged[len(damaged) // 2] ^= 1
    swapping.put(STATE, bytes(damaged))
    backup(sites.host())
    assert "key did not make" in status_of(sites.host()).problem
    assert (LAST, "broken") in problems(sites.host())
    assert swapping.get(STATE) == damaged


def test_a_register_that_went_back_is_named_counts_for_nothing_and_takes_part_again(sites, manifest, swapping):
    older = swapping.get(STATE)
    backup(manifest)
    swapping.put(STATE, older)
    host = sites.host()
    assert "went back in time" in status_of(host).problem
    assert problems(host) == [(LAST, "rolled-back")]
    assert host.status().quorum.reachable == 2
    policies(host, 1)
    assert not problems(host)
    assert status_of(sites.host()).lag == 0


def test_registers_that_forgot_a_commit_are_not_believed(tmp_path):
    sites = MixedSites(tmp_path, 3, 3)
    manifest = sites.found()
    older = {name: store.get(STATE) for name, store in sites.swapping.items()}
    backup(manifest)
    for name in ("site1", LAST):
        sites.swapping[name].put(STATE, older[name])
    with pytest.raises(NoQuorum, match="went back in time"):
        policies(sites.host(), 1)
    view = sites.host().read_offline("site1")
    assert view.tentative
    assert "went back in time" in view.problems[0]


def test_objects_beside_a_register_are_named(sites, manifest, swapping):
    """Two ways to advance one register: another host runs with a different definition of this voter."""
    record = swapping.get(STATE)
    for version in (1, 2):
        swapping.put(f"{PREFIX}v-{version:012}", record)
    stray = [problem for problem in sites.host().check() if problem.kind == "stray"]
    assert [problem.site for problem in stray] == [LAST]
    assert "v-000000000001 and 1 more" in stray[0].message
    policies(sites.host(), 1)
    assert status_of(sites.host()).problem is None, "they are not read"


def test_compaction_leaves_a_register_that_is_swapped_as_it_is(sites, manifest, swapping):
    swapping.put(f"{PREFIX}v-000000000001", swapping.get(STATE))
    for _ in range(4):
        backup(manifest)
    assert manifest.compact(dry_run=True).records[LAST] == 0
    assert manifest.compact().records[LAST] == 0
    assert [row.name for row in swapping.list(PREFIX)] == [STATE, f"{PREFIX}v-000000000001"]
    assert status_of(sites.host()).lag == 0


def test_a_state_beside_a_chain_is_named(tmp_path):
    sites = MixedSites(tmp_path, 3, 1)
    sites.found()
    sites.stores()["site0"].put(STATE, sites.swapping[LAST].get(STATE))
    assert problems(sites.host()) == [("site0", "stray")]
    policies(sites.host(), 1)
    assert status_of(sites.host(), "site0").problem is None


def other_promise(sites, data, round_number):
    """A record that could have been swapped in for `data`."""
    place = place_at(sites)
    after = promise(place.decode(data), record_hash(data), Ballot(round_number, b"t" * 16), os.urandom(16))
    return place.encode(after)


def places_now(sites):
    config = sites.host().read().config
    return places_of(config, sites.keys.repository, sites.keys, Witness())


def place_at(sites, site=LAST):
    return places_now(sites)[site]


def test_two_records_that_claim_one_version_are_named(sites, manifest, swapping):
    """A store that let two swaps of one record through: the one that this host heard of is gone."""
    before = swapping.get(STATE)
    policies(manifest, 1)
    mine = place_at(sites).decode(swapping.get(STATE))
    swapping.put(STATE, other_promise(sites, other_promise(sites, before, 2), 3))
    assert place_at(sites).decode(swapping.get(STATE)).version == mine.version
    found = [problem for problem in sites.host().check() if problem.kind == "two-records"]
    assert [(problem.site, f"claim version {mine.version}" in problem.message) for problem in found] == [(LAST, True)]
    assert status_of(sites.host()).problem is not None, "its known state is gone, so it does not count"
    policies(sites.host(), 2)
    assert not problems(sites.host())


def test_a_record_built_on_another_one_than_this_host_saw_is_named(sites, manifest, swapping):
    before = swapping.get(STATE)
    policies(manifest, 1)
    third = other_promise(sites, other_promise(sites, other_promise(sites, before, 7), 8), 9)
    swapping.put(STATE, third)
    found = [problem for problem in sites.host().check() if problem.kind == "two-records"]
    assert [problem.site for problem in found] == [LAST]
    assert "built on another version" in found[0].message


def test_two_records_that_claim_one_version_of_a_chain_are_named(tmp_path):
    sites = MixedSites(tmp_path, 3, 1)
    policies(sites.found(), 1)
    directory = sites.root / "site0" / PREFIX
    newest = max(directory.iterdir())
    before = sorted(directory.iterdir())[-2].read_bytes()
    place = place_at(sites, "site0")
    newest.unlink()
    record = promise(place.decode(before), record_hash(before), Ballot(9, b"t" * 16), os.urandom(16))
    newest.write_bytes(place.encode(record))
    assert ("site0", "two-records") in problems(sites.host())


def test_a_committer_that_died_between_its_sites_is_no_fault(tmp_path):
    """One register has the last proposal, one has the chosen value, one lags: all differ, and nothing is wrong."""
    sites = MixedSites(tmp_path, 3, 3)
    sites.found()
    stores = sites.stores()
    del stores[LAST]
    policies(sites.host(sites=stores), 1)
    places, driver = places_now(sites), Driver(sites.stores(), MemoryState())
    chosen = driver.run(read_site(places["site0"])).record.value
    driver.run(change_site(places["site0"], None, accepting(Ballot(50, b"d" * 16), chosen)))
    records = [driver.run(read_site(place)).record for place in places.values()]
    assert [record.accepted.round for record in records] == [50, 2, 1]
    assert not problems(sites.host("stranger"))


def test_a_quorum_that_is_gone_is_named(sites, manifest, swapping):
    for name, store in sites.stores().items():
        if name != "site1":
            store.delete(STATE)
    if len(sites.swapping) == 1:
        shutil.rmtree(sites.root / "site0" / PREFIX)
    found = sites.host().check()
    assert ("", "no-quorum") in [(problem.site, problem.kind) for problem in found]
    assert "1 of 3 acceptors are sound (site1)" in found[-1].message
