"""What the snapshots refer to: one bit for each row of the index, whatever the number of chunks.

Invariants
    A chunk that lies in several packs is live in one of them: the one that most sites hold, and none that is to be avoided
    if there is another. The rest is waste.
    Marking is complete or it fails: a tree that cannot be read stops it, since what lies below is not known.
"""

from collections.abc import Callable, Collection, Iterable, Iterator

from drtool.model import ChunkId, PackId
from drtool.packing import Location, SegmentReader
from drtool.trees import FileType, read_content, read_directory


class Marks:
    """Live rows of some index segments, and how much text is live in each pack. A bit a row; a few words a pack."""

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
        self.live_bytes: dict[PackId, int] = {}
        """Text bytes that are live in each pack."""
        self._live_rows: dict[PackId, int] = {}

    def mark(self, chunk: ChunkId) -> bool:
        """Whether the chunk was not marked before. KeyError if no segment has it."""
        found = [
            (number, row, at) for number, reader in enumerate(self._readers) for row, at in reader.rows_with(chunk)
        ]
        if not found:
            raise KeyError(chunk)
        number, row, at = found[0] if len(found) == 1 else max(found, key=lambda place: self._rank(place[2]))
        bits, byte, bit = self._bits[number], row >> 3, 1 << (row & 7)
        if bits[byte] & bit:
            return False
        bits[byte] |= bit
        pack = at.pack.pack
        self.live_bytes[pack] = self.live_bytes.get(pack, 0) + at.length
        self._live_rows[pack] = self._live_rows.get(pack, 0) + 1
        return True

    def mark_trees(self, roots: Iterable[bytes], fetch: Callable[[ChunkId], bytes]) -> None:
        """Everything below these trees; what was marked before is not entered again."""
        stack = list(roots)

        def marking(chunk: ChunkId) -> bytes:
            self.mark(chunk)
            return fetch(chunk)

        while stack:
            tree = stack.pop()
            if not self.mark(ChunkId(tree)):
                continue
            for entry in read_directory(tree, marking):
                if entry.type == FileType.DIRECTORY and entry.subtree:
                    stack.append(entry.subtree)
                elif entry.type == FileType.FILE:
                    for chunk in read_content(entry, marking):
                        self.mark(chunk)

    def live_rows_of(self, pack: PackId) -> int:
        """How many chunks are live in one pack."""
        return self._live_rows.get(pack, 0)

    def live_rows(self, reader: SegmentReader) -> Iterator[bytes]:
        """The rows of one segment that are live, in order."""
        bits = self._bits[self._readers.index(reader)]
        return (row for number, row in enumerate(reader.rows()) if bits[number >> 3] & 1 << (number & 7))

    def _rank(self, at: Location) -> tuple[bool, int, bytes]:
        pack = at.pack.pack
        return pack not in self._avoided, self._holders(pack), pack
