"""What each snapshot needs, and which targets have it: one walk over all trees, each of them entered once.

Invariants
    Only listings count, and what was found damaged does not; a tree that cannot be read is needed and nowhere.
    Memory: some bytes a directory, and at most `CHUNKS_MAX` chunks.
"""

from collections.abc import Iterator

from drtool.errors import DrtoolError
from drtool.model import ChunkId, PackId, SegmentId, pack_object, segment_object
from drtool.operations.survive.judging import NOWHERE, Bits, Mask, Need
from drtool.repository import Repository
from drtool.repository.inventory import Inventory
from drtool.trees import FileType, read_content, read_directory

CHUNKS_MAX = 200_000


class Needs:
    """The distinct needs below trees."""

    def __init__(self, repository: Repository, inventory: Inventory, bits: Bits) -> None:
        self._repository, self._inventory, self._bits = repository, inventory, bits
        self._damaged = repository.findings.all()
        index = repository.index
        segments = {ref.id: ref.size_bytes for ref in repository.view.state.segments}
        self._readers = [
            (index.reader(segment), self._segment_mask(segment, segments.get(segment))) for segment in index.mapped()
        ]
        self._packs: dict[PackId, Mask] = {}
        self._numbers: dict[Need, int] = {}
        self.distinct: list[Need] = []
        """Every need that was met, by number; a set of needs is one number with their bits."""
        self._chunks: dict[ChunkId, int] = {}
        self._trees: dict[bytes, int] = {}

    def of(self, root: bytes) -> list[Need]:
        """The distinct needs of everything below a tree, the tree included."""
        found = self._trees.get(root)
        if found is None:
            found = self._walk(root)
        return [need for number, need in enumerate(self.distinct) if found >> number & 1]

    def _walk(self, root: bytes) -> int:
        """Depth first without recursion: a directory is done when all that are below it are."""
        stack: list[tuple[bytes, int, list[bytes]]] = [(root, *self._enter(root))]
        while True:
            tree, needs, below = stack[-1]
            if below:
                child = below.pop()
                known = self._trees.get(child)
                if known is None:
                    stack.append((child, *self._enter(child)))
                else:
                    stack[-1] = tree, needs | known, below
                continue
            self._trees[tree] = needs
            stack.pop()
            if not stack:
                return needs
            above, theirs, rest = stack[-1]
            stack[-1] = above, theirs | needs, rest

    def _enter(self, tree: bytes) -> tuple[int, list[bytes]]:
        """(what one directory itself needs, the directories in it)."""
        needs, below = 0, []
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
                        needs |= self._need_of(chunk)
        except DrtoolError:  # nobody can say what was in it
            needs |= self._numbered(NOWHERE)
        for chunk in met:
            needs |= self._need_of(chunk)
        return needs, below

    def _need_of(self, chunk: ChunkId) -> int:
        known = self._chunks.get(chunk)
        if known is None:
            if len(self._chunks) >= CHUNKS_MAX:
                self._chunks.clear()
            known = self._chunks[chunk] = self._numbered(frozenset(self._places(chunk)))
        return known

    def _places(self, chunk: ChunkId) -> Iterator[tuple[Mask, Mask]]:
        for reader, segment in self._readers:
            for location in reader.locations(chunk):
                yield self._pack_mask(location.pack.pack, location.pack.size_bytes), segment

    def _numbered(self, need: Need) -> int:
        """The bit of this need."""
        number = self._numbers.setdefault(need, len(self.distinct))
        if number == len(self.distinct):
            self.distinct.append(need)
        return 1 << number

    def _pack_mask(self, pack: PackId, size_bytes: int) -> Mask:
        mask = self._packs.get(pack)
        if mask is None:
            mask = self._packs[pack] = self._mask(pack_object(pack), size_bytes)
        return mask

    def _segment_mask(self, segment: SegmentId, size_bytes: int | None) -> Mask:
        return self._mask(segment_object(segment), size_bytes)

    def _mask(self, name: str, size_bytes: int | None) -> Mask:
        holders = self._inventory.holders(name, size_bytes)
        return self._bits.mask(target for target in holders if (target, name) not in self._damaged)
