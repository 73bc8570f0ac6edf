"""A changed name in full: owner, times, attributes, link target, holes.

Invariants
    What needs an open descriptor is left to whoever opens the file anyway (`complete`); only what nobody will open, such
    as an empty file, a symlink or a device, is asked here.
    What cannot be captured is written into the entry (`uncaptured`) and reported; the rest of the entry is still good.
"""

import os
from collections.abc import Callable
from typing import NamedTuple

from msgspec.structs import replace

from drtool.sources.filesystem.attributes import (
    attributes_of,
    holes_of,
    is_sparse,
    passage_attributes,
    xattrs_in,
)
from drtool.sources.filesystem.excludes import Rules
from drtool.sources.filesystem.owners import OwnerNames
from drtool.sources.filesystem.reading import is_passage, open_for_read, reason, still_same
from drtool.sources.filesystem.roots import Problem, join
from drtool.trees import Entry, FileType, storable
from drtool.trees.entry import TIME_NS_BOUNDS

_FILE, _DIRECTORY, _SYMLINK = int(FileType.FILE), int(FileType.DIRECTORY), int(FileType.SYMLINK)
_TIME_MIN_NS, _TIME_MAX_NS = TIME_NS_BOUNDS
_DEVICES = frozenset({int(FileType.CHARACTER_DEVICE), int(FileType.BLOCK_DEVICE)})
_KNOWN = frozenset(map(int, FileType))


class Changed(NamedTuple):
    """A name whose parent entry, if there was one, no longer holds."""

    name: bytes
    found: os.stat_result
    old: Entry | None
    content_holds: bool
    """The file's content is the old entry's, as far as the options let us judge."""


def describe_stat(name: bytes, found: os.stat_result, names: OwnerNames) -> Entry:
    """What a stat alone tells: also for a file that was replaced by another between the scan and its reading."""
    kind = found.st_mode >> 12
    is_directory = kind == _DIRECTORY
    entry = Entry(
        name=name,
        type=kind,
        mode=found.st_mode & 0o7777,
        uid=found.st_uid,
        gid=found.st_gid,
        user=names.users[found.st_uid],
        group=names.groups[found.st_gid],
        # A directory's size and link count are the file system's business and change with the subdirectories.
        size_bytes=0 if is_directory else found.st_size,
        mtime_ns=found.st_mtime_ns,
        ctime_ns=found.st_ctime_ns,
        inode=found.st_ino,
        device=found.st_dev,
        links=1 if is_directory else found.st_nlink,
        rdev=found.st_rdev if kind in _DEVICES else 0,
    )
    times = entry.mtime_ns, entry.ctime_ns
    return entry if min(times) >= _TIME_MIN_NS and max(times) <= _TIME_MAX_NS else storable(entry)


def complete(
    entry: Entry, fd: int, *, content: bytes | None = None, content_depth: int = 0, subtree: bytes = b""
) -> Entry:
    """A new file's or directory's entry with what its open descriptor tells: xattrs and inode flags.

    If `uncaptured` is not empty afterwards, report it. Ask `still_same` after this as well as after reading.
    """
    attributes = passage_attributes(fd) if is_passage(fd) else attributes_of(fd)
    return replace(
        entry,
        xattrs=attributes.xattrs,
        flags=attributes.flags,
        content=entry.content if content is None else content,
        content_depth=entry.content_depth if content is None else content_depth,
        subtree=subtree,
        uncaptured=(*entry.uncaptured, *attributes.uncaptured),
    )


def settle_directory(entry: Entry, fd: int, subtree: bytes) -> Entry:
    """A directory's final entry: the parent's very object if that still holds, with the same subtree."""
    if not entry.subtree:  # only reused entries have one: this one is new
        return complete(entry, fd, subtree=subtree)
    return entry if entry.subtree == subtree else replace(entry, subtree=subtree)


class Describer:
    """Builds the entries of one directory."""

    __slots__ = ("_dir_fd", "_names", "_path", "_problems", "_rules", "sockets")

    def __init__(self, dir_fd: int, path: bytes, rules: Rules, names: OwnerNames, problems: list[Problem]) -> None:
        self._dir_fd = dir_fd
        self._path = path
        self._rules = rules
        self._names = names
        self._problems = problems
        self.sockets: list[bytes] = []
        """What is left out since nothing of it can be stored."""

    def entry(self, item: Changed) -> Entry | None:
        """The entry of a name; None if it is a socket, or has vanished."""
        kind = item.found.st_mode >> 12
        if kind not in _KNOWN:
            self.sockets.append(item.name)
            return None
        entry = describe_stat(item.name, item.found, self._names)
        try:
            if kind == _FILE:
                entry = self._file(entry, item)
            elif kind != _DIRECTORY:
                entry = self.by_name(entry)
        except FileNotFoundError:
            return None
        entry = self._names.with_acl_names(entry)
        return item.old if item.old is not None and self._rules.as_good_as(item.old, entry) else entry

    def by_name(self, entry: Entry) -> Entry:
        """The entry with what can be asked without opening it. FileNotFoundError if it has vanished."""
        if entry.type == _SYMLINK:
            entry = self._ask(
                entry,
                "link target",
                lambda: replace(entry, link_target=os.readlink(entry.name, dir_fd=self._dir_fd)),
            )
        xattrs, uncaptured = xattrs_in(self._dir_fd, entry.name)
        self._problems += (Problem(join(self._path, entry.name), message) for message in uncaptured)
        return replace(entry, xattrs=xattrs, uncaptured=(*entry.uncaptured, *uncaptured))

    def mount_point(self, entry: Entry) -> Entry:
        """A directory that nobody will open."""
        try:
            return self.by_name(entry)
        except FileNotFoundError:
            return entry

    def _ask(self, entry: Entry, what: str, answer: Callable[[], Entry]) -> Entry:
        try:
            return answer()
        except FileNotFoundError:
            raise
        except OSError as error:
            message = reason(what, error)
            self._problems.append(Problem(join(self._path, entry.name), message))
            return replace(entry, uncaptured=(*entry.uncaptured, message))

    def _file(self, entry: Entry, item: Changed) -> Entry:
        sparse = is_sparse(item.found)
        to_be_read = bool(entry.size_bytes) and not item.content_holds
        if to_be_read and not sparse:
            return entry
        try:
            fd = open_for_read(self._dir_fd, entry.name)
        except FileNotFoundError:
            raise
        except OSError as error:
            if to_be_read:
                return entry  # opening it for its content will fail likewise, and that is reported
            return self._without_flags(self._with_content_of(item.old, self.by_name(entry)), error)
        try:
            if sparse and self._still_same(fd, entry):
                entry = self._ask(entry, "holes", lambda: replace(entry, holes=holes_of(fd, entry.size_bytes)))
            return entry if to_be_read else self._unread(fd, entry, item.old)
        finally:
            os.close(fd)

    def _without_flags(self, entry: Entry, error: OSError) -> Entry:
        """The entry of a file that cannot be opened, so that its flags are not known."""
        message = reason("flags", error)
        self._problems.append(Problem(join(self._path, entry.name), message))
        return replace(entry, uncaptured=(*entry.uncaptured, message))

    def _unread(self, fd: int, entry: Entry, old: Entry | None) -> Entry:
        """A file whose content is known already: it is empty, or the old entry's."""
        if not self._still_same(fd, entry):
            return entry  # swapped since the scan; a file that is no longer empty will be found by the next backup
        entry = complete(self._with_content_of(old, entry), fd)
        for message in entry.uncaptured:
            self._problems.append(Problem(join(self._path, entry.name), message))
        return entry

    def _still_same(self, fd: int, entry: Entry) -> bool:
        return still_same(fd, entry, ignore_inode=self._rules.ignore_inode)

    def _with_content_of(self, old: Entry | None, entry: Entry) -> Entry:
        if old is None or not entry.size_bytes:
            return entry
        return replace(entry, content=old.content, content_depth=old.content_depth)
