"""What a target was asked when it was opened last, asked all at once: one round trip in place of one for each question.

Invariants
    What is remembered are questions, never answers. An answer is given once, to exactly the question that it belongs to, until
    the store is settled or first written through: so none is older than the opening of the store by the command that asks.
    A question that nobody repeats costs one request, and is forgotten.
    When `settle` returned, no thread of this is left, but for those that hang.
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
    """One call that reads. `after`: of a listing, the name to start after; `length`: of a `get`."""

    kind: Literal["get", "list", "tagged"]
    name: str
    start: int = 0
    length: int | None = None
    after: str = ""


class RehearsedStore(PassingStore):
    """A store that was asked the usual questions before anybody asks them."""

    def __init__(self, inner: Store, questions: Sequence[Question]) -> None:
        super().__init__(inner)
        self._lock = Lock()
        self._settled = False
        self._asked: dict[Question, None] = {}
        self._answers = {question: Errand(partial(self._ask, question)) for question in questions[:QUESTIONS_MAX]}
        self._errands = [*self._answers.values()]

    def settle(self) -> list[Question]:
        """Ends it; the questions that were asked, for the next time. Afterwards the store is like any other."""
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
        """No answer from before is given any more."""
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
