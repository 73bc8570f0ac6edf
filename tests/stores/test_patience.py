"""Bounded waiting for a server that stops answering, where no other can serve. Counted, not timed."""

from itertools import pairwise

import pytest
from stalling import VirtualTime

from drtool.errors import DrtoolError, StoreError, TargetOffline
from drtool.model import TargetName
from drtool.repository.reading import ObjectReader
from drtool.repository.targets import Targets
from drtool.repository.writing import Demand, Writer
from drtool.stores import Backoff, Circuit, Faults, FaultyStore, Guard, MemoryStore
from drtool.stores.patience import LONGEST_S, Patience

CLOUD, NEAR = TargetName("cloud/main"), TargetName("desk/main")
AWAY = TargetOffline("the server is busy")


class Flaky(MemoryStore):
    """A store that fails while `failures` is above zero, each call once."""

    def __init__(self, failures=0):
        super().__init__()
        self.failures, self.calls = failures, 0

    def _fail(self):
        self.calls += 1
        if self.failures:
            self.failures -= 1
            raise AWAY

    def put(self, name, data):
        self._fail()
        super().put(name, data)

    def get(self, name, start=0, length=None):
        self._fail()
        return super().get(name, start, length)


def targets_of(stores, time, limit_s=900.0):
    """Return opened targets with their guards. No store retries on its own."""
    targets = Targets({})
    for name, (store, near) in stores.items():
        guard = Guard(
            circuit=Circuit(clock=time.clock),
            backoff=Backoff(tries=1),
            patience=Patience(limit_s, clock=time.clock, sleep=time.sleep, draw=lambda: 1.0),
        )
        targets._guards[name] = guard
        targets._stores[name] = guard.objects(store)
        targets.specs[name] = near
    targets.near = lambda name: targets.specs[name]
    return targets


def demand(*names, sites=1):
    return Demand(preference=names, wanted_sites=sites, promised_sites=sites, minimum_sites=1)


@pytest.fixture
def time():
    return VirtualTime()


@pytest.fixture
def writer_of():
    writers = []

    def make(targets):
        writers.append(Writer(targets))
        return writers[-1]

    yield make
    for writer in writers:
        writer.close()


def test_a_write_waits_until_the_server_answers_again(time, writer_of):
    store = Flaky(failures=6)
    targets = targets_of({CLOUD: (store, False)}, time)
    told = []
    targets.tell = told.append
    assert writer_of(targets).put("packs/x", b"1", demand(CLOUD)) == [CLOUD]
    assert store.get("packs/x") == b"1"
    assert targets.failures == {}, "the next objects are stored there as well"
    assert told == [
        "waiting for a server that does not answer (limits.patience: 15 min): cloud/main: the server is busy"
    ]


def test_a_write_goes_to_another_site_at_once(time, writer_of):
    targets = targets_of({CLOUD: (Flaky(failures=99), False), NEAR: (Flaky(), True)}, time)
    assert writer_of(targets).put("packs/x", b"1", demand(CLOUD, NEAR)) == [NEAR]
    assert time.slept == []
    assert CLOUD in targets.failures


def test_a_server_that_is_gone_for_good_is_waited_for_once(time, writer_of):
    store = Flaky(failures=10**9)
    targets = targets_of({CLOUD: (store, False)}, time, limit_s=60.0)
    writer = writer_of(targets)
    for _ in range(3):
        with pytest.raises(StoreError, match="the server is busy"):
            writer.put("packs/x", b"1", demand(CLOUD))
    assert 60.0 <= sum(time.slept) <= 60.0 + LONGEST_S
    assert store.calls < 30


def test_a_directory_of_this_host_is_not_waited_for(time, writer_of):
    targets = targets_of({NEAR: (Flaky(failures=99), True)}, time)
    with pytest.raises(StoreError):
        writer_of(targets).put("packs/x", b"1", demand(NEAR))
    assert time.slept == []


def test_lasting_errors_are_not_waited_for(time, writer_of):
    full = FaultyStore(MemoryStore(), Faults(full_after_bytes=0))
    targets = targets_of({CLOUD: (full, False)}, time)
    with pytest.raises(StoreError, match="room"):
        writer_of(targets).put("packs/x", b"1", demand(CLOUD))
    assert time.slept == []


def test_a_read_waits_longer_than_a_write_and_gets_its_bytes(time):
    store = Flaky()
    store.put("packs/x", b"data")
    targets = targets_of({CLOUD: (store, False)}, time, limit_s=60.0)
    reader = ObjectReader(targets, keyring=None)
    store.failures = 12

    def read(target):
        return targets.store(target).get("packs/x")

    assert reader._first_good("packs/x", [CLOUD], bytes(32), read) == b"data"
    assert sum(time.slept) > 60.0
    assert reader.bad_copies == {}
    store.failures = 10**9
    began = time.now
    with pytest.raises(DrtoolError, match="no good copy"):
        reader._first_good("packs/x", [CLOUD], bytes(32), read)
    assert 240.0 <= time.now - began <= 240.0 + LONGEST_S


def test_each_outage_has_its_own_full_patience(time):
    patience = Patience(60.0, clock=time.clock, sleep=time.sleep, draw=lambda: 1.0)
    for _ in range(3):
        attempt = 0
        while patience.may_wait():
            patience.wait(attempt, "busy")
            attempt += 1
        assert attempt > 5
        patience.over()


def test_waits_grow_to_a_bound():
    waits = []
    patience = Patience(1e9, clock=lambda: 1.0, sleep=waits.append, draw=lambda: 1.0)
    for attempt in range(12):
        patience.wait(attempt, "busy")
    assert all(one <= two for one, two in pairwise(waits))
    assert waits[0] < 1.0
    assert waits[-1] == LONGEST_S


def test_without_patience_nothing_waits():
    assert not Patience(0.0).may_wait()


def test_failing_objects_do_not_keep_a_voter_from_voting():
    guard = Guard(backoff=Backoff(tries=1), circuit=Circuit(failing_s=0.0))
    medium = Flaky(failures=20)
    objects, register = guard.objects(medium), guard.register(medium)
    for _ in range(10):
        with pytest.raises(TargetOffline):
            objects.get("packs/x")
    assert guard.circuit.open
    assert register.put_if_absent("r/v-1", b"vote")
