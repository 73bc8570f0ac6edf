"""The pages of `browse` as values: lists of rows, the marks, and the trail of pages that leads to the present one.

Invariants
    Nothing here draws or reads. Each text that is shown passes `printable`, so a name cannot affect the terminal.
    Marks belong to one snapshot. A mark below a marked directory is dropped, because the directory includes it.
"""

import os
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from msgspec import Struct

from drtool.cli.core.selection import SHORT_ID
from drtool.cli.core.text import count, local, size, utc
from drtool.escaping import printable
from drtool.manifest.records import Snapshot
from drtool.operations import listing
from drtool.operations.finding import Wanted, find
from drtool.operations.selection import source_name
from drtool.operations.versions import versions
from drtool.trees import Entry, Fetch, FileType

if TYPE_CHECKING:
    from drtool.repository import Repository

DIRECTORY = "directory"


class Row(Struct, frozen=True, kw_only=True):
    """A line of a page. Without a `path` it stands for a whole snapshot, and without a snapshot it is only text."""

    text: str
    snapshot: Snapshot | None = None
    path: bytes | None = None
    type: str = ""

    @property
    def is_directory(self) -> bool:
        return self.type == DIRECTORY


class Page(Struct, kw_only=True):
    """A list on the screen. `kind` says how to fill it: of a `snapshot`, a `path` or a `pattern`."""

    kind: str
    snapshot: Snapshot | None = None
    path: bytes = b"/"
    pattern: str = ""
    tentative: bool = False
    rows: list[Row] = []
    cursor: int = 0
    top: int = 0
    complete: bool = False
    problem: str = ""

    @property
    def title(self) -> str:
        where = f"{id_of(self.snapshot)} {local(utc(self.snapshot.time_ns))}" if self.snapshot else "all snapshots"
        if self.kind == "snapshots":
            return "Snapshots, newest first" + ", read without a quorum" * self.tentative
        if self.kind == "found":
            return printable(f"Search for {self.pattern} in {where}")
        name = "Details of " if self.kind == "details" else ""
        return printable(f"{where}  {name}{os.fsdecode(self.path)}")

    @property
    def selected(self) -> Row | None:
        return self.rows[self.cursor] if self.rows else None


class Marks:
    """The items to restore, of one snapshot."""

    def __init__(self) -> None:
        self.snapshot: Snapshot | None = None
        self.paths: dict[bytes, bool] = {}
        """The marked paths, and whether each is a directory."""

    def toggle(self, row: Row) -> str:
        """Mark the row's item, or remove its mark. Return why that is not possible, or an empty text."""
        if row.snapshot is None or row.path is None:
            return "mark files and directories: open a snapshot with Enter"
        if self.snapshot is not None and self.snapshot.id != row.snapshot.id:
            return f"the marks are in snapshot {id_of(self.snapshot)}: restore them or clear them (c) first"
        if self.paths.pop(row.path, None) is None:
            if self.covers(row.snapshot, row.path):
                return "a directory above is marked, which includes this"
            below = [path for path in self.paths if path.startswith(row.path.rstrip(b"/") + b"/")]
            for path in below if row.is_directory else ():
                del self.paths[path]
            self.paths[row.path] = row.is_directory
        self.snapshot = row.snapshot if self.paths else None
        return ""

    def covers(self, snapshot: Snapshot | None, path: bytes | None) -> bool:
        """Return whether the path, or a directory above it, is marked."""
        if snapshot is None or path is None or self.snapshot is None or self.snapshot.id != snapshot.id:
            return False
        parts = path.split(b"/")
        return any(b"/".join(parts[:end]) in self.paths for end in range(2, len(parts) + 1))

    def clear(self) -> None:
        self.snapshot = None
        self.paths = {}


class Trail:
    """Everything that outlives one run of the screen: the pages from the first to the present one, and the marks."""

    def __init__(self, repository: "Repository", snapshots: Sequence[Snapshot]) -> None:
        self.repository = repository
        self.snapshots = snapshots
        self.marks = Marks()
        self.pages = [Page(kind="snapshots", tentative=repository.view.tentative)]

    @property
    def page(self) -> Page:
        return self.pages[-1]

    def rows_of(self, page: Page, fetch: Fetch) -> Iterator[Row]:
        """Yield the rows of a page, and read them from the repository as needed."""
        if page.kind == "snapshots":
            return (_snapshot_row(row) for row in reversed(self.snapshots))
        if page.kind == "found":
            return self._found(page, fetch)
        assert page.snapshot is not None
        if page.kind == "details":
            return self._details(page.snapshot, page.path, fetch)
        listed = listing.stream(self.repository, page.snapshot, page.path, False)
        return (_listed_row(page.snapshot, row) for row in listed)

    def _found(self, page: Page, fetch: Fetch) -> Iterator[Row]:
        wanted = Wanted(patterns=(page.pattern,))
        chosen = self.snapshots if page.snapshot is None else [page.snapshot]
        for match in find(self.repository, chosen, wanted, fetch):
            entry, path = match.entry, os.fsdecode(match.path)
            head = "" if page.snapshot is not None else f"{id_of(match.snapshot)} "
            yield Row(
                text=head + _columns(FileType(entry.type).word, entry.size_bytes, entry.mtime_ns, path),
                snapshot=match.snapshot,
                path=match.path,
                type=FileType(entry.type).word,
            )

    def _details(self, snapshot: Snapshot, path: bytes, fetch: Fetch) -> Iterator[Row]:
        same_host = [row for row in self.snapshots if row.host == snapshot.host]
        found = list(versions(fetch, same_host, path))
        for version in found:
            if version.snapshot.id == snapshot.id:
                yield from (Row(text=line) for line in _facts(path, version.entry))
        yield Row(text=f"In {count(len(found), 'snapshot')} of {snapshot.host}, newest first:")
        for version in found:
            word = FileType(version.entry.type).word
            head = f"{id_of(version.snapshot)} {local(utc(version.snapshot.time_ns))} "
            text = f"{head}{size(version.entry.size_bytes):>10}  {'as the one above' if version.same else ''}"
            yield Row(text=text.rstrip(), snapshot=version.snapshot, path=path, type=word)


def id_of(snapshot: Snapshot) -> str:
    return snapshot.id.hex()[:SHORT_ID]


def _snapshot_row(row: Snapshot) -> Row:
    what = f"{size(row.counts.bytes):>10}  {row.host} {source_name(row)} ({count(row.counts.files, 'file')})"
    return Row(text=f"{id_of(row)} {local(utc(row.time_ns))} {what}", snapshot=row)


def _listed_row(snapshot: Snapshot, row: listing.Listed) -> Row:
    name = row.path.rsplit("/", 1)[-1]
    shown = f"{name} -> {row.target}" if row.target is not None else name
    path = os.fsencode(row.path)
    return Row(text=_columns(row.type, row.size, row.mtime_ns, shown), snapshot=snapshot, path=path, type=row.type)


def _columns(kind: str, size_bytes: int, mtime_ns: int, name: str) -> str:
    size_text = size(size_bytes) if kind == "file" else "-"
    return f"{size_text:>10}  {local(utc(mtime_ns))[:16]}  {name}{'/' if kind == DIRECTORY else ''}"


def _facts(path: bytes, entry: Entry) -> Iterator[str]:
    import stat

    kind = FileType(entry.type)
    yield f"path      {os.fsdecode(path)}"
    yield f"type      {kind.word.replace('_', ' ')}"
    if kind == FileType.SYMLINK:
        yield f"target    {os.fsdecode(entry.link_target)}"
    if kind == FileType.FILE:
        yield f"size      {size(entry.size_bytes)} ({entry.size_bytes:,} bytes)"
    yield f"mode      {stat.filemode(entry.mode)[1:]}"
    yield f"owner     {entry.user or '-'} ({entry.uid}), group {entry.group or '-'} ({entry.gid})"
    yield f"modified  {local(utc(entry.mtime_ns))}"
    yield f"names     {count(entry.links, 'hard link')}"
