"""Time limits for calls that may hang for ever, such as those to a hanging mount, which no signal interrupts.

Such a call runs on a thread of its own. The caller stops waiting in time. The thread continues as a daemon, so that it does not
keep the process from ending.

Invariants
    `TargetHung` is not a definite failure: the request may still take effect at any time. Bytes that were being written must
    not be changed after it, because the thread may still read them.
    When a call has returned, its thread is gone, so the process may fork.
"""

import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import Generic, TypeVar

from msgspec import Struct

from drtool.errors import INTERRUPTS, TargetHung
from drtool.model import ObjectInfo
from drtool.stores.passing import PassingStore
from drtool.stores.ports import Buffer, Store, Tagged

T = TypeVar("T")

INTERRUPTED_GRACE_S = 5.0
ROWS_AT_ONCE = 1024
_HINT = "if a mount hangs, mount it again, or treat its disk or server as lost; the other targets are used meanwhile"


class CallLimits(Struct, frozen=True, kw_only=True):
    """The time limits of answers: a constant, and more for the transferred bytes.

    Only for media that do not notice a call without progress, such as mounts of network file systems.
    """

    call_s: float = 20.0
    slowest_bytes_s: float = 256 * 1024
    slowest_line_bytes_s: float = 2 * 1024
    """The rate for servers and objects so small that their progress is invisible, because transfers may share a slow line."""

    def for_bytes(self, size_bytes: int, *, of_server: bool = False) -> float:
        """Return the time limit in seconds of a call that transfers so many bytes."""
        return self.call_s + size_bytes / (self.slowest_line_bytes_s if of_server else self.slowest_bytes_s)


class Errand(Generic[T]):
    """A call on a thread of its own, started at once."""

    def __init__(self, call: Callable[[], T]) -> None:
        self._call = call
        self._result: T | None = None
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="drtool-watched", daemon=True)
        self._thread.start()

    def result(self, timeout_s: float, what: str) -> T:
        """Return or raise the result of the call. Raises TargetHung if there is none in time."""
        try:
            self._thread.join(max(0.0, timeout_s))
        except BaseException:  # on Ctrl-C a running write may briefly continue, to remove its temporary file
            self._thread.join(INTERRUPTED_GRACE_S)
            raise
        if self._thread.is_alive():
            raise TargetHung(f"{what} did not answer within {timeout_s:.3g} s", hint=_HINT)
        if self._error is not None:
            raise self._error
        return self._result  # type: ignore[return-value] # it is a T once the thread ended without an error

    def wait(self, timeout_s: float) -> None:
        """Wait until it is over, for any result, at most so long."""
        self._thread.join(max(0.0, timeout_s))

    @property
    def running(self) -> bool:
        """Whether it is still running."""
        return self._thread.is_alive()

    def _run(self) -> None:
        # signals must go to the main thread, which runs the Python handlers and could otherwise sleep on
        signal.pthread_sigmask(signal.SIG_BLOCK, INTERRUPTS)
        try:
            self._result = self._call()
        except BaseException as error:  # noqa: BLE001 - passed to the waiting thread, which raises it
            self._error = error


class WatchedStore(PassingStore):
    """A store with a time limit for every call."""

    def __init__(self, inner: Store, limits: CallLimits | None = None) -> None:
        super().__init__(inner)
        self.limits = limits or CallLimits()
        self._hung = False

    def put(self, name: str, data: Buffer) -> None:
        if self._is_long(memoryview(data).nbytes):
            self.inner.put(name, data)
        else:
            self._watched(lambda: self.inner.put(name, data), name, memoryview(data).nbytes)

    def get(self, name: str, start: int = 0, length: int | None = None) -> bytes:
        if self._is_long(UNKNOWN_BYTES if length is None else length):
            return self.inner.get(name, start, length)
        expected_bytes = UNKNOWN_BYTES if length is None else length
        return self._watched(lambda: self.inner.get(name, start, length), name, expected_bytes)

    def stat(self, name: str) -> int:
        return self._watched(lambda: self.inner.stat(name), name)

    def list(self, prefix: str = "", start_after: str = "") -> Iterator[ObjectInfo]:
        rows = iter(self.inner.list(prefix, start_after))
        while page := self._watched(lambda: list(islice(rows, ROWS_AT_ONCE)), prefix or "its listing"):
            yield from page

    def delete(self, name: str) -> None:
        self._watched(lambda: self.inner.delete(name), name)

    def free_bytes(self) -> int | None:
        return self._watched(self.inner.free_bytes, "its free space")

    def try_room(self, size_bytes: int) -> None:
        self._watched(lambda: self.inner.try_room(size_bytes), "its free space")

    def sweep(self, directories: Sequence[str], older_than_s: float) -> int | None:
        return self._watched(lambda: self.inner.sweep(directories, older_than_s), "its temporary files")

    def put_if_absent(self, name: str, data: bytes) -> bool:
        return self._watched(lambda: self._register().put_if_absent(name, data), name, len(data))

    def read_tagged(self, name: str) -> Tagged | None:
        return self._watched(lambda: self._register().read_tagged(name), name)

    def compare_and_swap(self, name: str, data: bytes, expected_tag: str | None) -> str | None:
        return self._watched(lambda: self._register().compare_and_swap(name, data, expected_tag), name, len(data))

    def close(self) -> None:
        """Close the inner store, unless a call hangs: its thread may still use the resources."""
        if not self._hung:
            self.inner.close()

    def _is_long(self, size_bytes: int) -> bool:
        """Return whether the call may take long on a slow line, at a medium that ends calls without progress."""
        return self.ends_when_silent and size_bytes > LONG_BYTES

    def _watched(self, call: Callable[[], T], name: str, size_bytes: int = 0) -> T:
        try:
            return Errand(call).result(self.limits.for_bytes(size_bytes, of_server=self.ends_when_silent), name)
        except TargetHung:
            self._hung = True
            raise


LONG_BYTES = 64 << 10
UNKNOWN_BYTES = 20 << 20
"""The assumed size of a whole object: the largest pack, and a margin."""
