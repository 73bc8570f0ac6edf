"""The versions of one path: what each snapshot has there, newest snapshot first."""

from collections.abc import Iterator, Sequence

from msgspec import Struct

from drtool.manifest.records import Snapshot
from drtool.operations.holding import holder_of
from drtool.trees import Entry, Fetch, find_entry


class Version(Struct, frozen=True):
    """One snapshot's entry at the path. `same`: content and target equal those in the next newer snapshot."""

    snapshot: Snapshot
    entry: Entry
    same: bool


def versions(fetch: Fetch, snapshots: Sequence[Snapshot], path: bytes) -> Iterator[Version]:
    """Yield the versions of `path`, an absolute path that is not `/`. DrtoolError if a directory cannot be read."""
    holds = holder_of(fetch, path)
    newer: Entry | None = None
    for snapshot in sorted(snapshots, key=lambda row: (row.time_ns, row.sequence), reverse=True):
        entry = find_entry(snapshot.root, path, fetch) if holds(snapshot) else None
        if entry is not None:
            yield Version(snapshot, entry, newer is not None and _content(entry) == _content(newer))
            newer = entry


def _content(entry: Entry) -> tuple[int, bytes, bytes, bytes, int]:
    return entry.type, entry.content, entry.subtree, entry.link_target, entry.size_bytes
