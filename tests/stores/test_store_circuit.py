"""A dead target is called a few times, then left alone, then called again: counted in calls."""

import pytest
from stalling import Scripted, VirtualTime
from three_sites import in_a_child

from drtool.errors import ObjectMissing, TargetBusy, TargetFull, TargetHeld, TargetHung, TargetOffline, TargetResting
from drtool.stores import Backoff, Circuit, CircuitStore, MemoryStore, RetryingStore
from drtool.stores.circuit import HELD_MAX_S

AWAY = TargetOffline("/mnt/nas cannot be reached")


def guarded(inner, **options):
    time = VirtualTime()
    circuit = Circuit(**{"failures_max": 3, "failing_s": 0.0, "rest_s": 30.0, "clock": time.clock, **options})
    return CircuitStore(inner, circuit), time


def fails(store, kind=TargetOffline):
    with pytest.raises(kind) as caught:
        store.get("x")
    return caught.value


def test_after_three_failures_no_call_is_sent_and_the_reason_is_given():
    inner = Scripted(*[AWAY] * 99)
    store, _ = guarded(inner)
    for _ in range(3):
        assert fails(store) is AWAY
    for _ in range(50):
        assert "/mnt/nas cannot be reached" in fails(store, TargetResting).message
    assert len(inner.calls) == 3


def test_an_answer_in_between_resets_the_count():
    inner = Scripted(AWAY, AWAY, None, AWAY, AWAY, ObjectMissing("no"), AWAY, AWAY, TargetFull("no"), AWAY, AWAY)
    inner.inner.put("x", b"")
    store, _ = guarded(inner)
    for expected in [TargetOffline] * 2 + [None] + [TargetOffline] * 2 + [ObjectMissing] + [TargetOffline] * 2:
        if expected is None:
            store.get("x")
        else:
            assert type(fails(store, expected)) is expected
    assert type(fails(store, TargetFull)) is TargetFull
    assert not store.circuit.open


def test_one_short_fault_that_many_threads_meet_at_once_does_not_open_it():
    store, time = guarded(Scripted(*[AWAY] * 20), failing_s=0.5)
    for _ in range(10):
        assert fails(store) is AWAY
    time.now += 0.6
    assert fails(store) is AWAY
    fails(store, TargetResting)


def test_one_hanging_call_opens_it():
    store, _ = guarded(Scripted(TargetHung("no answer")))
    fails(store, TargetHung)
    assert "no answer" in fails(store, TargetResting).message


def test_after_the_rest_one_call_is_sent_and_its_failure_means_another_rest():
    inner = Scripted(*[AWAY] * 99)
    store, time = guarded(inner)
    for _ in range(3):
        fails(store)
    time.now += 30.1
    assert fails(store) is AWAY
    assert len(inner.calls) == 4
    fails(store, TargetResting)
    time.now += 30.1
    inner.errors.clear()
    inner.inner.put("x", b"back")
    assert store.get("x") == b"back"
    assert not store.circuit.open


def test_during_the_trial_call_the_others_fail_at_once():
    store, time = guarded(Scripted(*[AWAY] * 3))
    for _ in range(3):
        fails(store)
    time.now += 30.1
    store.circuit.admit()
    assert "cannot be reached" in fails(store, TargetResting).message
    store.circuit.gave_up()
    with pytest.raises(ObjectMissing):
        store.get("x")


def test_an_interrupted_call_is_no_failure_and_gives_its_try_back():
    class Interrupted(MemoryStore):
        def get(self, *words):
            raise KeyboardInterrupt

    store, _ = guarded(Interrupted())
    for _ in range(9):
        with pytest.raises(KeyboardInterrupt):
            store.get("x")
    assert not store.circuit.open


def test_tries_above_it_end_when_it_opens():
    time = VirtualTime()
    inner = Scripted(*[AWAY] * 99)
    circuit = Circuit(failures_max=3, failing_s=0.0, clock=time.clock)
    store = RetryingStore(
        CircuitStore(inner, circuit), Backoff(tries=9), clock=time.clock, sleep=time.sleep, draw=lambda: 0.5
    )
    fails(store, TargetResting)
    for _ in range(100):
        fails(store, TargetResting)
    assert len(inner.calls) == 3
    assert sum(time.slept) < 1


def test_a_listing_that_breaks_off_counts():
    class Breaking(MemoryStore):
        def list(self, *words):
            yield from super().list(*words)
            raise TargetOffline("broke")

    inner = Breaking()
    inner.put("x", b"")
    store, _ = guarded(inner, failures_max=1)
    with pytest.raises(TargetOffline, match="broke"):
        list(store.list())
    with pytest.raises(TargetResting):
        list(store.list())


def test_forked_processes_share_an_open_circuit_and_its_recovery():
    inner = Scripted(AWAY)
    inner.inner.put("x", b"")
    store, time = guarded(inner, failures_max=1)
    assert in_a_child(lambda: fails(store)) == 0
    assert "another process" in fails(store, TargetResting).message
    assert inner.calls == []  # the child called its own copy
    time.now += 31
    inner.errors.clear()
    assert in_a_child(lambda: store.get("x")) == 0
    assert store.get("x") == b""
    assert not store.circuit.open


def test_retry_after_is_honoured_by_every_process():
    inner = Scripted(TargetBusy("slow down", retry_after_s=7.0))
    inner.inner.put("x", b"")
    store, time = guarded(inner)
    fails(store, TargetBusy)
    time.now += 6.0
    held = fails(store, TargetHeld)
    assert (held.message, held.retry_after_s) == ("slow down", pytest.approx(1.0))
    assert in_a_child(lambda: fails(store, TargetHeld)) == 0
    assert len(inner.calls) == 1
    time.now += 1.0
    assert store.get("x") == b""


def test_a_retry_after_of_a_day_is_limited_to_a_minute():
    store, time = guarded(Scripted(TargetBusy("slow down", retry_after_s=86400.0)))
    fails(store, TargetBusy)
    assert fails(store, TargetHeld).retry_after_s == pytest.approx(HELD_MAX_S)
    time.now += HELD_MAX_S
    with pytest.raises(ObjectMissing):
        store.get("x")


def test_a_request_under_way_does_not_end_the_time_that_the_server_named():
    store, _ = guarded(Scripted())
    store.circuit.failed(TargetBusy("slow down", retry_after_s=7.0))
    store.circuit.answered()
    fails(store, TargetHeld)


def test_tries_wait_for_the_time_that_the_server_named():
    inner = Scripted(TargetBusy("slow down", retry_after_s=5.0))
    inner.inner.put("x", b"there")
    store, time = guarded(inner)
    tried = RetryingStore(store, Backoff(), clock=time.clock, sleep=time.sleep, draw=lambda: 0.5)
    assert tried.get("x") == b"there"
    assert time.slept == [pytest.approx(5.1)]
    assert len(inner.calls) == 2
