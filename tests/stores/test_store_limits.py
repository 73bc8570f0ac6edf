"""Limits in virtual time: the average is what was asked for, together over threads, targets' stores and processes."""

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
    assert time.now - began == pytest.approx(9, abs=BURST_S)  # the tenth is owed
    store.put("y", b"")
    assert time.now - began == pytest.approx(10, abs=BURST_S)


def test_downloads_cost_what_came_not_what_was_asked_for(time, bucket):
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


def test_what_a_forked_process_moves_is_owed_by_all(time, bucket):
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


def test_waiting_for_a_limit_is_no_hanging():
    """Limits are outside the watch: a wait that is longer than its patience fails nothing."""
    guard = Guard(Rates(upload_bytes_s=10 * MIB))
    store = guard.objects(MemoryStore())
    layers = []
    while hasattr(store, "inner"):
        layers.append(type(store).__name__)
        store = store.inner
    guard.close()
    assert layers == ["LimitedStore", "RetryingStore", "CircuitStore", "WatchedStore", "ReservingStore"]


def test_no_rate_is_no_limit_and_zero_is_refused():
    assert not isinstance(Guard().objects(MemoryStore()), LimitedStore)
    with pytest.raises(ValueError, match="more than 0"):
        Bucket(0)
