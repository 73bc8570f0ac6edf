"""One directory's entries, as they are now; what has not changed is the parent snapshot's very object.

Invariants
    Everything is asked relative to the directory's descriptor and no symlink is followed, except where the user named
    one. FIFOs and devices are never opened; sockets are left out and named; what vanishes meanwhile is no failure.
    An entry is reused only if size, mtime, ctime and inode agree and neither time is recent (see `Recent`).
    The device number is not compared (it may change with a reboot), except for hard links, whose identity it is part of.

The loop in `_sort_out` runs once for every file of every backup.
"""

import os
import stat
import sys
from collections.abc import Iterable, Mapping
from operator import attrgetter
from typing import NamedTuple, Protocol

from msgspec.structs import replace

from drtool.sources.filesystem.describe import Changed, Describer
from drtool.sources.filesystem.excludes import IGNORE_FILE, Recent, Rules, Scope, is_cache, text_of
from drtool.sources.filesystem.owners import OwnerNames
from drtool.sources.filesystem.reading import gone, reason
from drtool.sources.filesystem.roots import Problem, join
from drtool.trees import Entry, FileType

_ENCODING = sys.getfilesystemencoding()
_ERRORS = sys.getfilesystemencodeerrors()
_BY_NAME = attrgetter("name")
_FILE, _DIRECTORY = int(FileType.FILE), int(FileType.DIRECTORY)
_NOTHING: Mapping[bytes, Entry] = {}


class Captured(NamedTuple):
    """What one directory holds. `fresh` and `enter` are indices into `entries`."""

    entries: list[Entry]
    """Sorted by name. The parent's very objects where nothing changed; a new directory has no `subtree` yet."""
    fresh: list[int]
    """Regular, non-empty files whose content must be read; xattrs and flags come with it: see `complete`."""
    enter: list[int]
    """Directories to capture in turn; new ones get xattrs, flags and `subtree` then: see `complete`."""
    same: bool
    """Every entry is the parent's very object and none of the parent's is gone: if the subtrees turn out to be the
    parent's as well, then so is this whole directory."""
    problems: list[Problem]
    followed: frozenset[bytes]
    """Names to open with `follow=True`: the user named them, or what lies behind them."""
    sockets: list[bytes]
    """Names of sockets: nothing of them can be stored."""


class _Item(Protocol):
    @property
    def name(self) -> str: ...
    def stat(self, *, follow_symlinks: bool) -> os.stat_result: ...


class _Named:
    """A named path, in the shape of an `os.DirEntry`, with symlinks followed unless it was named as what it is itself."""

    __slots__ = ("_dir_fd", "_follow", "name")

    def __init__(self, dir_fd: int, name: bytes, *, follow: bool) -> None:
        self._dir_fd = dir_fd
        self._follow = follow
        self.name = name.decode(_ENCODING, _ERRORS)

    def stat(self, *, follow_symlinks: bool) -> os.stat_result:
        return os.stat(self.name, dir_fd=self._dir_fd, follow_symlinks=self._follow)


def capture_directory(
    dir_fd: int,
    path: bytes,
    previous: Mapping[bytes, Entry] | None,
    rules: Rules,
    recent: Recent,
    names: OwnerNames,
) -> Captured:
    """The entries of the open directory `path`. `previous`: the parent snapshot's entries of it, by name.

    What has a recent time is looked at again.
    OSError if the directory itself cannot be listed.
    """
    previous = previous or _NOTHING
    problems: list[Problem] = []
    if rules.ignore_files:
        _learn(rules, path, dir_fd, problems)
    scope = rules.scope(path)
    items = items_of(dir_fd, path, rules, scope)
    kept, changed = _sort_out(items, previous, rules, recent, dir_fd, path, problems)
    if rules.larger_than_bytes is not None:
        kept = [entry for entry in kept if entry.type != _FILE or entry.size_bytes <= rules.larger_than_bytes]
        changed = [item for item in changed if not _too_large(item, rules.larger_than_bytes)]
    describer = Describer(dir_fd, path, rules, names, problems)
    entries = kept + [entry for item in changed if (entry := describer.entry(item)) is not None]
    followed = rules.followed(path, scope)
    if followed:
        entries = [_with_link(dir_fd, entry) if entry.name in followed else entry for entry in entries]
    entries.sort(key=_BY_NAME)
    enter = [index for index, entry in enumerate(entries) if entry.type == _DIRECTORY]
    if scope.device is not None:
        enter = _without_mounts(dir_fd, entries, enter, scope, describer)
    untouched = not changed and scope.device is None and not followed
    return Captured(
        entries=entries,
        fresh=_to_read(entries, previous) if changed else [],
        enter=enter,
        same=len(entries) == len(previous)
        and (untouched or all(previous.get(entry.name) is entry for entry in entries)),
        problems=problems,
        followed=followed,
        sockets=describer.sockets,
    )


def _learn(rules: Rules, path: bytes, dir_fd: int, problems: list[Problem]) -> None:
    try:
        rules.learn(path, dir_fd)
    except FileNotFoundError:
        return
    except OSError as error:
        problems.append(Problem(join(path, IGNORE_FILE), reason("what it leaves out is not known", error)))


def items_of(dir_fd: int, path: bytes, rules: Rules, scope: Scope) -> Iterable[_Item]:
    """What to look at in the directory, before anything is asked of the single file."""
    if scope.only_named or (rules.exclude_caches and is_cache(dir_fd)):
        return _named(dir_fd, path, rules, scope)
    with os.scandir(dir_fd) as listing:
        items = list(listing)
    if scope.matcher is not None or scope.ignored:
        items = [item for item in items if not _excluded(item, path, scope)]
    if not scope.named:
        return items
    others = [item for item in items if item.name.encode(_ENCODING, _ERRORS) not in scope.named]
    return [*others, *_named(dir_fd, path, rules, scope)]


def _named(dir_fd: int, path: bytes, rules: Rules, scope: Scope) -> list[_Named]:
    followed = rules.followed(path, scope)
    return [_Named(dir_fd, name, follow=name in followed) for name in scope.named]


def _excluded(item: os.DirEntry[str], path: bytes, scope: Scope) -> bool:
    name = text_of(item.name.encode(_ENCODING, _ERRORS))
    try:
        is_directory = item.is_dir(follow_symlinks=False)
    except OSError:  # its metadata cannot be had: it is reported when that is asked for
        is_directory = False
    return scope.excludes(path, name, is_directory=is_directory)


def _sort_out(
    items: Iterable[_Item],
    previous: Mapping[bytes, Entry],
    rules: Rules,
    recent: Recent,
    dir_fd: int,
    path: bytes,
    problems: list[Problem],
) -> tuple[list[Entry], list[Changed]]:
    """The parent's entries that still hold, and what must be described anew."""
    kept: list[Entry] = []
    changed: list[Changed] = []
    keep, look_up = kept.append, previous.get
    after_ns, until_ns = recent
    for item in items:
        name = item.name.encode(_ENCODING, _ERRORS)
        try:
            found = item.stat(follow_symlinks=False)
        except OSError as error:
            if gone(error, name, dir_fd):
                continue
            problems.append(Problem(join(path, name), reason("metadata", error)))
            continue
        old = look_up(name)
        if (
            old is not None
            and old.ctime_ns == (ctime_ns := found.st_ctime_ns)
            and (ctime_ns < after_ns or ctime_ns > until_ns)
            and old.mtime_ns == (mtime_ns := found.st_mtime_ns)
            and (mtime_ns < after_ns or mtime_ns > until_ns)
            and old.inode == found.st_ino
            and old.type == found.st_mode >> 12
            and (old.size_bytes == found.st_size or old.type == _DIRECTORY)
            and (old.links == 1 or old.device == found.st_dev)
            and not old.uncaptured
        ):
            keep(old)
        else:
            changed.append(Changed(name, found, old, rules.content_holds(old, found, recent)))
    return kept, changed


def _with_link(dir_fd: int, entry: Entry) -> Entry:
    """The entry of something that was named, with the link that leads to it if it was reached through one."""
    try:
        target = os.readlink(entry.name, dir_fd=dir_fd)
    except OSError:  # it is no link
        target = b""
    return entry if entry.link_target == target else replace(entry, link_target=target)


def _too_large(item: Changed, limit_bytes: int) -> bool:
    return stat.S_ISREG(item.found.st_mode) and item.found.st_size > limit_bytes


def _to_read(entries: list[Entry], previous: Mapping[bytes, Entry]) -> list[int]:
    return [
        index
        for index, entry in enumerate(entries)
        if entry.type == _FILE
        and not entry.content
        and (entry.size_bytes or (previous.get(entry.name) is not entry and _may_have_content(entry)))
    ]


def _may_have_content(entry: Entry) -> bool:
    """Whether a file of size 0 is worth a read: /proc, /sys and some FUSE mounts do not know sizes beforehand.

    They have anonymous devices, whose major number is 0. An empty file on a disk is not opened.
    """
    return os.major(entry.device) == 0


def _without_mounts(
    dir_fd: int, entries: list[Entry], directories: list[int], scope: Scope, describer: Describer
) -> list[int]:
    """Of the directories, those on the root's device; the others are stored as empty directories."""
    enter = []
    for index in directories:
        entry = entries[index]
        if entry.name in scope.named or _device(dir_fd, entry, scope.device) == scope.device:
            enter.append(index)
        elif entry.subtree:
            entries[index] = replace(entry, subtree=b"")
        else:
            entries[index] = describer.mount_point(entry)
    return enter


def _device(dir_fd: int, entry: Entry, scope_device: int | None) -> int | None:
    try:
        return os.stat(entry.name, dir_fd=dir_fd, follow_symlinks=False).st_dev
    except OSError:
        return scope_device  # entering it says what became of it
