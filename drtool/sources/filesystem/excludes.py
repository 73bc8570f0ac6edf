"""Which names are left out: gitignore patterns, cache directories, other file systems, files that are too large.

Invariants
    Patterns are relative to each named path; the last one that matches wins; an excluded directory is not entered.
    Names are compared as they are, byte for byte, case and all; a name that is not UTF-8 still matches `*`.
    An ignore file in a directory speaks of what is below it; the deepest that says anything wins, but what the user said on
    the command line or in the configuration goes before all of them.
    Without rules a directory costs two dictionary lookups, and an entry nothing.
"""

import errno
import os
import re
import stat
from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from drtool.errors import UsageError
from drtool.sources.filesystem.patterns import Matcher, below, compile_pattern, parts_of
from drtool.sources.filesystem.reading import open_for_read
from drtool.sources.filesystem.roots import Roots, join, parent_of
from drtool.trees import Entry, FileType

IGNORE_FILE = b".drtoolignore"
CACHE_TAG = b"CACHEDIR.TAG"
CACHE_SIGNATURE = b"Signature: 8a477f597d28d172789f06886806bc55"
"""https://bford.info/cachedir/: the first 43 bytes of the tag file."""


class Scope(NamedTuple):
    """What one directory's capture must know."""

    named: frozenset[bytes] = frozenset()
    """Taken whatever the rules say, symlinks followed."""
    only_named: bool = False
    matcher: Matcher | None = None
    prefix: str = ""
    """The directory relative to its named path: empty, or with a final slash."""
    device: int | None = None
    """With `one_file_system`: directories on another device are not entered."""
    ignored: tuple["Ignoring", ...] = ()
    """What the ignore files above say, the deepest first."""

    def excludes(self, path: bytes, name: str, *, is_directory: bool) -> bool:
        """Whether `name` in the directory `path`, which this is about, is left out."""
        if self.matcher is not None:
            verdict = self.matcher.verdict(self.prefix, name, is_directory=is_directory)
            if verdict is not None:
                return verdict
        for place, matcher in self.ignored:
            verdict = matcher.verdict(_relative(path, place), name, is_directory=is_directory)
            if verdict is not None:
                return verdict
        return False


class Recent(NamedTuple):
    """Times so close to the parent snapshot's scan that a file may have changed since without getting another one.

    A time that lies in the future even now was set by hand: the clock gives it to no change, so it tells of none.
    """

    after_ns: int = 0
    until_ns: int = 2**64

    def holds(self, time_ns: int) -> bool:
        """Return whether it is one of them."""
        return self.after_ns <= time_ns <= self.until_ns

    @classmethod
    def since(cls, scan_ns: int, now_ns: int, margin_ns: int) -> "Recent":
        """Of a scan that began at `scan_ns`. Where the clock was set back since then, everything later is recent."""
        return cls(scan_ns - margin_ns, now_ns if now_ns >= scan_ns else 2**64)


class Ignoring(NamedTuple):
    """An ignore file: where it lies, and what it says."""

    place: bytes
    matcher: Matcher


class Rules:
    """The exclusion rules of one snapshot, compiled once."""

    __slots__ = (
        "_ignoring",
        "_matchers",
        "exclude_caches",
        "ignore_ctime",
        "ignore_files",
        "ignore_inode",
        "larger_than_bytes",
        "one_file_system",
        "roots",
    )

    def __init__(
        self,
        roots: Roots,
        patterns: Sequence[str] = (),
        *,
        exclude_caches: bool = False,
        one_file_system: bool = False,
        larger_than_bytes: int | None = None,
        ignore_files: bool = False,
        ignore_inode: bool = False,
        ignore_ctime: bool = False,
    ) -> None:
        self.roots = roots
        self.exclude_caches = exclude_caches
        self.one_file_system = one_file_system
        self.larger_than_bytes = larger_than_bytes
        self.ignore_files = ignore_files
        self._ignoring: dict[bytes, Matcher] = {}
        self.ignore_inode = ignore_inode
        self.ignore_ctime = ignore_ctime
        compiled = {
            root: Matcher(rest for line in patterns for rest in patterns_below(line, root)) for root in roots.devices
        }
        self._matchers = {root: matcher for root, matcher in compiled.items() if matcher}

    def scope(self, path: bytes) -> Scope:
        """The rules for the entries of the directory `path`."""
        named = self.roots.named.get(path)
        if named is None and not self._matchers and not self.one_file_system and not self.ignore_files:
            return _EVERYTHING
        named = named or frozenset()
        root = self.roots.root_of(path)
        if root is None or (named and path != root and self._left_out(path, root)):
            return Scope(named=named, only_named=True)
        return Scope(
            named=named,
            matcher=self._matchers.get(root),
            prefix=_relative(path, root),
            device=self.roots.devices[root] if self.one_file_system else None,
            ignored=self._ignored(path, root),
        )

    def followed(self, path: bytes, scope: Scope) -> frozenset[bytes]:
        """Return the names in the directory `path` that are followed if they are symlinks."""
        as_they_are = self.roots.as_they_are
        if not as_they_are or not scope.named:
            return scope.named
        return frozenset(name for name in scope.named if join(path, name) not in as_they_are)

    def learn(self, path: bytes, dir_fd: int) -> None:
        """Reads the ignore file of the directory `path`, before its scope is asked for. OSError if it cannot be read."""
        fd = open_for_read(dir_fd, IGNORE_FILE)
        try:
            if not stat.S_ISREG(os.fstat(fd).st_mode):
                raise OSError(errno.EINVAL, "it is no regular file, and says nothing")
            with os.fdopen(os.dup(fd), "rb") as file:
                matcher = Matcher(_lines(file.read()))
        finally:
            os.close(fd)
        if matcher:
            self._ignoring[path] = matcher

    def _ignored(self, path: bytes, root: bytes) -> tuple[Ignoring, ...]:
        if not self._ignoring:
            return ()
        found = []
        while True:
            if path in self._ignoring:
                found.append(Ignoring(path, self._ignoring[path]))
            if path == root:
                return tuple(found)
            path = parent_of(path)

    def leaves_out(self, path: bytes) -> bool:
        """Whether the patterns, or where it is mounted, keep `path` out, or what it lies in."""
        root = self.roots.root_of(path)
        return root is None or self._left_out(path, root)

    def content_holds(self, old: Entry | None, found: os.stat_result, recent: "Recent") -> bool:
        """Whether a file that is not wholly unchanged still has the old entry's content, as the options define it."""
        return (
            old is not None
            and old.type == found.st_mode >> 12 == FileType.FILE
            and not old.uncaptured
            and old.size_bytes == found.st_size
            and old.mtime_ns == found.st_mtime_ns
            and not recent.holds(found.st_mtime_ns)
            and (self.ignore_ctime or (old.ctime_ns == found.st_ctime_ns and not recent.holds(found.st_ctime_ns)))
            and (self.ignore_inode or old.inode == found.st_ino)
        )

    def as_good_as(self, old: Entry, entry: Entry) -> bool:
        """Whether the old entry differs from the new one only in what the options say is to be ignored."""
        if not (self.ignore_inode or self.ignore_ctime) or entry.links > 1:
            return False
        return old == msgspec.structs.replace(
            entry,
            inode=old.inode if self.ignore_inode else entry.inode,
            device=old.device if self.ignore_inode else entry.device,
            ctime_ns=old.ctime_ns if self.ignore_ctime else entry.ctime_ns,
        )

    def _left_out(self, path: bytes, root: bytes) -> bool:
        """Whether `path` is entered only because it leads to something that was named."""
        if self.one_file_system and os.stat(path).st_dev != self.roots.devices[root]:
            return True
        matcher = self._matchers.get(root)
        if matcher is None:
            return False
        while path != root:
            if matcher.verdict(_relative(parent_of(path), root), text_of(path.rpartition(b"/")[2]), is_directory=True):
                return True
            path = parent_of(path)
        return False


_EVERYTHING = Scope()


def is_cache(dir_fd: int) -> bool:
    """Whether the directory is marked as a cache by a CACHEDIR.TAG with the right signature."""
    try:
        fd = open_for_read(dir_fd, CACHE_TAG)
    except OSError:
        # Absent, a symlink or unreadable: without a signature that we can see it is no cache, and is backed up.
        return False
    try:
        return os.read(fd, len(CACHE_SIGNATURE)) == CACHE_SIGNATURE
    except OSError:
        return False
    finally:
        os.close(fd)


def read_patterns(path: str) -> list[str]:
    """The lines of an `--exclude-file`. UsageError if it cannot be read."""
    try:
        with open(path, "rb") as file:
            data = file.read()
    except OSError as error:
        raise UsageError(
            f"cannot read the exclude file {path}: {error.strerror}", hint="check --exclude-file; one pattern a line"
        ) from error
    return _lines(data)


def _lines(data: bytes) -> list[str]:
    text = text_of(data.removeprefix(b"\xef\xbb\xbf"))
    return [line.removesuffix("\r") for line in text.split("\n")]


def text_of(name: bytes) -> str:
    """Bytes as the matcher sees them: UTF-8, and what is not becomes lone surrogates, which `*` and `?` match."""
    return name.decode("utf-8", "surrogateescape")


def pattern_of(path: bytes) -> str:
    """Return the pattern that matches the directory at an absolute path and nothing else."""
    return _escaped(text_of(path)) + "/"


def file_pattern_of(path: bytes) -> str:
    """Return the pattern that matches the item at an absolute path and nothing else. It may be of any type."""
    text = _escaped(text_of(path))
    return f"{text[:-1]}\\ " if text.endswith(" ") else text


def _escaped(name: str) -> str:
    return re.sub(r"([\\*?\[])", r"\\\1", name)


def _relative(path: bytes, root: bytes) -> str:
    """A directory below `root`, as the matcher wants it."""
    below = text_of(path[len(root) :]).lstrip("/")
    return below + "/" if below else ""


def patterns_below(line: str, root: bytes) -> list[str]:
    """Return a pattern as those that are relative to `root`; one that leads there by its absolute name means that place.

    The root itself is never excluded, so a pattern that means it, or a directory above it, is dropped. `./x` is `/x`.
    """
    excludes, pattern = parts_of(line)
    if pattern.startswith("./"):
        return [pattern[1:] if excludes else "!" + pattern[1:]]
    rests = below(pattern, _names(root)) if pattern.startswith("/") else None
    if rests is None:
        return [line]
    return [rest if excludes else "!" + rest for rest in rests]


def idle_reason(line: str, roots: Sequence[bytes]) -> str:
    """Return why a pattern can leave out nothing below any of `roots`; empty if it may."""
    _, pattern = parts_of(line)
    if not pattern:
        return ""
    parts = pattern.removeprefix("./").strip("/").split("/")
    if compile_pattern(line) is None:
        return "it is malformed"
    if {"", ".", ".."} & set(parts):
        return "no name in a directory is empty, . or .."
    if not pattern.startswith("/"):
        return ""
    rests = [below(pattern, _names(root)) for root in roots]
    if any(rests) or any(rest is None and _is_there(root, parts[0]) for root, rest in zip(roots, rests, strict=True)):
        return ""
    if any(rest is not None for rest in rests):
        return "it means a path that is backed up, or one above it, and these are never left out"
    return "it is an absolute path outside of what is backed up" if _is_there(b"/", parts[0]) else ""


def _is_there(root: bytes, part: str) -> bool:
    """Whether the first part of a pattern may be a name in `root`."""
    return bool(re.search(r"[\\*?\[]", part)) or os.path.lexists(join(root, os.fsencode(part)))


def _names(root: bytes) -> list[str]:
    return [text_of(name) for name in root.split(b"/") if name]
