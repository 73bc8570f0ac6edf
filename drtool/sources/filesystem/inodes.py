"""Access to one inode, whatever happens to its name meanwhile."""

import errno
import os
from collections.abc import Callable
from typing import Self, TypeVar

from drtool.sources.filesystem.reading import open_leased
from drtool.sources.filesystem.without_proc import HAS_PROC, in_directory
from drtool.trees import Entry, FileType

PATH = getattr(os, "O_PATH", os.O_RDONLY) | os.O_NOFOLLOW | os.O_CLOEXEC
OLD = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY
_Answer = TypeVar("_Answer")


class Inode:
    """Access to one inode's metadata: a descriptor where it has flags, else `/proc/self/fd/N` of an O_PATH one.

    Without /proc it is reached by its name.
    """

    __slots__ = ("_dir_fd", "_fd", "_name", "_way")

    def __init__(self, dir_fd: int, entry: Entry) -> None:
        self._dir_fd, self._name = dir_fd, entry.name
        self._fd = os.open(entry.name, PATH, dir_fd=dir_fd)
        if os.fstat(self._fd).st_mode >> 12 != entry.type:
            os.close(self._fd)
            raise OSError(errno.ESTALE, "it was replaced meanwhile", entry.name)
        self._way: int | str = through(self._fd)
        if entry.type in (FileType.FILE, FileType.DIRECTORY):
            self._reopen()

    def _reopen(self) -> None:
        try:
            fd = self._open()
        except PermissionError:
            return  # not readable for us: everything but its flags can be set without opening it
        same = os.path.sameopenfile(fd, self._fd)
        os.close(self._fd)
        self._fd = self._way = fd
        if not same:
            os.close(fd)
            raise OSError(errno.ESTALE, "it was replaced meanwhile", self._name)

    def _open(self) -> int:
        if HAS_PROC:
            return open_leased(through(self._fd), OLD & ~os.O_NOFOLLOW)
        return open_leased(self._name, OLD, self._dir_fd)

    @property
    def is_closed(self) -> bool:
        """Whether we may not open it, so that its flags cannot be reached."""
        return not isinstance(self._way, int)

    def reach(self, action: Callable[[int | str | bytes], _Answer]) -> _Answer:
        """Return what `action` returns for the way to the inode."""
        if HAS_PROC or isinstance(self._way, int):
            return action(self._way)
        return in_directory(self._dir_fd, lambda: action(self._name))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._fd)


def through(handle: int) -> str:
    return f"/proc/self/fd/{handle}"


def unlock_directory(handle: int, mode: int) -> None:
    if HAS_PROC:
        os.chmod(through(handle), mode)
    else:
        in_directory(handle, lambda: os.chmod(".", mode))
