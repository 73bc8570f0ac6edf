"""Removal of an arbitrary directory tree. Restored systems have read-only directories, mounts and very long names.

Invariants
    Nothing outside the tree is touched: no symbolic link is followed, no mount point is crossed, and each way up is checked
    to be the way that led down. Only two descriptors are open at a time, at any depth.
    Anything that cannot be removed is reported with the reason; the rest is removed.
"""

import errno
import os
import stat
from pathlib import Path

from msgspec import Struct

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_ENTER = _DIRECTORY | os.O_NOFOLLOW
_PEEK = getattr(os, "O_PATH", os.O_RDONLY) | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class Leftover(Struct, frozen=True, kw_only=True):
    """An entry that could not be removed."""

    path: str
    reason: str


def remove_tree(path: Path) -> tuple[Leftover, ...]:
    """Remove a directory and everything below it, and return the leftovers. A missing directory counts as removed."""
    try:
        parent = os.open(path.parent, _DIRECTORY)
    except FileNotFoundError:
        return ()
    except OSError as error:
        return (Leftover(path=str(path), reason=_reason(error)),)
    try:
        return _Removal(path, parent).run()
    finally:
        os.close(parent)


class _Level:
    """A directory on the way down: its name in its parent, its identity, and its remaining entries."""

    def __init__(self, name: str, descriptor: int) -> None:
        self.name = name
        self.identity = _identity(descriptor)
        self.pending = os.listdir(descriptor)
        self.spared = False
        """Something in it is left, so it stays as well."""


class _Removal:
    def __init__(self, path: Path, parent: int) -> None:
        self._path, self._parent = path, parent
        self._levels: list[_Level] = []
        self._left: list[Leftover] = []
        self._place = (0, "")

    def run(self) -> tuple[Leftover, ...]:
        here = self._enter(self._parent, self._path.name)
        while self._levels:
            assert here is not None
            level = self._levels[-1]
            here = self._next(here, level.pending.pop()) if level.pending else self._leave(here)
        return tuple(self._left)

    def _next(self, here: int, name: str) -> int:
        """Remove an entry, or enter it if it is a directory. Return the descriptor of the current directory."""
        if self._unlinked(here, name):
            return here
        below = self._enter(here, name)
        if below is None:
            return here
        os.close(here)
        return below

    def _unlinked(self, here: int, name: str) -> bool:
        """Unlink an entry, and record a failure. Return False for a directory."""
        try:
            os.unlink(name, dir_fd=here)
        except FileNotFoundError:
            pass
        except OSError as error:
            if _is_directory(here, name):
                return False
            self._spare(name, _reason(error))
        return True

    def _enter(self, above: int, name: str) -> int | None:
        """Open a directory and make its entries removable. None if it must not be entered, or is gone."""
        try:
            here = _opened(above, name)
        except FileNotFoundError:
            return None
        except OSError as error:
            reason = "it is not a directory" if error.errno in {errno.ENOTDIR, errno.ELOOP} else _reason(error)
            self._spare(name, reason)
            return None
        try:
            place = _place(here)
            if self._levels and place != self._place:
                raise OSError(errno.EXDEV, "something is mounted there")
            _make_writable(here)
            level = _Level(name, here)
        except OSError as error:
            os.close(here)
            self._spare(name, _reason(error))
            return None
        self._place = place
        self._levels.append(level)
        return here

    def _leave(self, here: int) -> int | None:
        """Go up from an emptied directory and remove it. None at the top, or if the way up leads elsewhere."""
        level = self._levels.pop()
        if not self._levels:
            os.close(here)
            self._rmdir(self._parent, level)
            return None
        above = os.open("..", _DIRECTORY, dir_fd=here)
        os.close(here)
        if _identity(above) != self._levels[-1].identity:
            os.close(above)
            self._spare(level.name, "its parent was moved during the removal")
            self._levels.clear()
            return None
        self._rmdir(above, level)
        return above

    def _rmdir(self, above: int, level: _Level) -> None:
        try:
            os.rmdir(level.name, dir_fd=above)
        except FileNotFoundError:
            pass
        except OSError as error:
            if level.spared:  # its contents are already reported
                self._spare_level()
            else:
                self._spare(level.name, _reason(error))

    def _spare(self, name: str, reason: str) -> None:
        names = [level.name for level in self._levels]
        path = self._path.joinpath(*names[1:], name) if names else self._path
        self._left.append(Leftover(path=str(path), reason=reason))
        self._spare_level()

    def _spare_level(self) -> None:
        if self._levels:
            self._levels[-1].spared = True


def _opened(above: int, name: str) -> int:
    try:
        return os.open(name, _ENTER, dir_fd=above)
    except PermissionError:
        # the owner may enter it once it is readable; O_PATH ensures that no link is followed meanwhile
        peek = os.open(name, _PEEK, dir_fd=above)
        try:
            os.chmod(f"/proc/self/fd/{peek}", stat.S_IRWXU)
        finally:
            os.close(peek)
        return os.open(name, _ENTER, dir_fd=above)


def _make_writable(directory: int) -> None:
    if os.fstat(directory).st_mode & stat.S_IRWXU != stat.S_IRWXU:
        os.fchmod(directory, stat.S_IRWXU)


def _is_directory(above: int, name: str) -> bool:
    try:
        return stat.S_ISDIR(os.stat(name, dir_fd=above, follow_symlinks=False).st_mode)
    except OSError:
        return False


def _identity(descriptor: int) -> tuple[int, int]:
    status = os.fstat(descriptor)
    return status.st_dev, status.st_ino


def _place(descriptor: int) -> tuple[int, str]:
    """Return the mount of an open directory. A bind mount of the same file system is a different one."""
    try:
        with open(f"/proc/self/fdinfo/{descriptor}", encoding="ascii") as file:
            mount = next((line for line in file if line.startswith("mnt_id:")), "")
    except FileNotFoundError:  # not Linux
        mount = ""
    return os.fstat(descriptor).st_dev, mount


def _reason(error: OSError) -> str:
    if error.errno == errno.EPERM:
        return "not permitted (made immutable? see lsattr)"
    if error.errno == errno.EBUSY:
        return "something is mounted there"
    return error.strerror or str(error)
