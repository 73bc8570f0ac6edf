"""Prefetching of the usual requests: the same answers, fewer round trips, and never an outdated answer."""

from threading import Barrier, Event

import pytest
from msgspec import json

from drtool.errors import ObjectMissing
from drtool.repository.rehearsals import Rehearsals
from drtool.stores import MemoryStore
from drtool.stores.passing import PassingStore
from drtool.stores.rehearsal import ROWS_MAX, Question, RehearsedStore

QUESTIONS = [Question("get", "drtool.json", 0, 10), Question("tagged", "manifest/state"), Question("list", "keys/")]


class Counting(PassingStore):
    """A store that counts reads. With `together`, reads return only once that many are running."""

    def __init__(self, inner, together=1) -> None:
        super().__init__(inner)
        self.calls, self.barrier = [], Barrier(together)

    def _met(self, *call):
        self.calls.append(call)
        self.barrier.wait(10)

    def get(self, name, start=0, length=None):
        self._met("get", name)
        return super().get(name, start, length)

    def read_tagged(self, name):
        self._met("tagged", name)
        return super().read_tagged(name)

    def list(self, prefix="", start_after=""):
        self._met("list", prefix)
        return super().list(prefix, start_after)


@pytest.fixture
def memory():
    store = MemoryStore("cas")
    store.put("drtool.json", b"marker")
    store.put("keys/a", b"slot")
    store.compare_and_swap("manifest/state", b"one", None)
    return store


def ask_all(store):
    return store.get("drtool.json", 0, 10), store.read_tagged("manifest/state").data, list(store.list("keys/"))


def test_all_questions_are_under_way_at_once_and_answered_once(memory):
    counting = Counting(memory, together=3)  # in sequence, the first would wait for ever
    store = RehearsedStore(counting, QUESTIONS)
    assert ask_all(store) == ask_all(memory)
    assert len(counting.calls) == 3
    counting.barrier = Barrier(1)
    assert ask_all(store) == ask_all(memory)
    assert len(counting.calls) == 6
    assert store.settle() == QUESTIONS


def test_no_prefetched_answer_is_used_after_a_write(memory):
    store = RehearsedStore(memory, QUESTIONS)
    tag = memory.read_tagged("manifest/state").tag
    assert store.compare_and_swap("manifest/state", b"two", tag) is not None
    assert store.read_tagged("manifest/state").data == b"two"
    store = RehearsedStore(memory, QUESTIONS)
    store.put("keys/b", b"slot")
    assert [row.name for row in store.list("keys/")] == ["keys/a", "keys/b"]
    store = RehearsedStore(memory, QUESTIONS)
    store.delete("drtool.json")
    with pytest.raises(ObjectMissing):
        store.get("drtool.json", 0, 10)


def test_no_prefetched_answer_is_used_after_settling(memory):
    store = RehearsedStore(memory, QUESTIONS)
    store.settle()
    memory.put("keys/b", b"slot")
    assert [row.name for row in store.list("keys/")] == ["keys/a", "keys/b"]
    assert store.settle() == []


def test_another_question_is_asked(memory):
    store = RehearsedStore(memory, QUESTIONS)
    assert store.get("drtool.json", 1, 2) == b"ar"
    assert [row.name for row in store.list("keys/", "keys/a")] == []


def test_a_failure_is_raised_once_and_then_retried(memory):
    store = RehearsedStore(memory, [Question("get", "keys/b")])
    memory_has_it = store.settle  # the request was sent before this
    with pytest.raises(ObjectMissing):
        store.get("keys/b")
    memory.put("keys/b", b"slot")
    assert store.get("keys/b") == b"slot"
    assert memory_has_it() == [Question("get", "keys/b")]


def test_long_listings_go_on_where_the_answer_ends(memory):
    for number in range(ROWS_MAX + 3):
        memory.put(f"manifest/obj/{number:05}", b"")
    store = RehearsedStore(memory, [Question("list", "manifest/obj/")])
    assert len(list(store.list("manifest/obj/"))) == ROWS_MAX + 3


def test_hanging_calls_are_not_waited_for_at_the_end(memory, monkeypatch):
    monkeypatch.setattr("drtool.stores.rehearsal.SETTLE_S", 0.1)
    gate = Event()

    class Hanging(PassingStore):
        def get(self, name, start=0, length=None):
            gate.wait(20)
            return super().get(name, start, length)

    store = RehearsedStore(Hanging(memory), QUESTIONS)
    assert store.settle() == []
    gate.set()


def test_questions_are_kept_for_each_place_and_nonsense_is_not_asked(tmp_path):
    kept = Rehearsals(tmp_path / "openings")
    kept.keep("s3://a/b", QUESTIONS)
    assert kept.of("s3://a/b") == QUESTIONS
    assert kept.of("s3://a/c") == []
    (file,) = (tmp_path / "openings").iterdir()
    file.write_bytes(json.encode([Question("get", "../x"), Question("get", "packs/aa/bb"), Question("get", "ok", -1)]))
    assert kept.of("s3://a/b") == []
    file.write_bytes(b"{")
    assert kept.of("s3://a/b") == []
    Rehearsals(None).keep("s3://a/b", QUESTIONS)
