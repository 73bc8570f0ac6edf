"""Prefetching of the answers to the requests of the last opening of a target, all in one round trip.

Invariants
    Only requests are remembered, never answers. An answer is used once, for exactly the request that it belongs to, until the
    store is settled or first written through. No answer is therefore older than the opening of the store by this command.
    A request that is not repeated costs one round trip, and is forgotten.
    When `settle` returns, none of its threads is left, except for those that hang.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import chain, islice
from threading import Lock
from typing import Any, Literal, TypeVar

from msgspec import Struct

from drtool.model import ObjectInfo
from drtool.stores.passing import PassingStore
from drtool.stores.ports import Buffer, Store, Tagged
from drtool.stores.watch import Errand

T = TypeVar("T")

QUESTIONS_MAX = 24
ROWS_MAX = 4096
ANSWER_TIMEOUT_S = 20.0
SETTLE_S = 1.0


class Question(Struct, frozen=True):
    """One read call. `after` is the name that a listing starts after; `length` is that of a `get`."""

    kind: Literal["get", "list", "tagged"]
    name: str
    start: int = 0
    length: int | None = None
    after: str = ""


class RehearsedStore(PassingStore):
    """A store that sends its usual requests in advance."""

    def __init__(self, inner: Store, questions: Sequence[Question]) -> None:
        super().__init__(inner)
        self._lock = Lock()
        self._settled = False
        self._asked: dict[Question, None] = {}
        self._answers = {question: Errand(partial(self._ask, question)) for question in questions[:QUESTIONS_MAX]}
        self._errands = [*self._answers.values()]

    def settle(self) -> list[Question]:
        """End the prefetching, and return the requests that were made, for the next time. The store then passes calls on."""
        self._settled = True
        ends_at = time.monotonic() + SETTLE_S
        self._drop()
        for errand in self._errands:
            errand.wait(ends_at - time.monotonic())
        with self._lock:
            return list(self._asked)[:QUESTIONS_MAX]

    def get(self, name: str, start: int = 0, length: int | None = None) -> bytes:
        return self._answer(Question("get", name, start, length), lambda: self.inner.get(name, start, length))

    def read_tagged(self, name: str) -> Tagged | None:
        return self._answer(Question("tagged", name), lambda: self._register().read_tagged(name))

    def list(self, prefix: str = "", start_after: str = "") -> Iterator[ObjectInfo]:
        def rest(last: str) -> Iterator[ObjectInfo]:
            return self.inner.list(prefix, last)

        question = Question("list", prefix, after=start_after)
        rows: list[ObjectInfo] | Iterator[ObjectInfo] = self._answer(question, lambda: rest(start_after))
        if isinstance(rows, list) and len(rows) == ROWS_MAX:
            return chain(rows, rest(rows[-1].name))
        return iter(rows)

    def put(self, name: str, data: Buffer) -> None:
        self._drop()
        self.inner.put(name, data)

    def put_if_absent(self, name: str, data: bytes) -> bool:
        self._drop()
        return self._register().put_if_absent(name, data)

    def compare_and_swap(self, name: str, data: bytes, expected_tag: str | None) -> str | None:
        self._drop()
        return self._register().compare_and_swap(name, data, expected_tag)

    def delete(self, name: str) -> None:
        self._drop()
        self.inner.delete(name)

    def _drop(self) -> None:
        """Drop all prefetched answers."""
        with self._lock:
            self._answers.clear()

    def _answer(self, question: Question, ask: Callable[[], T]) -> T:
        if self._settled:
            return ask()
        with self._lock:
            self._asked.setdefault(question)
            errand = self._answers.pop(question, None)
        return ask() if errand is None else errand.result(ANSWER_TIMEOUT_S, question.name)

    def _ask(self, question: Question) -> Any:  # noqa: ANN401 - what `inner` answers to that question
        match question.kind:
            case "get":
                return self.inner.get(question.name, question.start, question.length)
            case "tagged":
                return self._register().read_tagged(question.name)
            case "list":
                return list(islice(self.inner.list(question.name, question.after), ROWS_MAX))
