"""Marking of the chunks that snapshots reference: one bit for each row of the index, regardless of the number of
chunks.

Invariants
    A chunk in several packs is live in one of them: the one on most sites, and if possible none that should be avoided.
    The other copies are waste.
    Marking is complete or it fails. A tree that cannot be read stops it, since the chunks below it are unknown.
    Memory is bounded. Chunks of files wait, each once and at most `WAITING_MAX`, to be looked up together, since one
    pass through a segment for many chunks costs a twentieth of a search for each.
"""

from collections.abc import Callable, Collection, Iterable, Iterator

from drtool.model import ChunkId, PackId
from drtool.packing import Location, SegmentReader
from drtool.trees import FileType, read_content, read_directory

WAITING_MAX = 250_000
_UNKNOWN = -1
_ROW_BITS = 32


class Marks:
    """Live rows of some index segments, and the live text of each pack.

    It takes a bit per row and a few words per pack.
    """

    def __init__(
        self,
        readers: Collection[SegmentReader],
        avoided: Collection[PackId] = (),
        holders: Callable[[PackId], int] = lambda _pack: 0,
    ) -> None:
        self._readers = list(readers)
        self._bits = [bytearray((reader.row_count + 7) // 8) for reader in self._readers]
        self._avoided = avoided
        self._holders = holders
        self._waiting: dict[ChunkId, int] = {}
        """Chunks to look up together, each with the first place found: segment and row in one number."""
        self.live_bytes: dict[PackId, int] = {}
        """The bytes of live text in each pack."""
        self._live_rows: dict[PackId, int] = {}
        self.stand_ins: dict[PackId, set[PackId]] = {}
        """For each pack with a chunk that is live in another pack: those other packs."""

    def mark_trees(self, roots: Iterable[bytes], fetch: Callable[[ChunkId], bytes]) -> None:
        """Mark everything below these trees. Marked trees are not entered again. KeyError for a chunk in no segment."""
        stack = list(roots)

        def marking(chunk: ChunkId) -> bytes:
            self._mark(chunk)
            return fetch(chunk)

        while stack:
            tree = stack.pop()
            if not self._mark(ChunkId(tree)):
                continue
            for entry in read_directory(tree, marking):
                if entry.type == FileType.DIRECTORY and entry.subtree:
                    stack.append(entry.subtree)
                elif entry.type == FileType.FILE:
                    self._mark_later(read_content(entry, marking))
        self._look_up_waiting()

    def live_rows_of(self, pack: PackId) -> int:
        """Return how many chunks are live in one pack."""
        return self._live_rows.get(pack, 0)

    def live_rows(self, reader: SegmentReader) -> Iterator[bytes]:
        """Yield the live rows of one segment, in order."""
        bits = self._bits[self._readers.index(reader)]
        return (row for number, row in enumerate(reader.rows()) if bits[number >> 3] & 1 << (number & 7))

    def _mark(self, chunk: ChunkId) -> bool:
        """Mark the chunk, and return whether it was not marked before."""
        places = [
            number << _ROW_BITS | row
            for number, reader in enumerate(self._readers)
            for row, _ in reader.rows_with(chunk)
        ]
        if not places:
            raise KeyError(chunk)
        return self._set(places)

    def _mark_later(self, chunks: Iterable[ChunkId]) -> None:
        for chunk in chunks:
            self._waiting[chunk] = _UNKNOWN
            if len(self._waiting) >= WAITING_MAX:
                self._look_up_waiting()

    def _look_up_waiting(self) -> None:
        waiting, self._waiting = self._waiting, {}
        several: dict[ChunkId, list[int]] = {}
        for number, reader in enumerate(self._readers):
            for row, chunk in reader.numbers_of(waiting):
                place = number << _ROW_BITS | row
                if waiting[chunk] == _UNKNOWN:
                    waiting[chunk] = place
                else:
                    several.setdefault(chunk, [waiting[chunk]]).append(place)
        for chunk, place in waiting.items():
            if place == _UNKNOWN:
                raise KeyError(chunk)
            self._set(several.get(chunk) or (place,))

    def _set(self, places: Collection[int]) -> bool:
        """Set the bit of the best of a chunk's places, and return whether it was not set."""
        place = next(iter(places)) if len(places) == 1 else max(places, key=self._rank)
        bits, row = self._bits[place >> _ROW_BITS], place & (1 << _ROW_BITS) - 1
        byte, bit = row >> 3, 1 << (row & 7)
        if bits[byte] & bit:
            return False
        bits[byte] |= bit
        at = self._location(place)
        pack = at.pack.pack
        for other in places if len(places) > 1 else ():
            self._stand_in(pack, self._location(other).pack.pack)
        self.live_bytes[pack] = self.live_bytes.get(pack, 0) + at.length
        self._live_rows[pack] = self._live_rows.get(pack, 0) + 1
        return True

    def _stand_in(self, pack: PackId, other: PackId) -> None:
        if pack != other:
            self.stand_ins.setdefault(other, set()).add(pack)

    def _location(self, place: int) -> Location:
        return self._readers[place >> _ROW_BITS].location_at(place & (1 << _ROW_BITS) - 1)

    def _rank(self, place: int) -> tuple[bool, int, bytes, int]:
        pack = self._location(place).pack.pack
        return pack not in self._avoided, self._holders(pack), pack, -place
