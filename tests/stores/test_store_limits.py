"""Limits in virtual time: the average is the requested rate, for all threads, stores of a target and processes together."""

import pytest
from stalling import Scripted, VirtualTime
from three_sites import in_a_child

from drtool.errors import TargetOffline
from drtool.stores import Bucket, Guard, LimitedStore, MemoryStore, Rates
from drtool.stores.limits import BURST_S

MIB = 1 << 20


@pytest.fixture
def time():
    return VirtualTime()


@pytest.fixture
def bucket(time):
    made = Bucket(MIB, clock=time.clock, sleep=time.sleep)
    yield made
    made.close()


def test_uploads_average_to_the_rate(time, bucket):
    store, began = LimitedStore(MemoryStore(), bucket, None), time.now
    for number in range(10):
        store.put(f"x{number}", bytes(MIB))
    assert time.now - began == pytest.approx(9, abs=BURST_S)  # the tenth is still owed
    store.put("y", b"")
    assert time.now - began == pytest.approx(10, abs=BURST_S)


def test_downloads_cost_the_received_bytes_not_the_requested_ones(time, bucket):
    inner = MemoryStore()
    inner.put("x", bytes(MIB))
    store, began = LimitedStore(inner, None, bucket), time.now
    for _ in range(5):
        store.get("x")
        store.get("x", 0, 99 * MIB)
        store.get("x", MIB // 2, MIB)
    store.get("x", 0, 0)
    assert time.now - began == pytest.approx(5 * 2.5, abs=BURST_S)


def test_a_download_that_fails_costs_nothing(time, bucket):
    store, began = LimitedStore(Scripted(*[TargetOffline("no")] * 9), None, bucket), time.now
    for _ in range(9):
        with pytest.raises(TargetOffline):
            store.get("x", 0, MIB)
    assert time.now - began <= BURST_S


def test_time_in_which_nothing_moved_is_not_saved_up(time, bucket):
    store = LimitedStore(MemoryStore(), bucket, None)
    time.now += 3600
    began = time.now
    for number in range(4):
        store.put(f"x{number}", bytes(MIB))
    assert time.now - began >= 3 - BURST_S


def test_transfers_of_a_forked_process_count_for_all(time, bucket):
    store, began = LimitedStore(MemoryStore(), bucket, None), time.now
    assert in_a_child(lambda: store.put("x", bytes(5 * MIB))) == 0
    store.put("y", b"1")
    assert time.now - began == pytest.approx(5, abs=BURST_S)


def test_listings_deletions_and_registers_are_free(time, bucket):
    store = LimitedStore(MemoryStore("cas"), bucket, bucket)
    assert store.put_if_absent("x", bytes(9 * MIB))
    store.put("y", bytes(9 * MIB))
    assert [row.name for row in store.list()] == ["x", "y"]
    store.read_tagged("x")
    store.delete("x")
    assert time.slept == []


def test_the_stores_of_one_guard_share_its_limits(time):
    guard = Guard(Rates(upload_bytes_s=MIB), bucket=lambda rate: Bucket(rate, clock=time.clock, sleep=time.sleep))
    began = time.now
    for number in range(3):
        guard.objects(MemoryStore()).put(f"x{number}", bytes(MIB))
    guard.close()
    assert time.now - began == pytest.approx(2, abs=BURST_S)


def test_waiting_for_a_limit_does_not_count_as_hanging():
    """Limits are outside the watch: a wait longer than its time limit does not fail."""
    guard = Guard(Rates(upload_bytes_s=10 * MIB))
    store = guard.objects(MemoryStore())
    layers = []
    while hasattr(store, "inner"):
        layers.append(type(store).__name__)
        store = store.inner
    guard.close()
    assert layers == ["LimitedStore", "RetryingStore", "CircuitStore", "WatchedStore", "ReservingStore"]


def test_no_rate_means_no_limit_and_zero_is_refused():
    assert not isinstance(Guard().objects(MemoryStore()), LimitedStore)
    with pytest.raises(ValueError, match="more than 0"):
        Bucket(0)
