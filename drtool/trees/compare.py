"""Comparison of two stored trees: the entries in one only, and those in both that differ. Pure.

Invariants
    Directories whose contents have the same id are equal, and are not read. Paths come in the order of their names.
    Memory is bounded by the directories on the way down, regardless of the size of the trees.
"""

from collections.abc import Iterator
from enum import IntEnum

from msgspec import Struct

from drtool.trees.entry import Entry, FileType
from drtool.trees.pages import Fetch, read_directory
from drtool.trees.walk import walk


class Change(IntEnum):
    """The change of a path between the first tree and the second."""

    ADDED = 1
    REMOVED = 2
    CHANGED = 3
    """Its type, its content or its link target."""
    METADATA = 4
    """Only mode, owner, times, attributes or links."""


class Difference(Struct, frozen=True):
    path: bytes
    change: Change
    before: Entry | None
    after: Entry | None


_Level = tuple[bytes, Iterator[tuple[Entry | None, Entry | None]]]


def compare(before: bytes, after: bytes, prefix: bytes, fetch: Fetch) -> Iterator[Difference]:
    """Yield every difference between the directories that `before` and `after` name, parents before their children."""
    levels: list[_Level] = [(prefix, _pairs(before, after, fetch))] if before != after else []
    while levels:
        above, pairs = levels[-1]
        pair = next(pairs, None)
        if pair is None:
            levels.pop()
            continue
        old, new = pair
        entry = new or old
        assert entry is not None
        path = above + entry.name
        if old is None or new is None:
            yield from _whole(path, old, new, fetch)
            continue
        if is_directory(old) != is_directory(new):
            yield from _whole(path, old, None, fetch)
            yield from _whole(path, None, new, fetch)
            continue
        change = changed(old, new)
        if change is not None:
            yield Difference(path, change, old, new)
        if is_directory(old) and old.subtree != new.subtree:
            levels.append((path + b"/", _pairs(old.subtree, new.subtree, fetch)))


def clashes(one: bytes, other: bytes, fetch: Fetch) -> Iterator[bytes]:
    """Yield the paths at which two trees differ in type or content, so that both cannot be restored to one place.

    Directories are merged. Files that differ in metadata alone do not clash.
    """
    levels: list[_Level] = [(b"/", _pairs(one, other, fetch))] if one != other else []
    while levels:
        above, pairs = levels[-1]
        pair = next(pairs, None)
        if pair is None:
            levels.pop()
            continue
        old, new = pair
        if old is None or new is None:
            continue
        if is_directory(old) != is_directory(new) or changed(old, new) == Change.CHANGED:
            yield above + old.name
        elif is_directory(old) and old.subtree != new.subtree and old.subtree and new.subtree:
            levels.append((above + old.name + b"/", _pairs(old.subtree, new.subtree, fetch)))


def changed(old: Entry, new: Entry) -> Change | None:
    """Return how two entries of one name differ. A directory's contents are not compared."""
    if (old.type, old.link_target, old.rdev, old.size_bytes, old.content, old.content_depth) != (
        new.type,
        new.link_target,
        new.rdev,
        new.size_bytes,
        new.content,
        new.content_depth,
    ) and not is_directory(old):
        return Change.CHANGED
    return None if _metadata(old) == _metadata(new) else Change.METADATA


def aspects(old: Entry, new: Entry) -> tuple[str, ...]:
    """Return the differing parts of an entry that a person would see. A directory's contents are not compared."""
    if old.type != new.type:
        return ("type",)
    differing = {
        "content": not is_directory(old) and _content(old) != _content(new),
        "target": old.link_target != new.link_target,
        "device": old.rdev != new.rdev,
        "owner": (old.uid, old.gid, old.user, old.group) != (new.uid, new.gid, new.user, new.group),
        "mode": old.mode != new.mode,
        "mtime": old.mtime_ns != new.mtime_ns,
        "xattrs": old.xattrs != new.xattrs,
        "flags": old.flags != new.flags,
    }
    return tuple(name for name, differs in differing.items() if differs)


def is_directory(entry: Entry) -> bool:
    return entry.type == FileType.DIRECTORY


def _content(entry: Entry) -> tuple[object, ...]:
    return entry.content, entry.content_depth, entry.size_bytes if entry.type == FileType.FILE else 0


def _metadata(entry: Entry) -> tuple[object, ...]:
    return entry.mode, entry.uid, entry.gid, entry.user, entry.group, entry.mtime_ns, entry.xattrs, entry.flags


def _pairs(before: bytes, after: bytes, fetch: Fetch) -> Iterator[tuple[Entry | None, Entry | None]]:
    """Yield the entries of two directories in pairs by name. Both come sorted by name."""
    left = read_directory(before, fetch) if before else iter(())
    right = read_directory(after, fetch) if after else iter(())
    old, new = next(left, None), next(right, None)
    while old is not None or new is not None:
        if new is None or (old is not None and old.name < new.name):
            yield old, None
            old = next(left, None)
        elif old is None or new.name < old.name:
            yield None, new
            new = next(right, None)
        else:
            yield old, new
            old, new = next(left, None), next(right, None)


def _whole(path: bytes, old: Entry | None, new: Entry | None, fetch: Fetch) -> Iterator[Difference]:
    """Yield an entry that only one side has, with everything below it."""
    entry = new or old
    assert entry is not None
    change = Change.ADDED if old is None else Change.REMOVED
    yield Difference(path, change, old, new)
    if is_directory(entry) and entry.subtree:
        for below, child in walk(entry.subtree, path + b"/", fetch):
            yield Difference(below, change, child if old is not None else None, child if new is not None else None)
