"""Comparison of two directory trees: names and kinds, contents, metadata.

Invariants
    Contents are read from both sides and compared byte by byte. Memory holds the names of the directories on the way down.
    Unreadable entries are reported as such, and count as neither equal nor different.
"""

import os
import stat
from collections.abc import Callable, Iterator, Sequence
from io import RawIOBase
from typing import Literal, TypeAlias

from msgspec import Struct

from drtool.sources.filesystem import Matcher

Aspect: TypeAlias = Literal["tree", "hash", "metadata"]
_PART = 1 << 20
_KINDS = {
    stat.S_IFREG: "a file",
    stat.S_IFDIR: "a directory",
    stat.S_IFLNK: "a symbolic link",
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a character device",
    stat.S_IFBLK: "a block device",
}


class Found(Struct, frozen=True):
    """One name where the sides differ, or cannot be compared."""

    path: str
    reason: str
    unread: bool = False


class Comparison:
    """A comparison. `found` yields the findings and counts entries. `look` is called often, and may raise to end it."""

    def __init__(self, aspects: Sequence[Aspect], exclude: Sequence[str], look: Callable[[], None]) -> None:
        self._aspects, self._exclude, self._look = frozenset(aspects), Matcher(exclude), look
        self.entries = 0
        self.read_bytes = 0

    def found(self, left: bytes, right: bytes) -> Iterator[Found]:
        """Yield the findings. `left` and `right` exist: files, directories or links."""
        waiting = [b""]
        while waiting:
            below = waiting.pop()
            self._look()
            try:
                sides = os.lstat(left + below), os.lstat(right + below)
                self.entries += 1
                yield from self._one(left + below, right + below, below, *sides)
                if all(stat.S_ISDIR(side.st_mode) for side in sides):
                    names = self._names(left + below, below), self._names(right + below, below)
                    for name in sorted(names[0] ^ names[1]):
                        self.entries += 1
                        yield Found(_text(below + b"/" + name), f"only {'left' if name in names[0] else 'right'}")
                    waiting += [below + b"/" + name for name in sorted(names[0] & names[1], reverse=True)]
            except OSError as error:
                yield Found(_text(below), f"cannot be read: {error.strerror}", unread=True)

    def _names(self, directory: bytes, below: bytes) -> set[bytes]:
        prefix = os.fsdecode(below).removeprefix("/")
        prefix += "/" if prefix else ""
        with os.scandir(directory) as entries:
            return {
                entry.name
                for entry in entries
                if not self._exclude.verdict(
                    prefix, os.fsdecode(entry.name), is_directory=entry.is_dir(follow_symlinks=False)
                )
            }

    def _one(
        self, left: bytes, right: bytes, below: bytes, one: os.stat_result, other: os.stat_result
    ) -> Iterator[Found]:
        path = _text(below)
        kinds = stat.S_IFMT(one.st_mode), stat.S_IFMT(other.st_mode)
        if kinds[0] != kinds[1]:
            yield Found(path, f"{_KINDS[kinds[0]]} left, {_KINDS[kinds[1]]} right")
            return
        if kinds[0] == stat.S_IFLNK and os.readlink(left) != os.readlink(right):
            yield Found(path, "points to a different target")
        if kinds[0] in (stat.S_IFCHR, stat.S_IFBLK) and one.st_rdev != other.st_rdev:
            yield Found(path, "a different device")
        if "hash" in self._aspects and kinds[0] == stat.S_IFREG:
            yield from self._contents(left, right, path, one.st_size, other.st_size)
        if "metadata" in self._aspects and (below or kinds[0] != stat.S_IFDIR):
            yield from (Found(path, reason) for reason in _unlike_metadata(one, other))

    def _contents(self, left: bytes, right: bytes, path: str, size: int, other_size: int) -> Iterator[Found]:
        if size != other_size:
            yield Found(path, f"{size} bytes left, {other_size} right")
            return
        with open(_opened(left), "rb", buffering=0) as one, open(_opened(right), "rb", buffering=0) as other:
            at = 0
            while True:
                self._look()
                part = one.read(_PART)
                if part != _exactly(other, len(part)):
                    yield Found(path, f"different content, within the {_PART >> 20} MiB from byte {at}")
                    return
                if not part:
                    return
                at += len(part)
                self.read_bytes += len(part)


def _exactly(file: "RawIOBase", size: int) -> bytes:
    """Read that many bytes, or fewer at the end. For 0, try to read one byte: the other side may be longer."""
    kept = b""
    while len(kept) < max(1, size):
        part = file.read(max(1, size) - len(kept))
        if not part:
            break
        kept += part
    return kept


def _opened(path: bytes) -> int:
    """Open a file without following a link or waiting for a pipe that took its place."""
    return os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)


def _unlike_metadata(one: os.stat_result, other: os.stat_result) -> Iterator[str]:
    """Yield metadata differences. Owners are compared only by root. A link has no mode of its own."""
    if not stat.S_ISLNK(one.st_mode) and stat.S_IMODE(one.st_mode) != stat.S_IMODE(other.st_mode):
        yield f"mode {stat.S_IMODE(one.st_mode):04o} left, {stat.S_IMODE(other.st_mode):04o} right"
    if os.geteuid() == 0 and (one.st_uid, one.st_gid) != (other.st_uid, other.st_gid):
        yield f"owner {one.st_uid}:{one.st_gid} left, {other.st_uid}:{other.st_gid} right"
    if not stat.S_ISLNK(one.st_mode) and one.st_mtime_ns != other.st_mtime_ns:
        yield "a different modification time"


def _text(below: bytes) -> str:
    return os.fsdecode(below) or "/"
