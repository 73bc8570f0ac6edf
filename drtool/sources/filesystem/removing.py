"""Removing what stands in the way, at any depth, without ever leaving the tree that was named.

Invariants
    No symlink is followed and no path is resolved: every step is relative to a descriptor, and the way back up is taken
    only if `..` still is the directory we came from.
    However deep the tree, two descriptors are open at a time.
"""

import errno
import os
import stat
from collections.abc import Callable

from drtool.sources.filesystem.attributes import LOCKING_FLAGS, flags_of, set_flags
from drtool.sources.filesystem.reading import open_directory, open_leased

_PEEK = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


def remove(dir_fd: int, name: bytes, *, recursive: bool) -> int:
    """Remove `name`, whatever it is, and return how many names went with it; an absent one is 0.

    OSError ENOTEMPTY if it is a directory with something in it, unless `recursive`.
    """
    try:
        found = os.stat(name, dir_fd=dir_fd, follow_symlinks=False)
    except FileNotFoundError:
        return 0
    if not stat.S_ISDIR(found.st_mode):
        _unlink(dir_fd, name)
        return 1
    emptied = _walk(dir_fd, name, removing=True) if recursive else 0
    _rmdir(dir_fd, name)
    return emptied + 1


def count(dir_fd: int, name: bytes) -> int:
    """How many names `remove` would take away, found by looking only."""
    try:
        found = os.stat(name, dir_fd=dir_fd, follow_symlinks=False)
    except FileNotFoundError:
        return 0
    return 1 + (_walk(dir_fd, name, removing=False) if stat.S_ISDIR(found.st_mode) else 0)


def unlock(fd: int) -> bool:
    """Take immutable and append-only off; whether there was anything to take off."""
    flags = flags_of(fd)
    if not flags & LOCKING_FLAGS:
        return False
    set_flags(fd, flags & ~LOCKING_FLAGS)
    return True


def _walk(dir_fd: int, name: bytes, *, removing: bool) -> int:
    """Go through everything below `name`, depth first, with one open directory and the names of the way down."""
    at = open_directory(dir_fd, name)
    way: list[tuple[tuple[int, int], list[bytes], bytes]] = [(_identity(dir_fd), [], name)]
    done = 0
    try:
        pending, files = _listing(at, removing=removing)
        done += files
        while True:
            if pending:
                child = pending.pop()
                below = open_directory(at, child)
                way.append((_identity(at), pending, child))
                os.close(at)
                at = below
                pending, files = _listing(at, removing=removing)
                done += files
                continue
            came_from, pending, child = way.pop()
            if not way:
                return done
            up = open_directory(at, b"..")
            os.close(at)
            at = up
            if _identity(at) != came_from:
                raise OSError(errno.ESTALE, "the directory was moved while it was being removed", name)
            if removing:
                _rmdir(at, child)
            done += 1
    finally:
        os.close(at)


def _listing(fd: int, *, removing: bool) -> tuple[list[bytes], int]:
    """The subdirectories of an open directory, after its other names were removed or counted."""
    if removing:
        unlock(fd)
    directories = []
    files = 0
    with os.scandir(fd) as listing:
        items = [(os.fsencode(item.name), item.is_dir(follow_symlinks=False)) for item in listing]
    for name, is_directory in items:
        if is_directory:
            directories.append(name)
            continue
        if removing:
            _unlink(fd, name)
        files += 1
    return directories, files


def _identity(fd: int) -> tuple[int, int]:
    found = os.fstat(fd)
    return found.st_dev, found.st_ino


def _unlink(dir_fd: int, name: bytes) -> None:
    retry_unlocked(dir_fd, name, lambda: os.unlink(name, dir_fd=dir_fd))


def _rmdir(dir_fd: int, name: bytes) -> None:
    retry_unlocked(dir_fd, name, lambda: os.rmdir(name, dir_fd=dir_fd))


def retry_unlocked(dir_fd: int, name: bytes, action: Callable[[], None]) -> None:
    """Do it, and if that is not permitted because `name` or its directory is immutable, unlock them and do it again.

    The directory gets its flags back, and so does a file that has other names: they may lie outside of what is restored.
    """
    try:
        action()
    except PermissionError as error:
        flags = flags_of(dir_fd)
        refused = None if unlock(dir_fd) else error
        try:
            _retry(dir_fd, name, action, refused)
        finally:
            if flags & LOCKING_FLAGS:
                set_flags(dir_fd, flags)


def _retry(dir_fd: int, name: bytes, action: Callable[[], None], refused: PermissionError | None) -> None:
    try:
        fd = open_leased(name, _PEEK, dir_fd)
    except OSError:
        if refused:
            raise refused from None  # a symlink or device has no flags that can be reached
        action()
        return
    try:
        _do_unlocked(fd, action, refused)
    finally:
        os.close(fd)


def _do_unlocked(fd: int, action: Callable[[], None], refused: PermissionError | None) -> None:
    flags = flags_of(fd)
    if not unlock(fd) and refused:
        raise refused
    try:
        action()
    finally:
        if flags & LOCKING_FLAGS and os.fstat(fd).st_nlink:
            set_flags(fd, flags)
