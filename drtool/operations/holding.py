"""Whether a snapshot holds a path. When many snapshots are asked, each directory that they share is read once."""

from collections.abc import Callable, Sequence
from operator import eq

from drtool.manifest.records import Snapshot
from drtool.trees import Fetch, read_directory, split_path


def holder_of(fetch: Fetch, path: bytes) -> Callable[[Snapshot], bool]:
    """Return a test for snapshots that hold `path`.

    Every snapshot holds `/`. DrtoolError if a directory cannot be read.
    """
    parts = split_path(path)
    known: dict[tuple[bytes, int], bool] = {}

    def holds(row: Snapshot) -> bool:
        return _may_hold(row, parts) and _holds(row.root, parts, fetch, known)

    return holds


def _may_hold(row: Snapshot, parts: Sequence[bytes]) -> bool:
    """Return whether the path leads to, or lies below, what was backed up. If not, nothing needs to be read."""
    stored = [split_path(path) for path in row.paths]
    related = any(all(map(eq, parts, each)) for each in stored)
    return related or parts[:1] == [b"sqlite"]  # the inventory lies beside the database's own path


def _holds(root: bytes, parts: Sequence[bytes], fetch: Fetch, known: dict[tuple[bytes, int], bool]) -> bool:
    seen: list[tuple[bytes, int]] = []
    subtree, found = root, True
    for depth, part in enumerate(parts):
        key = (subtree, depth)
        if key in known or not subtree:
            found = known.get(key, False)
            break
        seen.append(key)
        entry = next((entry for entry in read_directory(subtree, fetch) if entry.name == part), None)
        if entry is None:
            found = False
            break
        subtree = entry.subtree
    known.update(dict.fromkeys(seen, found))
    return found
