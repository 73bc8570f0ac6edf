"""What threads and processes forked from one another share: a lock that ends with its process, and a bell that wakes them."""

import os
import select
from contextlib import suppress
from fcntl import LOCK_EX, LOCK_UN, lockf
from threading import Lock
from typing import Self


class ForkedLock:
    """Made before the fork. A process that dies while it holds the lock lets go of it (fcntl(2): record locks)."""

    def __init__(self) -> None:
        self._threads = Lock()
        self._processes = _nameless_file()

    def __enter__(self) -> Self:
        self._threads.acquire()
        lockf(self._processes, LOCK_EX)
        return self

    def __exit__(self, *_error: object) -> None:
        lockf(self._processes, LOCK_UN)
        self._threads.release()

    def close(self) -> None:
        """Give back this process's end, which other processes may go on using."""
        descriptor, self._processes = self._processes, -1
        if descriptor >= 0:
            os.close(descriptor)


class Bell:
    """Wakes as many of those that wait as it is rung for. A ring without a waiter wakes the next one at once.

    A wake-up is a hint: a waiter looks again whether it may go on.
    """

    def __init__(self) -> None:
        self._heard, self._rung = os.pipe()
        for end in (self._heard, self._rung):
            os.set_blocking(end, False)

    def wait(self, timeout_s: float) -> None:
        """Return when the bell rings, or after `timeout_s`."""
        waiting = select.poll()  # select(2) knows no descriptor above 1023
        waiting.register(self._heard, select.POLLIN)
        if waiting.poll(timeout_s * 1000):
            with suppress(BlockingIOError):  # another waiter was faster
                os.read(self._heard, 1)

    def ring(self, count: int) -> None:
        """Wake `count` of those that wait."""
        if count > 0:
            with suppress(BlockingIOError):  # thousands of rings that no waiter heard yet are enough
                os.write(self._rung, bytes(count))

    def close(self) -> None:
        """Give back this process's ends, which other processes may go on using."""
        ends, self._heard, self._rung = (self._heard, self._rung), -1, -1
        for end in ends:
            if end >= 0:
                os.close(end)


def _nameless_file() -> int:
    """Return a file that only this process and its children know."""
    if hasattr(os, "memfd_create"):
        return os.memfd_create("drtool-limit")
    import tempfile

    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())
