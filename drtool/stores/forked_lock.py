"""Primitives shared by threads and forked processes: a lock that ends with its process, and a bell that wakes waiters."""

import os
import select
from contextlib import suppress
from fcntl import LOCK_EX, LOCK_UN, lockf
from threading import Lock
from typing import Self


class ForkedLock:
    """A lock created before the fork. If a process dies holding it, the kernel releases it (fcntl(2): record locks)."""

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
        """Close this process's descriptor. Other processes may continue to use theirs."""
        descriptor, self._processes = self._processes, -1
        if descriptor >= 0:
            os.close(descriptor)


class Bell:
    """A bell that wakes one waiter per ring. A ring without a waiter wakes the next one at once.

    A wake-up is a hint: a waiter must check again whether it may continue.
    """

    def __init__(self) -> None:
        self._heard, self._rung = os.pipe()
        for end in (self._heard, self._rung):
            os.set_blocking(end, False)

    def wait(self, timeout_s: float) -> None:
        """Return when the bell rings, or after `timeout_s`."""
        waiting = select.poll()  # select(2) accepts no descriptor above 1023
        waiting.register(self._heard, select.POLLIN)
        if waiting.poll(timeout_s * 1000):
            with suppress(BlockingIOError):  # another waiter took the ring
                os.read(self._heard, 1)

    def ring(self, count: int) -> None:
        """Wake `count` waiters."""
        if count > 0:
            with suppress(BlockingIOError):  # the pipe holds thousands of unread rings, which is enough
                os.write(self._rung, bytes(count))

    def close(self) -> None:
        """Close this process's descriptors. Other processes may continue to use theirs."""
        ends, self._heard, self._rung = (self._heard, self._rung), -1, -1
        for end in ends:
            if end >= 0:
                os.close(end)


def _nameless_file() -> int:
    """Return an unnamed file, accessible only to this process and its children."""
    if hasattr(os, "memfd_create"):
        return os.memfd_create("drtool-limit")
    import tempfile

    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())
