"""Walks of a stored tree: looking up a path and listing below it, in the order of the names."""

from collections.abc import Iterator

from drtool.trees.entry import Entry, FileType
from drtool.trees.pages import Fetch, read_directory


def split_path(path: bytes) -> list[bytes]:
    """Return the parts of an absolute or relative path, without empty ones and `.`."""
    return [part for part in path.split(b"/") if part not in (b"", b".")]


def find_entry(root: bytes, path: bytes, fetch: Fetch) -> Entry | None:
    """Return the entry at `path` below the tree named `root`, or None. `path` has at least one part."""
    entry: Entry | None = None
    subtree = root
    for part in split_path(path):
        if not subtree:
            return None
        entry = next((e for e in read_directory(subtree, fetch) if e.name == part), None)
        if entry is None:
            return None
        subtree = entry.subtree
    return entry


def walk(subtree: bytes, prefix: bytes, fetch: Fetch, *, recursive: bool = True) -> Iterator[tuple[bytes, Entry]]:
    """Yield every (path, entry) below `subtree`, parents before their children. `prefix` is put before each path."""
    levels = [(prefix, read_directory(subtree, fetch))]  # no recursion: trees are deeper than Python's stack
    while levels:
        above, entries = levels[-1]
        entry = next(entries, None)
        if entry is None:
            levels.pop()
            continue
        path = above + entry.name
        yield path, entry
        if recursive and entry.type == FileType.DIRECTORY and entry.subtree:
            levels.append((path + b"/", read_directory(entry.subtree, fetch)))
