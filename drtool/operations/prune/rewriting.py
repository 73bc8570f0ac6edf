"""Rewriting: live chunks of mostly wasted packs move into new packs, and index segments drop removed packs.

Invariants
    A pack stays unless all its live chunks are in new packs, each read back whole on as many sites as are promised, or
    as held the old one. The same holds for old index segments.
    Memory is bounded: at most `ROWS_AT_ONCE` rows, and one pack of each kind being filled.
"""

import heapq
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import TypeAlias

from drtool.errors import DrtoolError, StoreError
from drtool.manifest.records import SegmentRef
from drtool.model import ChunkId, PackId, SegmentId, pack_object, segment_object
from drtool.operations.prune.copies import Copies, sites_with
from drtool.operations.prune.plan import PackUse
from drtool.packing import Location, PackKind, SegmentPack, SegmentReader
from drtool.packing.segment import ROW_BYTES, SEGMENT_ROWS_MAX
from drtool.repository import Repository
from drtool.repository.marking import Marks
from drtool.repository.segments import store_segment
from drtool.repository.writing import PackSink, PackWritten, Writer

Rows: TypeAlias = "Sequence[tuple[Location, ChunkId]]"

ROWS_AT_ONCE = 400_000
_ID_BYTES = 32


class Rewriter:
    """Copier of the live chunks of some packs."""

    def __init__(
        self, repository: Repository, writer: Writer, marks: Marks, copies: Copies, tick: Callable[[int], None]
    ) -> None:
        self._repository = repository
        self._marks = marks
        self._copies = copies
        self._tick = tick
        self._fresh: list[PackWritten] = []
        self.written: list[PackWritten] = []
        """New packs that replace old ones."""
        self.spare: list[PackWritten] = []
        """New packs that are not needed, since their chunks also stay in the old packs."""
        self._sinks = {kind: self._sink(writer, kind) for kind in PackKind}

    def rewrite(self, uses: Iterable[PackUse]) -> tuple[list[PackUse], dict[PackId, str]]:
        """Return the packs whose live chunks are all durable in new ones on enough sites, and why others are not."""
        done: list[PackUse] = []
        failed: dict[PackId, str] = {}
        for batch in _batches(uses, self._marks.live_rows_of):
            rows = self._live(frozenset(use.pack for use in batch))
            for use in batch:
                try:
                    self._copy(rows.get(use.pack, []))
                except DrtoolError as error:
                    failed[use.pack] = error.message
                self._tick(use.size_bytes)
            self._flush()
            done += self._settle([use for use in batch if use.pack not in failed], rows, failed)
        return done, failed

    def _flush(self) -> None:
        for sink in self._sinks.values():
            with suppress(StoreError):  # a failed pack is missing from `_fresh`, so its old pack stays
                sink.flush()

    def _settle(
        self, uses: Iterable[PackUse], rows: Mapping[PackId, Rows], failed: dict[PackId, str]
    ) -> Iterator[PackUse]:
        """Yield the packs that may go, and sort out which of the new packs are then needed."""
        whole = {pack.pack: self._sites(pack) for pack in self._fresh}
        sites = {chunk: whole[pack.pack] for pack in self._fresh for chunk in _chunks(pack)}
        wanted: set[ChunkId] = set()
        for use in uses:
            reached = min(sites.get(chunk, 0) for _, chunk in rows[use.pack])
            needed = self._copies.needed(use.pack)
            if reached < needed:
                failed[use.pack] = f"its live data could be copied to {reached} sites, but must be on {needed}"
                continue
            wanted.update(chunk for _, chunk in rows[use.pack])
            yield use
        for pack in self._fresh:
            (self.spare if wanted.isdisjoint(_chunks(pack)) else self.written).append(pack)
        self._fresh.clear()

    def _sites(self, pack: PackWritten) -> int:
        """Return on how many sites a new pack is whole. It is read back before an old one is removed."""
        return sites_with(self._repository, pack_object(pack.pack), pack.targets)

    def _sink(self, writer: Writer, kind: PackKind) -> PackSink:
        repository = self._repository
        return PackSink(
            repository.keyring,
            writer,
            kind,
            lambda pack: repository.demand(pack, kind),
            self._fresh.append,
            pads=repository.pads,
        )

    def _live(self, packs: frozenset[PackId]) -> dict[PackId, list[tuple[Location, ChunkId]]]:
        """Return the live chunks of these packs, in storage order."""
        found: dict[PackId, list[tuple[Location, ChunkId]]] = {}
        for reader in self._repository.index.readers():
            numbers = {number for number, row in enumerate(reader.packs) if row.pack in packs}
            if not numbers:
                continue
            for row in self._marks.live_rows(reader):
                if int.from_bytes(row[_ID_BYTES : _ID_BYTES + 4], "big") in numbers:
                    at = reader.location(row)
                    found.setdefault(at.pack.pack, []).append((at, ChunkId(row[:_ID_BYTES])))
        for rows in found.values():
            rows.sort(key=lambda item: (item[0].block, item[0].offset))
        return found

    def _copy(self, rows: Rows) -> None:
        for at, _ in rows:  # read all of them before writing any
            self._repository.chunks.at(at)
        for at, chunk in rows:
            self._sinks[PackKind(at.pack.kind)].add(chunk, self._repository.chunks.at(at))


def _chunks(pack: PackWritten) -> Iterator[ChunkId]:
    return (chunk for block in pack.contents.blocks for chunk in block.chunks())


def _batches(uses: Iterable[PackUse], rows_of: Callable[[PackId], int]) -> Iterator[list[PackUse]]:
    batch: list[PackUse] = []
    rows = 0
    for use in uses:
        if batch and rows + rows_of(use.pack) > ROWS_AT_ONCE:
            yield batch
            batch, rows = [], 0
        batch.append(use)
        rows += rows_of(use.pack)
    if batch:
        yield batch


def segments_without(
    repository: Repository, writer: Writer, gone: Collection[PackId], copies: Copies
) -> tuple[tuple[SegmentRef, ...], tuple[SegmentId, ...]] | None:
    """Return new durable segments in place of those that name a removed pack, and the ids of the replaced ones.

    None if the new ones would be, or are, on too few sites. Full sites do not prevent it: an index can be rebuilt from
    the packs, and only deletion makes space there.
    """
    affected = [
        ref
        for ref in repository.view.state.segments
        if any(row.pack in gone for row in repository.index.reader(ref.id).packs)
    ]
    new: list[SegmentRef] = []
    for group in _groups(affected):
        needed = max(map(copies.needed_of_segment, group))
        if not 0 < copies.writable_sites >= needed - copies.owed(()):
            return None
        refs = _store(repository, writer, [repository.index.reader(ref.id) for ref in group], gone)
        if any(
            sites_with(repository, segment_object(ref.id), ref.targets) < needed - copies.owed(refs) for ref in refs
        ):
            return None
        new += refs
    return tuple(new), tuple(ref.id for ref in affected)


def _groups(refs: Iterable[SegmentRef]) -> Iterator[list[SegmentRef]]:
    """Yield the segments in groups that fit into one segment."""
    group: list[SegmentRef] = []
    rows = 0
    for ref in refs:
        if group and rows + ref.rows > SEGMENT_ROWS_MAX:
            yield group
            group, rows = [], 0
        group.append(ref)
        rows += ref.rows
    if group:
        yield group


def _store(
    repository: Repository, writer: Writer, readers: Sequence[SegmentReader], gone: Collection[PackId]
) -> list[SegmentRef]:
    table: list[SegmentPack] = []
    streams: list[Iterator[bytes]] = []
    for reader in readers:
        numbers: dict[int, int] = {}
        for number, row in enumerate(reader.packs):
            if row.pack not in gone:
                numbers[number] = len(table)
                table.append(row)
        streams.append(_kept(reader, numbers))
    if not table:
        return []
    segment = store_segment(repository, writer, table, heapq.merge(*streams))
    return [segment] if segment is not None else []


def _kept(reader: SegmentReader, numbers: dict[int, int]) -> Iterator[bytes]:
    for row in reader.rows():
        number = numbers.get(int.from_bytes(row[_ID_BYTES : _ID_BYTES + 4], "big"))
        if number is not None:
            yield row[:_ID_BYTES] + number.to_bytes(4, "big") + row[_ID_BYTES + 4 : ROW_BYTES]
