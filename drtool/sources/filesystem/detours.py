"""Symbolic links on the way to what was backed up, and whether a restore in place may go through them.

Invariants
    Only a link that stood there when the snapshot was taken is gone through, and only if it still leads to the same place: to the
    very directory of that time, or by the same words and through no other link.
    What a link led to when the restore began is what it leads to at each later step, or that step fails.
    A link that is not gone through is never replaced by a directory either.
"""

import errno
import os
import stat
from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import NamedTuple, TypeVar

from drtool.sources.filesystem.reading import open_directory, open_passage, open_top
from drtool.trees import Entry, FileType

Names = tuple[bytes, ...]
_Value = TypeVar("_Value")
_ANYWHERE = "it led elsewhere when it was backed up"


class Detour(NamedTuple):
    """Where a link leads: a directory, or the name of a file in that directory."""

    identity: tuple[int, int]
    file: bytes = b""
    missing: bytes = b""
    """The words of a link that stood there and is gone: it can be made again."""


class Detours:
    """The links of one destination, by the names that lead to them from its top; and why others are not gone through."""

    __slots__ = ("refused", "ways")

    def __init__(self, ways: Mapping[Names, Detour] = {}, refused: Mapping[Names, str] = {}) -> None:
        self.ways = ways
        self.refused = refused

    def __bool__(self) -> bool:
        return bool(self.ways or self.refused)

    def __contains__(self, names: Names) -> bool:
        return names in self.ways or names in self.refused

    def below(self, above: Names) -> "Detours":
        """Return those below a directory, by the names from there."""
        return Detours(_below(self.ways, above), _below(self.refused, above))


def plan_detours(followed: Iterable[tuple[Names, Entry]]) -> Detours:
    """Look at the places, absolute and in the order of their depth, of entries that a backup may have reached through a link."""
    ways: dict[Names, Detour] = {}
    refused: dict[Names, str] = {}
    detours = Detours(ways, refused)
    top = open_top()
    try:
        for names, entry in followed:
            if entry.type not in (FileType.DIRECTORY, FileType.FILE):
                continue
            with suppress(OSError):  # what is above it is not there, or another link is in the way: the restore says so
                folder = descend(top, names[:-1], detours)
                _judge(folder, names, entry, ways, refused)
    finally:
        os.close(top)
    return detours


def _judge(folder: int, names: Names, entry: Entry, ways: dict[Names, Detour], refused: dict[Names, str]) -> None:
    try:
        detour = _detour(folder, names[-1], entry)
        if detour is not None:
            ways[names] = detour
    except OSError as error:
        refused[names] = f"it is a symbolic link, and {error.strerror}"
    finally:
        os.close(folder)


def descend(fd: int, names: Names, detours: Detours) -> int:
    """A descriptor of a directory further down that exists. No symlink on the way is followed, but for the detours."""
    fd = os.dup(fd)
    for number, name in enumerate(names, start=1):
        detour = detours.ways.get(names[:number]) if detours.ways else None
        try:
            below = _step(fd, name, detour, last=number == len(names))
        finally:
            os.close(fd)
        fd = below
    return fd


def make_step(fd: int, name: bytes, detour: Detour | None) -> bool:
    """Make what leads on if nothing is there: a symbolic link that was there, or a directory. Whether that is a new directory."""
    if detour is not None and detour.missing:
        make_link(fd, name, detour)
        return False
    try:
        os.mkdir(name, 0o700, dir_fd=fd)
    except FileExistsError:
        return False
    return True


def make_link(fd: int, name: bytes, detour: Detour) -> bool:
    """Make a missing link again. Returns whether it was missing."""
    try:
        os.symlink(detour.missing, name, dir_fd=fd)
    except FileExistsError:
        return False
    return True


def open_behind(folder: int, name: bytes, detour: Detour) -> int:
    """A descriptor of the directory that holds the file to which the link `name` leads."""
    target = detour.missing or os.readlink(name, dir_fd=folder)
    below = open_directory(folder, _directory_of(target), follow=True)
    if _identity(os.fstat(below)) != detour.identity or target.rpartition(b"/")[2] != detour.file:
        os.close(below)
        raise OSError(errno.ESTALE, "the symbolic link leads elsewhere by now", name)
    return below


def _directory_of(target: bytes) -> bytes:
    directory = target.rpartition(b"/")[0]
    return directory or (b"/" if target.startswith(b"/") else b".")


def _step(fd: int, name: bytes, detour: Detour | None, *, last: bool) -> int:
    follow = detour is not None
    name = (detour.missing if detour is not None else b"") or name
    try:
        below = open_directory(fd, name, follow=follow) if last else open_passage(fd, name, follow=follow)
    except PermissionError:
        if not last:
            raise
        below = open_passage(fd, name, follow=follow)
    if detour is not None and _identity(os.fstat(below)) != detour.identity:
        os.close(below)
        raise OSError(errno.ESTALE, "the symbolic link leads elsewhere by now", name)
    return below


def _detour(folder: int, name: bytes, entry: Entry) -> Detour | None:
    """Return where a link may be gone through to; None if none stands there. OSError, with the reason, if it may not."""
    try:
        found = os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return _missing(folder, entry) if entry.link_target else None
    if not stat.S_ISLNK(found.st_mode):
        return None
    target = os.readlink(name, dir_fd=folder)
    if entry.type == FileType.FILE:
        return _file_detour(folder, target, entry) if entry.link_target else None
    if entry.link_target and target != entry.link_target:
        raise OSError(errno.ELOOP, _ANYWHERE)
    identity = _identity_of(folder, target)
    if not entry.link_target:
        if identity == (entry.device, entry.inode):  # as roots of two disks may have, one mounted after the other
            raise OSError(errno.ELOOP, "no link is recorded there")
        return None  # a directory stood there
    if identity == (entry.device, entry.inode):
        return Detour(identity)
    return Detour(_check_plain(folder, target, identity))


def _missing(folder: int, entry: Entry) -> Detour | None:
    """Return where a link would lead that is gone; None if that is no place to go through to."""
    try:
        if entry.type == FileType.FILE:
            return _file_detour(folder, entry.link_target, entry)._replace(missing=entry.link_target)
        identity = _identity_of(folder, entry.link_target)
        if identity != (entry.device, entry.inode):
            _check_plain(folder, entry.link_target, identity)
        return Detour(identity, missing=entry.link_target)
    except OSError:
        return None


def _file_detour(folder: int, target: bytes, entry: Entry) -> Detour:
    if target != entry.link_target:
        raise OSError(errno.ELOOP, _ANYWHERE)
    directory, file = _directory_of(target), target.rpartition(b"/")[2]
    if file in (b"", b".", b".."):
        raise OSError(errno.ELOOP, "it leads to a directory")
    identity = _check_plain(folder, directory, _identity_of(folder, directory))
    at = open_passage(folder, directory, follow=True)
    try:
        if stat.S_ISLNK(os.stat(file, dir_fd=at, follow_symlinks=False).st_mode):
            raise OSError(errno.ELOOP, "it leads to another symbolic link")
    except FileNotFoundError:
        pass  # it is made there
    finally:
        os.close(at)
    return Detour(identity, file)


def _check_plain(folder: int, target: bytes, identity: tuple[int, int]) -> tuple[int, int]:
    """Return the identity if the words lead to it through directories alone."""
    at = open_top() if target.startswith(b"/") else os.dup(folder)
    try:
        for part in target.split(b"/"):
            if part not in (b"", b"."):
                below = open_passage(at, part)
                os.close(at)
                at = below
        if _identity(os.fstat(at)) == identity:
            return identity
    except OSError:
        pass  # a link, or something else that is no directory
    finally:
        os.close(at)
    raise OSError(errno.ELOOP, "it leads through another symbolic link, to a place that is not the one of the backup")


def _identity_of(folder: int, target: bytes) -> tuple[int, int]:
    try:
        at = open_passage(folder, target, follow=True)
    except FileNotFoundError:
        raise OSError(errno.ENOENT, f"{os.fsdecode(target)}, where it leads, is not there") from None
    except NotADirectoryError:
        raise OSError(errno.ENOTDIR, f"{os.fsdecode(target)}, where it leads, is no directory") from None
    try:
        return _identity(os.fstat(at))
    finally:
        os.close(at)


def _identity(found: os.stat_result) -> tuple[int, int]:
    return found.st_dev, found.st_ino


def _below(of: Mapping[Names, _Value], above: Names) -> dict[Names, _Value]:
    depth = len(above)
    return {names[depth:]: value for names, value in of.items() if names[:depth] == above and len(names) > depth}
