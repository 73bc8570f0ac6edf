"""The snapshots of one state: immutable pages shared between states, plus the recent additions and removals.

Invariants
    Oldest first, by manifest sequence. A state's catalogue never changes: `with_added` and `without` return another.
    `pages` and `added` hold rows as stored. Lookups and iteration return them with the tags that were set later.
    Pages are shared, never copied: a state with 100,000 snapshots costs its successor one tuple.
"""

from collections.abc import Iterable, Iterator, Mapping

from msgspec.structs import replace

from drtool.manifest.records import Snapshot
from drtool.model import SnapshotId

Page = tuple[Snapshot, ...]


class _Index:
    """An index from id to snapshot over some pages, built on first use and shared by all states on those pages."""

    def __init__(self, pages: tuple[Page, ...]) -> None:
        self._pages = pages
        self._rows: dict[SnapshotId, Snapshot] | None = None

    def get(self, snapshot: SnapshotId) -> Snapshot | None:
        if self._rows is None:
            self._rows = {row.id: row for page in self._pages for row in page}
        return self._rows.get(snapshot)


class Catalogue:
    """All snapshots that are not forgotten."""

    __slots__ = ("_index", "_tags", "added", "dropped", "pages")

    def __init__(
        self,
        pages: tuple[Page, ...] = (),
        added: tuple[Snapshot, ...] = (),
        dropped: frozenset[SnapshotId] = frozenset(),
        _index: _Index | None = None,
        _tags: Mapping[SnapshotId, tuple[str, ...]] | None = None,
    ) -> None:
        self.pages = pages
        self.added = added
        self.dropped = dropped
        self._index = _index or _Index(pages)
        self._tags = _tags or {}

    def __iter__(self) -> Iterator[Snapshot]:
        return map(self._seen, self._stored()) if self._tags else self._stored()

    def _seen(self, row: Snapshot) -> Snapshot:
        tags = self._tags.get(row.id)
        return row if tags is None else replace(row, tags=tags)

    def _stored(self) -> Iterator[Snapshot]:
        dropped = self.dropped
        for page in (*self.pages, self.added):
            if dropped:
                yield from (row for row in page if row.id not in dropped)
            else:
                yield from page

    def __len__(self) -> int:
        return sum(map(len, self.pages)) + len(self.added) - len(self.dropped)

    def __contains__(self, snapshot: object) -> bool:
        return isinstance(snapshot, bytes) and self.get(SnapshotId(snapshot)) is not None

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Catalogue) and tuple(self) == tuple(other)

    __hash__ = None  # type: ignore[assignment]  # compared by content, never a key

    def __repr__(self) -> str:
        return f"Catalogue({len(self)} snapshots)"

    def get(self, snapshot: SnapshotId) -> Snapshot | None:
        """Return the snapshot with this id, unless it is forgotten."""
        if snapshot in self.dropped:
            return None
        row = next((row for row in self.added if row.id == snapshot), None) or self._index.get(snapshot)
        return None if row is None else self._seen(row)

    def since(self, sequence: int) -> Iterator[Snapshot]:
        """Yield the snapshots added after change `sequence`, without reading older pages."""
        for page in (self.added, *reversed(self.pages)):
            yield from (self._seen(row) for row in page if row.sequence > sequence and row.id not in self.dropped)
            if page and page[0].sequence <= sequence:
                return

    def with_prefix(self, prefix: str) -> list[Snapshot]:
        """Return the snapshots whose hexadecimal id begins with `prefix`."""
        return [row for row in self if row.id.hex().startswith(prefix)]

    def newest(self) -> Snapshot | None:
        """Return the snapshot that was added last."""
        return max(self, key=lambda row: row.sequence, default=None)

    def with_added(self, snapshot: Snapshot) -> "Catalogue":
        return Catalogue(self.pages, (*self.added, snapshot), self.dropped, self._index, self._tags)

    def without(self, snapshots: Iterable[SnapshotId]) -> "Catalogue":
        """Return a catalogue without `snapshots`, all of which must be in it."""
        return Catalogue(self.pages, self.added, self.dropped | frozenset(snapshots), self._index, self._tags)

    def tagged(self, tags: Mapping[SnapshotId, tuple[str, ...]]) -> "Catalogue":
        """Return a catalogue with these tags in place of the snapshots' own, and all other tags as stored."""
        return Catalogue(self.pages, self.added, self.dropped, self._index, tags)
