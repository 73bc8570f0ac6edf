"""Retries with full jitter, a bounded number of tries, and a bounded time.

Invariants
    Only errors of a class with `transient` are retried, and never `TargetHung`, because its first attempt may still be running.
    No try begins before the time that the server named (Retry-After).
    Only idempotent calls are repeated. A conditional put that finds its own bytes has succeeded by an attempt with a lost
    answer, so the bytes must be unique to the caller. A compare and swap is tried once: one with a lost answer may have taken
    effect and been overtaken since.

Reads of the manifest's registers are retried. A conditional write without an answer is sent once more: it takes effect at most
once, however often it is delivered. Only a success of the second one counts. Otherwise the outcome stays unknown, and the
protocol above resolves it by reading again, with its own waits.

Source: Brooker, "Exponential backoff and jitter" (AWS Architecture Blog, 2015).
"""

import random
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import TypeVar

from msgspec import Struct

from drtool.errors import StoreError, TargetHung, TargetUnanswered
from drtool.model import ObjectInfo
from drtool.stores.passing import PassingStore
from drtool.stores.ports import Buffer, Store, Tagged

T = TypeVar("T")


class Backoff(Struct, frozen=True, kw_only=True):
    """The number and time of tries. The wait before try n+1 is drawn from 0 to `first_s` * 2^(n-1), at most `longest_s`."""

    tries: int = 5
    total_s: float = 10.0
    """No wait begins that would end later than this after the first try."""
    first_s: float = 0.2
    longest_s: float = 4.0

    def pause_s(self, failed_tries: int, lot: float) -> float:
        """Return the wait after so many failures. `lot` is drawn from [0, 1)."""
        return float(lot * min(self.longest_s, self.first_s * 2 ** (failed_tries - 1)))


class RetryingStore(PassingStore):
    """A store with retries. Time and randomness are passed in."""

    def __init__(
        self,
        inner: Store,
        backoff: Backoff | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
        draw: Callable[[], float] = random.random,
    ) -> None:
        super().__init__(inner)
        self.backoff = backoff or Backoff()
        self._clock, self._sleep, self._draw = clock, sleep, draw

    def put(self, name: str, data: Buffer) -> None:
        self._again(lambda: self.inner.put(name, data))

    def get(self, name: str, start: int = 0, length: int | None = None) -> bytes:
        return self._again(lambda: self.inner.get(name, start, length))

    def stat(self, name: str) -> int:
        return self._again(lambda: self.inner.stat(name))

    def list(self, prefix: str = "", start_after: str = "") -> Iterator[ObjectInfo]:
        """List, and after an error continue after the last name. Each name that arrives resets the tries."""
        after, tries = start_after, self._tries()
        while True:
            try:
                for row in self.inner.list(prefix, after):
                    after, tries = row.name, self._tries()
                    yield row
            except StoreError as error:
                tries.failed(error)
            else:
                return

    def delete(self, name: str) -> None:
        self._again(lambda: self.inner.delete(name))

    def free_bytes(self) -> int | None:
        return self._again(self.inner.free_bytes)

    def try_room(self, size_bytes: int) -> None:
        self._again(lambda: self.inner.try_room(size_bytes))

    def put_if_absent(self, name: str, data: bytes) -> bool:
        register, tries = self._register(), self._tries()
        while True:
            try:
                made = register.put_if_absent(name, data)
            except StoreError as error:
                tries.failed(error)
            else:
                return made or (tries.failures > 0 and self._holds(name, data))

    def read_tagged(self, name: str) -> Tagged | None:
        register = self._register()
        return self._again(lambda: register.read_tagged(name))

    def _holds(self, name: str, data: bytes) -> bool:
        found = self.read_tagged(name)
        return found is not None and found.data == data

    def _again(self, call: Callable[[], T]) -> T:
        tries = self._tries()
        while True:
            try:
                return call()
            except StoreError as error:
                tries.failed(error)

    def _tries(self) -> "_Tries":
        return _Tries(self.backoff, self._clock, self._sleep, self._draw)


class RetryingRegister(RetryingStore):
    """A register with retries. Reads are retried. An unanswered conditional write is sent once more, for its success alone."""

    put = PassingStore.put
    delete = PassingStore.delete

    def put_if_absent(self, name: str, data: bytes) -> bool:
        return self._twice(lambda: self._register().put_if_absent(name, data), bool)

    def compare_and_swap(self, name: str, data: bytes, expected_tag: str | None) -> str | None:
        return self._twice(lambda: self._register().compare_and_swap(name, data, expected_tag), _is_tag)

    def _twice(self, call: Callable[[], T], succeeded: Callable[[T], bool]) -> T:
        """Call up to twice. The first call may still take effect, so a refusal or failure of the second leaves it unknown."""
        tries = self._tries()
        try:
            return call()
        except TargetUnanswered as error:
            tries.failed(error)
            with suppress(StoreError):
                result = call()
                if succeeded(result):
                    return result
            raise


def _is_tag(result: str | None) -> bool:
    return result is not None


class _Tries:
    """The tries of one call."""

    def __init__(
        self,
        backoff: Backoff,
        clock: Callable[[], float],
        sleep: Callable[[float], None],
        draw: Callable[[], float],
    ) -> None:
        self._backoff, self._clock, self._sleep, self._draw = backoff, clock, sleep, draw
        self._began = clock()
        self.failures = 0

    def failed(self, error: StoreError) -> None:
        """Wait for the next try, or raise `error` if there is none."""
        self.failures += 1
        if not error.transient or isinstance(error, TargetHung) or self.failures >= self._backoff.tries:
            raise error
        pause_s = error.retry_after_s + self._backoff.pause_s(self.failures, self._draw())
        if self._clock() + pause_s - self._began > self._backoff.total_s:
            raise error
        self._sleep(pause_s)
