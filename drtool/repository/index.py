"""The index: the live segments, mapped from the cache, and lookups in them without loading them.

Invariants
    A segment is fetched from any target that has it, and checked by its name. One that cannot be obtained is reported
    and skipped.
"""

import heapq
import mmap
from collections.abc import Iterable, Iterator, Sequence

from drtool.crypto import Keyring
from drtool.errors import DrtoolError, FormatError
from drtool.manifest.records import SegmentRef
from drtool.model import ChunkId, PackId, SegmentId
from drtool.packing import Location, SegmentPack, SegmentReader, unseal_segment
from drtool.packing.segment import ROW_BYTES
from drtool.repository.cache import Cache
from drtool.repository.reading import ObjectReader

MERGE_AT = 8
_CLASS_BASE_ROWS = 4096


class Index:
    """The merged view of some segments. `unavailable` names those that no target could provide."""

    def __init__(self, cache: Cache, keyring: Keyring, objects: ObjectReader) -> None:
        self._cache = cache
        self._keyring = keyring
        self._objects = objects
        self._readers: dict[SegmentId, SegmentReader] = {}
        self.unavailable: dict[SegmentId, str] = {}
        self.lost: frozenset[PackId] = frozenset()
        """Packs that no site has. Chunks in them are not found."""

    def load(self, segments: Iterable[SegmentRef]) -> None:
        """Map every segment that is not mapped yet, and drop those that are no longer live."""
        live = {ref.id for ref in segments}
        self.unavailable = {}
        self._readers = {id_: reader for id_, reader in self._readers.items() if id_ in live}
        for segment in live - self._readers.keys():
            try:
                self._readers[segment] = self._reader(segment)
            except DrtoolError as error:
                self.unavailable[segment] = error.message

    def map_more(self, segment: SegmentId) -> None:
        """Map one more segment, which this run has just stored."""
        if segment not in self._readers:
            self._readers[segment] = self._reader(segment)

    def _reader(self, segment: SegmentId) -> SegmentReader:
        try:
            return SegmentReader(self._form(segment))
        except FormatError:  # an older program's cache, intact but in another layout
            self._cache.forget_segment(segment)
            return SegmentReader(self._form(segment))

    def _form(self, segment: SegmentId) -> bytes | mmap.mmap:
        return self._cache.segment(segment, lambda: unseal_segment(self._keyring, self._objects.segment(segment)))

    def __contains__(self, chunk: ChunkId) -> bool:
        if self.lost:
            return self.locate(chunk) is not None
        return any(chunk in reader for reader in self._readers.values())

    def locate(self, chunk: ChunkId) -> Location | None:
        """Return a place of the chunk whose pack is not lost."""
        return next(self.locations(chunk), None)

    def locations(self, chunk: ChunkId) -> Iterator[Location]:
        """Return every place of the chunk whose pack is not lost."""
        return (location for location in self.everywhere(chunk) if location.pack.pack not in self.lost)

    def everywhere(self, chunk: ChunkId) -> Iterator[Location]:
        """Yield every place of the chunk, lost packs included."""
        for reader in self._readers.values():
            yield from reader.locations(chunk)

    def packs(self) -> Iterator[SegmentPack]:
        """Yield every pack that a live segment names. A pack may occur twice."""
        for reader in self._readers.values():
            yield from reader.packs

    def readers(self) -> list[SegmentReader]:
        return list(self._readers.values())

    def reader(self, segment: SegmentId) -> SegmentReader:
        return self._readers[segment]

    def mapped(self) -> set[SegmentId]:
        return set(self._readers)


def size_class(rows: int) -> int:
    """Return the size class. Segments of one class differ in rows by less than a factor of `MERGE_AT`."""
    level, bound = 0, _CLASS_BASE_ROWS
    while rows >= bound:
        level, bound = level + 1, bound * MERGE_AT
    return level


def to_merge(live: Sequence[SegmentRef], added_rows: int, rows_max: int) -> list[SegmentRef]:
    """Return the live segments that a commit which adds one of `added_rows` should merge into it, often none.

    Merging may lift the result into a class that is also full. Then that one is merged too.
    """
    chosen: list[SegmentRef] = []
    rows = added_rows
    while True:
        level = size_class(rows)
        peers = [ref for ref in live if ref not in chosen and size_class(ref.rows) <= level]
        if len(peers) + 1 < MERGE_AT or rows + sum(ref.rows for ref in peers) > rows_max:
            return chosen
        chosen += peers
        rows += sum(ref.rows for ref in peers)


def merged(
    readers: Sequence[SegmentReader], packs: Sequence[SegmentPack], rows: Iterable[bytes]
) -> tuple[list[SegmentPack], Iterator[bytes]]:
    """Return one pack table and one sorted stream of rows, from several segments and new unsorted rows."""
    table = list(packs)
    streams: list[Iterator[bytes]] = [iter(sorted(rows))]
    for reader in readers:
        streams.append(_renumbered(reader.rows(), len(table)))
        table += reader.packs
    return table, heapq.merge(*streams)


def _renumbered(rows: Iterator[bytes], shift: int) -> Iterator[bytes]:
    for row in rows:
        number = int.from_bytes(row[32:36], "big") + shift
        yield row[:32] + number.to_bytes(4, "big") + row[36:ROW_BYTES]
