"""`ls`: the entries of a snapshot, of one directory or of everything below it."""

import os
from collections.abc import Iterator

from msgspec import Struct

from drtool.errors import DrtoolError
from drtool.manifest.records import Snapshot
from drtool.operations.selection import WHOLE_PATHS
from drtool.repository import Repository
from drtool.trees import Entry, FileType, find_entry, split_path, walk


class Listed(Struct, frozen=True, kw_only=True):
    """One row of `ls`. `target`: the target of a symlink. `mtime_ns`: nanoseconds since 1970."""

    path: str
    type: str
    size: int
    mode: int
    uid: int
    gid: int
    user: str
    group: str
    mtime_ns: int
    links: int
    target: str | None


class Listing(Struct, frozen=True, kw_only=True):
    snapshot: str
    entries: list[Listed]
    tentative: bool = False


def ls(repository: Repository, snapshot: Snapshot, path: bytes | None, recursive: bool) -> Listing:
    """List `path` (None: the root): a directory's entries, or the one file. DrtoolError if it does not exist."""
    rows = list(stream(repository, snapshot, path, recursive))
    return Listing(snapshot=snapshot.id.hex(), entries=rows, tentative=repository.view.tentative)


def stream(repository: Repository, snapshot: Snapshot, path: bytes | None, recursive: bool) -> Iterator[Listed]:
    """Yield the same rows one by one."""
    return (_listed(where, entry) for where, entry in _entries(repository, snapshot, path, recursive))


def _entries(
    repository: Repository, snapshot: Snapshot, path: bytes | None, recursive: bool
) -> Iterator[tuple[bytes, Entry]]:
    parts = split_path(path or b"")
    if not parts:
        yield from walk(snapshot.root, b"/", repository.trees, recursive=recursive)
        return
    where = b"/" + b"/".join(parts)
    entry = find_entry(snapshot.root, where, repository.trees)
    if entry is None:
        raise DrtoolError(
            f"{os.fsdecode(where)} is not in snapshot {snapshot.id.hex()[:8]}",
            hint=WHOLE_PATHS,
        )
    if entry.type != FileType.DIRECTORY:
        yield where, entry
    elif entry.subtree:
        yield from walk(entry.subtree, where + b"/", repository.trees, recursive=recursive)


def _listed(path: bytes, entry: Entry) -> Listed:
    return Listed(
        path=os.fsdecode(path),
        type=FileType(entry.type).word,
        size=entry.size_bytes,
        mode=entry.mode,
        uid=entry.uid,
        gid=entry.gid,
        user=entry.user,
        group=entry.group,
        mtime_ns=entry.mtime_ns,
        links=entry.links,
        target=os.fsdecode(entry.link_target) if entry.type == FileType.SYMLINK else None,
    )
