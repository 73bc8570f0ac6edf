"""The needs of each snapshot, and the targets that meet them: one walk over all trees, entering each tree once.

Invariants
    Only listed copies that are not ruled out count. A tree that cannot be read is a need that nothing meets.
    Memory: a few bytes per directory, and at most `CHUNKS_MAX` chunks. At most `MISSING_MAX` missing packs are
    distinguished.
"""

from collections.abc import Collection, Iterator

from msgspec import Struct

from drtool.errors import DrtoolError
from drtool.model import ChunkId, PackId, SegmentId, pack_object, segment_object
from drtool.operations.survive.judging import NOWHERE, Bits, Mask, Need, is_met
from drtool.repository import Repository
from drtool.repository.findings import Copy
from drtool.repository.inventory import Inventory
from drtool.trees import FileType, read_content, read_directory

CHUNKS_MAX = 200_000
MISSING_MAX = 1024
_SOMEWHERE = PackId(b"")
"""Stands for packs that cannot be identified, since the data that would name them cannot be read."""


class Below(Struct, frozen=True):
    """Bit sets for a tree and everything below it: the numbers of its needs, and its packs that would be missing."""

    needs: int = 0
    missing: int = 0

    def __or__(self, other: "Below") -> "Below":
        return Below(self.needs | other.needs, self.missing | other.missing)


class Needs:
    """The distinct needs below trees.

    `lost`: the targets that are imagined to be gone. `ruled_out`: listed copies that do not count.
    """

    def __init__(
        self, repository: Repository, inventory: Inventory, bits: Bits, lost: Mask, ruled_out: Collection[Copy]
    ) -> None:
        self._repository, self._inventory, self._bits = repository, inventory, bits
        self._lost, self._ruled_out = lost, ruled_out
        index = repository.index
        segments = {ref.id: ref.size_bytes for ref in repository.view.state.segments}
        self._readers = [
            (index.reader(segment), self._segment_mask(segment, segments.get(segment))) for segment in index.mapped()
        ]
        self._packs: dict[PackId, Mask] = {}
        self._numbers: dict[Need, int] = {}
        self.distinct: list[Need] = []
        """Every distinct need, by number. A set of needs is an integer with their bits."""
        self._missing: dict[PackId, int] = {}
        self._chunks: dict[ChunkId, Below] = {}
        self._trees: dict[bytes, Below] = {}

    def of(self, root: bytes) -> tuple[list[Need], int]:
        """Return the distinct needs of a tree and everything below it, and the number of its packs that would be
        missing.
        """
        found = self._trees.get(root)
        if found is None:
            found = self._walk(root)
        needs = [need for number, need in enumerate(self.distinct) if found.needs >> number & 1]
        return needs, found.missing.bit_count()

    def _walk(self, root: bytes) -> Below:
        """Walk depth first without recursion: a directory is finished after all directories below it."""
        stack: list[tuple[bytes, Below, list[bytes]]] = [(root, *self._enter(root))]
        while True:
            tree, found, below = stack[-1]
            if below:
                child = below.pop()
                known = self._trees.get(child)
                if known is None:
                    stack.append((child, *self._enter(child)))
                else:
                    stack[-1] = tree, found | known, below
                continue
            self._trees[tree] = found
            stack.pop()
            if not stack:
                return found
            above, theirs, rest = stack[-1]
            stack[-1] = above, theirs | found, rest

    def _enter(self, tree: bytes) -> tuple[Below, list[bytes]]:
        """Return (what one directory itself needs, the directories in it)."""
        found, below = Below(), []
        met: list[ChunkId] = []

        def fetch(chunk: ChunkId) -> bytes:
            met.append(chunk)
            return self._repository.chunks(chunk)

        try:
            for entry in read_directory(tree, fetch):
                if entry.type == FileType.DIRECTORY and entry.subtree:
                    below.append(entry.subtree)
                elif entry.type == FileType.FILE:
                    for chunk in read_content(entry, fetch):
                        found |= self._need_of(chunk)
        except DrtoolError:  # its contents are unknown
            found |= Below(self._numbered(NOWHERE), self._missing_bit(_SOMEWHERE))
        for chunk in met:
            found |= self._need_of(chunk)
        return found, below

    def _need_of(self, chunk: ChunkId) -> Below:
        known = self._chunks.get(chunk)
        if known is None:
            if len(self._chunks) >= CHUNKS_MAX:
                self._chunks.clear()
            places = list(self._places(chunk))
            need = frozenset((pack, segment) for _, pack, segment in places)
            missing = 0 if is_met(need, self._lost) else self._missing_bit(self._pack_to_blame(places))
            known = self._chunks[chunk] = Below(self._numbered(need), missing)
        return known

    def _places(self, chunk: ChunkId) -> Iterator[tuple[PackId, Mask, Mask]]:
        for reader, segment in self._readers:
            for location in reader.locations(chunk):
                row = location.pack
                yield row.pack, self._pack_mask(row.pack, row.size_bytes), segment

    def _pack_to_blame(self, places: Collection[tuple[PackId, Mask, Mask]]) -> PackId:
        """Return one of the packs that hold a lost chunk, always the same one."""
        gone = [pack for pack, mask, _ in places if not mask & ~self._lost]
        return min(gone or [pack for pack, _, _ in places], default=_SOMEWHERE)

    def _numbered(self, need: Need) -> int:
        """Return the bit of this need."""
        number = self._numbers.setdefault(need, len(self.distinct))
        if number == len(self.distinct):
            self.distinct.append(need)
        return 1 << number

    def _missing_bit(self, pack: PackId) -> int:
        """Return the bit of this pack. The last bit stands for all further packs."""
        return 1 << self._missing.setdefault(pack, min(len(self._missing), MISSING_MAX - 1))

    def _pack_mask(self, pack: PackId, size_bytes: int) -> Mask:
        mask = self._packs.get(pack)
        if mask is None:
            mask = self._packs[pack] = self._mask(pack_object(pack), size_bytes)
        return mask

    def _segment_mask(self, segment: SegmentId, size_bytes: int | None) -> Mask:
        return self._mask(segment_object(segment), size_bytes)

    def _mask(self, name: str, size_bytes: int | None) -> Mask:
        holders = self._inventory.holders(name, size_bytes)
        return self._bits.mask(target for target in holders if (target, name) not in self._ruled_out)
