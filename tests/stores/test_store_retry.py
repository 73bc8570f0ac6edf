"""Retries: only where they can help, only of repeatable calls, with bounded number and time."""

import random

import pytest
from stalling import Scripted, VirtualTime

from drtool.errors import (
    ObjectMissing,
    StoreError,
    TargetFull,
    TargetHung,
    TargetOffline,
    TargetReadOnly,
    TargetResting,
    TargetUnanswered,
)
from drtool.stores import Backoff, MemoryStore, RetryingStore
from drtool.stores.passing import PassingStore
from drtool.stores.retry import RetryingRegister

AWAY = TargetOffline("away")


def retrying(inner, draw=lambda: 0.5, **backoff):
    time = VirtualTime()
    return RetryingStore(inner, Backoff(**backoff), clock=time.clock, sleep=time.sleep, draw=draw), time


def calls_on(store):
    return {
        "put": lambda: store.put("x", b"new"),
        "get": lambda: store.get("x"),
        "stat": lambda: store.stat("x"),
        "list": lambda: list(store.list()),
        "delete": lambda: store.delete("x"),
        "free_bytes": store.free_bytes,
        "put_if_absent": lambda: store.put_if_absent("y", b"new"),
        "read_tagged": lambda: store.read_tagged("x"),
    }


@pytest.mark.parametrize("call", calls_on(MemoryStore()))
def test_a_call_that_fails_twice_transiently_succeeds_the_third_time(call):
    inner = Scripted(AWAY, AWAY)
    inner.inner.put("x", b"old")
    store, time = retrying(inner)
    calls_on(store)[call]()
    assert [name for name, *_ in inner.calls] == [call] * 3
    assert time.slept == [0.1, 0.2]


def test_a_compare_and_swap_is_sent_once():
    inner = Scripted(AWAY)
    store, time = retrying(inner)
    with pytest.raises(TargetOffline):
        store.compare_and_swap("x", b"new", None)
    assert (len(inner.calls), time.slept) == (1, [])


@pytest.mark.parametrize(
    "error",
    [
        ObjectMissing("no"), TargetFull("no"), TargetReadOnly("no"), StoreError("no"), TargetResting("no"),
        TargetHung("it may still take effect"),
    ],
    ids=lambda error: type(error).__name__,
)  # fmt: skip
@pytest.mark.parametrize("call", calls_on(MemoryStore()))
def test_a_lasting_error_is_not_retried(call, error):
    inner = Scripted(error)
    store, time = retrying(inner)
    with pytest.raises(type(error)) as caught:
        calls_on(store)[call]()
    assert caught.value is error
    assert (len(inner.calls), time.slept) == (1, [])


def test_tries_are_bounded_and_the_last_error_is_raised():
    errors = [TargetOffline(str(number)) for number in range(9)]
    inner = Scripted(*errors)
    store, _ = retrying(inner, tries=4)
    with pytest.raises(TargetOffline, match=r"^3$"):
        store.get("x")
    assert len(inner.calls) == 4


def test_time_is_bounded_for_any_number_of_tries():
    inner = Scripted(*[AWAY] * 99)
    store, time = retrying(inner, draw=lambda: 0.999, tries=99, total_s=10.0)
    began = time.now
    with pytest.raises(TargetOffline):
        store.get("x")
    assert time.now - began <= 10.0
    assert len(inner.calls) > 3


def test_jitter_is_full_and_the_same_for_the_same_seed():
    def pauses(seed):
        store, time = retrying(Scripted(*[AWAY] * 7), random.Random(seed).random, tries=7, total_s=99)
        with pytest.raises(TargetOffline):
            store.get("x")
        return time.slept

    assert pauses(1) == pauses(1) != pauses(2)
    for number, pause in enumerate(pauses(3)):
        assert 0 <= pause < min(4.0, 0.2 * 2**number)


def test_a_conditional_put_that_finds_its_own_bytes_has_succeeded():
    store, _ = retrying(Scripted(AWAY, after=True))
    assert store.put_if_absent("x", b"mine")
    assert store.get("x") == b"mine"


def test_a_conditional_put_that_finds_other_bytes_has_failed():
    inner = Scripted(AWAY)
    inner.inner.put("x", b"theirs")
    store, _ = retrying(inner)
    assert not store.put_if_absent("x", b"mine")


def test_the_same_bytes_from_before_the_first_try_are_not_ours():
    inner = Scripted()
    inner.inner.put("x", b"same")
    store, _ = retrying(inner)
    assert not store.put_if_absent("x", b"same")


class Breaking(PassingStore):
    """A store with listings that fail after `rows` names, `times` times."""

    def __init__(self, inner, rows, times):
        super().__init__(inner)
        self.rows, self.times, self.asked = rows, times, []

    def list(self, prefix="", start_after=""):
        self.asked.append(start_after)
        for number, row in enumerate(super().list(prefix, start_after)):
            if self.times and number == self.rows:
                self.times -= 1
                raise TargetOffline("the line broke")
            yield row


def test_a_listing_goes_on_where_it_broke_off_and_progress_is_a_fresh_start():
    inner = MemoryStore()
    names = [f"x/{number:02}" for number in range(40)]
    for name in names:
        inner.put(name, b"")
    broken = Breaking(inner, 2, 12)
    store, _ = retrying(broken, tries=2)
    assert [row.name for row in store.list("x/")] == names
    assert broken.asked[:3] == ["", "x/01", "x/03"]
    stuck = Breaking(inner, 0, 12)
    store, _ = retrying(stuck, tries=3)
    with pytest.raises(TargetOffline):
        list(store.list("x/"))
    assert len(stuck.asked) == 3


def register(inner):
    time = VirtualTime()
    return RetryingRegister(inner, Backoff(tries=3), clock=time.clock, sleep=time.sleep, draw=lambda: 0.5)


WRITES = {
    "put_if_absent": lambda store: store.put_if_absent("x", b"new"),
    "compare_and_swap": lambda store: store.compare_and_swap("x", b"new", None),
}


@pytest.mark.parametrize("write", WRITES)
def test_a_register_s_write_without_an_answer_is_sent_once_more(write):
    inner = Scripted(TargetUnanswered("503"))
    assert WRITES[write](register(inner))
    assert len(inner.calls) == 2
    assert inner.inner.get("x") == b"new"


@pytest.mark.parametrize("write", WRITES)
@pytest.mark.parametrize("second", [TargetUnanswered("503 again"), TargetOffline("never sent"), StoreError("403")])
def test_a_register_s_write_stays_unknown_after_any_failure_of_the_second_one(write, second):
    inner = Scripted(TargetUnanswered("503"), second, TargetUnanswered("a third"))
    with pytest.raises(TargetUnanswered, match=r"^503$"):
        WRITES[write](register(inner))
    assert len(inner.calls) == 2


@pytest.mark.parametrize("write", WRITES)
def test_a_register_s_write_that_took_effect_without_an_answer_stays_unknown(write):
    """The second one is refused because the first took effect: the protocol reads its own bytes."""
    with pytest.raises(TargetUnanswered, match="lost"):
        WRITES[write](register(Scripted(TargetUnanswered("lost"), after=True)))


@pytest.mark.parametrize("write", WRITES)
def test_a_register_s_write_that_was_never_sent_is_not_repeated(write):
    inner = Scripted(AWAY)
    with pytest.raises(TargetOffline):
        WRITES[write](register(inner))
    assert len(inner.calls) == 1
