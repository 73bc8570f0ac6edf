"""One dead target costs seconds, not minutes: after a few failures in a row it is not asked for a while.

Closed: calls pass. After `failures_max` transient failures in a row, over `failing_s` at least (many threads may meet one
short fault), or one call that hung, it opens: calls fail at once, with the reason that opened it. After a rest one call is
let through. Its answer closes the circuit, its failure opens it again. The first rest is `first_rest_s`, since most faults pass
within seconds; each failure after a rest doubles the next one, up to `rest_s`, which is also the rest after a call that hung.

A server that names a time (Retry-After) is not asked before, by any process, `HELD_MAX_S` at most.

Invariants
    What fails at once was not sent: `TargetResting` and `TargetHeld` are a `TargetOffline`, whose outcome is known.
    An answer is any that the medium gave: "there is no such object", "full" and "read-only" are answers.
    Processes forked from one another share when the circuit is open, and until when the server is left alone, through two
    numbers in shared memory; the count of failures and the call that tries again are each process's own.
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
"""A server that asks for more is asked again all the same: waiting longer is for those who see the whole outage."""
_BUSY_ELSEWHERE = "it asked another process of this command to come back later"
_ELSEWHERE = "another process of this command found that it does not answer"


class Circuit:
    """Whether one target is worth asking. Shared by the stores of that target, from any thread."""

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
        # when it may be asked again after failures, and after a server's Retry-After; 0: now. Anonymous, so forks share it
        self._shared = memoryview(mmap(-1, 16)).cast("d")
        self._failures, self._first_failed_at = 0, 0.0
        self._probing = False
        self._reason = ""

    @property
    def open(self) -> bool:
        """Whether calls fail at once."""
        return self._shared[0] > 0.0

    def admit(self) -> None:
        """Lets the caller through, who must say what came of it; TargetResting if it is not to ask."""
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
        """The medium answered, whatever it said."""
        if not self._failures and not self._shared[0]:
            return
        with self._lock:
            self._failures, self._probing, self._shared[0] = 0, False, 0.0
            self._next_rest_s = self._first_rest_s

    def failed(self, error: StoreError) -> None:
        """The medium did not answer, or said that it cannot at the moment."""
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
        """The caller was interrupted before there was an answer."""
        with self._lock:
            self._probing = False


class CircuitStore(PassingStore):
    """A store that is not asked while its circuit is open."""

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
