"""A circuit breaker: a dead target costs seconds, not minutes, because after a few consecutive failures it gets a rest.

Closed: calls pass. It opens after `failures_max` consecutive transient failures over at least `failing_s` (many threads may
hit one short fault), or after one call that hung. While it is open, calls fail at once with the reason that opened it. After
a rest, one call is let through: an answer closes the circuit, and a failure opens it again. The first rest is `first_rest_s`,
because most faults pass within seconds. Each failure after a rest doubles the next rest, up to `rest_s`. A call that hung
causes a rest of `rest_s` at once.

A server that names a time (Retry-After) is not called before that time by any process, but at most `HELD_MAX_S` are waited.

Invariants
    A call that fails at once was not sent: `TargetResting` and `TargetHeld` are kinds of `TargetOffline`, with a known outcome.
    Any reply of the medium is an answer, including "there is no such object", "full" and "read-only".
    Forked processes share, in shared memory, until when the circuit is open and until when the server is left alone. The
    count of failures and the trial call belong to each process.
"""

import time
from collections.abc import Callable, Iterator
from mmap import mmap
from threading import Lock
from typing import TypeVar

from drtool.errors import StoreError, TargetHeld, TargetHung, TargetResting
from drtool.model import ObjectInfo
from drtool.stores.passing import PassingStore
from drtool.stores.ports import Buffer, Store, Tagged

T = TypeVar("T")

FAILURES_MAX = 5
FAILING_S = 0.5
FIRST_REST_S = 1.0
REST_S = 30.0
HELD_MAX_S = 60.0
"""The longest Retry-After that is honoured. Longer waits are left to callers that see the whole outage."""
_BUSY_ELSEWHERE = "it asked another process of this command to retry later"
_ELSEWHERE = "another process of this command found that it does not answer"


class Circuit:
    """The state of one target's circuit. Shared by all stores of that target and all threads."""

    def __init__(
        self,
        *,
        failures_max: int = FAILURES_MAX,
        failing_s: float = FAILING_S,
        rest_s: float = REST_S,
        first_rest_s: float = FIRST_REST_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._failures_max, self._failing_s, self._rest_s, self._clock = failures_max, failing_s, rest_s, clock
        self._first_rest_s = self._next_rest_s = min(first_rest_s, rest_s)
        self._lock = Lock()
        # when calls may resume after failures, and after a Retry-After (0: now); anonymous, so forks share it
        self._shared = memoryview(mmap(-1, 16)).cast("d")
        self._failures, self._first_failed_at = 0, 0.0
        self._probing = False
        self._reason = ""

    @property
    def open(self) -> bool:
        """Whether calls fail at once."""
        return self._shared[0] > 0.0

    def admit(self) -> None:
        """Let a call through, or raise TargetResting. The caller must report the outcome."""
        if not self._shared[0] and not self._shared[1]:
            return
        with self._lock:
            now = self._clock()
            if self._shared[1] > now:
                raise TargetHeld(self._reason or _BUSY_ELSEWHERE, retry_after_s=self._shared[1] - now)
            self._shared[1] = 0.0
            if not self._shared[0]:
                return
            if self._shared[0] <= now and not self._probing:
                self._probing = True
                return
            raise TargetResting(self._reason or _ELSEWHERE)

    def answered(self) -> None:
        """Report any answer of the medium."""
        if not self._failures and not self._shared[0]:
            return
        with self._lock:
            self._failures, self._probing, self._shared[0] = 0, False, 0.0
            self._next_rest_s = self._first_rest_s

    def failed(self, error: StoreError) -> None:
        """Report that the medium did not answer, or is temporarily unable to."""
        with self._lock:
            now = self._clock()
            if error.retry_after_s > 0:
                self._reason = error.message
                self._shared[1] = max(self._shared[1], now + min(error.retry_after_s, HELD_MAX_S))
            self._failures += 1
            if self._failures == 1:
                self._first_failed_at = now
            lasting = self._failures >= self._failures_max and now - self._first_failed_at >= self._failing_s
            if lasting or self._probing or isinstance(error, TargetHung):
                rest_s = self._rest_s if isinstance(error, TargetHung) else self._next_rest_s
                self._next_rest_s = min(2 * rest_s, self._rest_s)
                self._reason, self._shared[0] = error.message, now + rest_s
            self._probing = False

    def gave_up(self) -> None:
        """Report that the call was interrupted before an answer."""
        with self._lock:
            self._probing = False


class CircuitStore(PassingStore):
    """A store that is not called while its circuit is open."""

    def __init__(self, inner: Store, circuit: Circuit) -> None:
        super().__init__(inner)
        self.circuit = circuit

    def put(self, name: str, data: Buffer) -> None:
        self._through(lambda: self.inner.put(name, data))

    def get(self, name: str, start: int = 0, length: int | None = None) -> bytes:
        return self._through(lambda: self.inner.get(name, start, length))

    def stat(self, name: str) -> int:
        return self._through(lambda: self.inner.stat(name))

    def list(self, prefix: str = "", start_after: str = "") -> Iterator[ObjectInfo]:
        rows = iter(self.inner.list(prefix, start_after))
        first = self._through(lambda: next(rows, None))
        if first is None:
            return
        yield first
        try:
            yield from rows
        except StoreError as error:
            self._note(error)
            raise

    def delete(self, name: str) -> None:
        self._through(lambda: self.inner.delete(name))

    def free_bytes(self) -> int | None:
        return self._through(self.inner.free_bytes)

    def try_room(self, size_bytes: int) -> None:
        self._through(lambda: self.inner.try_room(size_bytes))

    def put_if_absent(self, name: str, data: bytes) -> bool:
        return self._through(lambda: self._register().put_if_absent(name, data))

    def read_tagged(self, name: str) -> Tagged | None:
        return self._through(lambda: self._register().read_tagged(name))

    def compare_and_swap(self, name: str, data: bytes, expected_tag: str | None) -> str | None:
        return self._through(lambda: self._register().compare_and_swap(name, data, expected_tag))

    def _through(self, call: Callable[[], T]) -> T:
        self.circuit.admit()
        try:
            result = call()
        except StoreError as error:
            self._note(error)
            raise
        except BaseException:
            self.circuit.gave_up()
            raise
        self.circuit.answered()
        return result

    def _note(self, error: StoreError) -> None:
        if error.transient:
            self.circuit.failed(error)
        else:
            self.circuit.answered()
