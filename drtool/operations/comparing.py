"""`diff`: the differences between two snapshots, or between two places in them, as a stream."""

import os
from collections.abc import Iterator

from drtool.errors import DrtoolError
from drtool.manifest.records import Snapshot
from drtool.operations.selection import WHOLE_PATHS
from drtool.repository import Repository
from drtool.trees import Entry, FileType, find_entry, split_path
from drtool.trees.compare import Change, Difference, changed, compare

Place = tuple[Snapshot, bytes | None]


def diff(repository: Repository, first: Place, second: Place, *, metadata: bool = False) -> Iterator[Difference]:
    """Yield every difference, by path in the first snapshot. Differences in metadata alone need `metadata`.

    DrtoolError if a place is not in its snapshot, or if one is a file and the other a directory.
    """
    where = b"/" + b"/".join(split_path(first[1] or b""))
    old, new = _found(repository, first), _found(repository, second)
    for row in _differences(repository, where, old, new):
        if metadata or row.change != Change.METADATA:
            yield row


def _differences(repository: Repository, where: bytes, old: Entry | bytes, new: Entry | bytes) -> Iterator[Difference]:
    """Yield the differences of `old` and `new`: two directories (bytes, their subtrees) or two single entries."""
    if isinstance(old, bytes) and isinstance(new, bytes):
        yield from compare(old, new, where.rstrip(b"/") + b"/", repository.trees)
    elif isinstance(old, Entry) and isinstance(new, Entry):
        change = changed(old, new)
        if change is not None:
            yield Difference(where, change, old, new)
    else:
        raise DrtoolError(
            f"{os.fsdecode(where)} is a directory on one side and not on the other", hint="compare the parents"
        )


def _found(repository: Repository, place: Place) -> Entry | bytes:
    snapshot, path = place
    parts = split_path(path or b"")
    if not parts:
        return snapshot.root
    entry = find_entry(snapshot.root, b"/" + b"/".join(parts), repository.trees)
    if entry is None:
        raise DrtoolError(
            f"{os.fsdecode(path or b'')} is not in snapshot {snapshot.id.hex()[:8]}",
            hint=WHOLE_PATHS,
        )
    return entry.subtree if entry.type == FileType.DIRECTORY else entry
