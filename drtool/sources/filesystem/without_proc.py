"""System calls by name in an open directory, for systems without /proc: rescue systems and chroots.

Calls on extended attributes take no directory descriptor. With /proc, `/proc/self/fd/N` leads to what a descriptor is of. Without
it, a thread whose working directory is its own changes there, and the call takes the bare name.
"""

import ctypes
import os
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import TypeVar

HAS_PROC = os.path.isdir("/proc/self/fd")
_CLONE_FS = 0x200
_Answer = TypeVar("_Answer")


def in_directory(fd: int, action: Callable[[], _Answer]) -> _Answer:
    """Return what `action` returns while the working directory is the one that `fd` is of. No other thread is concerned."""

    def act() -> _Answer:
        os.fchdir(fd)
        try:
            return action()
        finally:
            os.chdir("/")  # no directory is kept busy

    return _thread(os.getpid()).submit(act).result()


@cache
def _thread(_: int) -> ThreadPoolExecutor:
    """Return this process's thread: a fork leaves threads behind."""
    return ThreadPoolExecutor(1, "own-directory", _leave_common_directory)


def _leave_common_directory() -> None:
    if sys.platform != "linux":
        raise OSError("threads cannot have working directories of their own here")
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(_CLONE_FS) != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
