"""A lock that threads and processes forked from one another share, and that ends with its process."""

import os
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


def _nameless_file() -> int:
    """Return a file that only this process and its children know."""
    if hasattr(os, "memfd_create"):
        return os.memfd_create("drtool-limit")
    import tempfile

    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())
