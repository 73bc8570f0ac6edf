"""Live chunks out of packs that are mostly waste, into new packs; and index segments without what goes.

Invariants
    A pack whose live chunks could not all be copied stays.
    Memory is bounded: at most `ROWS_AT_ONCE` rows are in hand, and one pack of each kind is being filled.
"""

import heapq
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence

from drtool.crypto import object_name
from drtool.errors import DrtoolError
from drtool.manifest.records import SegmentRef
from drtool.model import ChunkId, PackId, SegmentId, segment_object
from drtool.operations.prune.plan import PackUse
from drtool.packing import Location, PackKind, SegmentPack, SegmentReader
from drtool.packing.segment import ROW_BYTES, SEGMENT_ROWS_MAX, encode_segment
from drtool.repository import Repository
from drtool.repository.marking import Marks
from drtool.repository.writing import PackSink, PackWritten, Writer

ROWS_AT_ONCE = 400_000
_ID_BYTES = 32


class Rewriter:
    """Copies what is live in some packs."""

    def __init__(self, repository: Repository, writer: Writer, marks: Marks, tick: Callable[[int], None]) -> None:
        self._repository = repository
        self._marks = marks
        self._tick = tick
        self.written: list[PackWritten] = []
        self._sinks = {kind: self._sink(writer, kind) for kind in PackKind}

    def rewrite(self, uses: Iterable[PackUse]) -> tuple[list[PackUse], dict[PackId, str]]:
        """The packs whose live chunks are all durable in new ones; why not for the others."""
        done: list[PackUse] = []
        failed: dict[PackId, str] = {}
        for batch in _batches(uses, self._marks.live_rows_of):
            rows = self._live(frozenset(use.pack for use in batch))
            for use in batch:
                try:
                    self._copy(rows.get(use.pack, []))
                except DrtoolError as error:
                    failed[use.pack] = error.message
                else:
                    done.append(use)
                self._tick(use.size_bytes)
        for sink in self._sinks.values():
            sink.flush()
        return done, failed

    def _sink(self, writer: Writer, kind: PackKind) -> PackSink:
        repository = self._repository
        return PackSink(
            repository.keyring, writer, kind, lambda pack: repository.demand(pack, kind), self.written.append
        )

    def _live(self, packs: frozenset[PackId]) -> dict[PackId, list[tuple[Location, ChunkId]]]:
        """The live chunks of these packs, in the order in which they lie there."""
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

    def _copy(self, rows: Sequence[tuple[Location, ChunkId]]) -> None:
        texts = [(at, chunk) for at, chunk in rows]
        for at, _ in texts:  # all of them can be read before any is written again
            self._repository.chunks.at(at)
        for at, chunk in texts:
            self._sinks[PackKind(at.pack.kind)].add(chunk, self._repository.chunks.at(at))


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
    repository: Repository, writer: Writer, gone: Collection[PackId]
) -> tuple[tuple[SegmentRef, ...], tuple[SegmentId, ...]]:
    """New segments, durable, for those that name a pack that goes; and the ones that they stand for."""
    affected = [
        (ref, repository.index.reader(ref.id))
        for ref in repository.view.state.segments
        if any(row.pack in gone for row in repository.index.reader(ref.id).packs)
    ]
    new: list[SegmentRef] = []
    group: list[SegmentReader] = []
    rows = 0
    for _, reader in affected:
        if group and rows + reader.row_count > SEGMENT_ROWS_MAX:
            new += _store(repository, writer, group, gone)
            group, rows = [], 0
        group.append(reader)
        rows += reader.row_count
    new += _store(repository, writer, group, gone)
    return tuple(new), tuple(ref.id for ref, _ in affected)


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
    sealed, row_count = encode_segment(repository.keyring, table, heapq.merge(*streams))
    if not row_count:
        return []
    segment = SegmentId(object_name(sealed))
    holders = writer.put(segment_object(segment), sealed, repository.metadata_demand(segment))
    return [SegmentRef(segment, len(sealed), row_count, len(table), tuple(holders))]


def _kept(reader: SegmentReader, numbers: dict[int, int]) -> Iterator[bytes]:
    for row in reader.rows():
        number = numbers.get(int.from_bytes(row[_ID_BYTES : _ID_BYTES + 4], "big"))
        if number is not None:
            yield row[:_ID_BYTES] + number.to_bytes(4, "big") + row[_ID_BYTES + 4 : ROW_BYTES]
