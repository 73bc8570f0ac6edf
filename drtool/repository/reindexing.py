"""Index segments that no site has: stored again from this host's cache, or rebuilt from the packs.

Invariants
    The prune session is open before anything is listed. So nothing is condemned or removed meanwhile, and condemned
    objects count again, since a lost segment may be the only one that named them.
    A lost segment stays named until all packs that it may have named were read and everything that the snapshots need
    is found without it. While it is named, prune removes nothing and verification reports missing data.
    Backups go on. A run that dies leaves extra segments, or objects that prune removes, and the next run continues from
    there.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from typing import TYPE_CHECKING

from msgspec import Struct

from drtool.errors import DrtoolError, Rejected
from drtool.events import Emit, Progress, Stage, Warned
from drtool.manifest.ops import ReplaceIndex, Withdraw
from drtool.manifest.records import SegmentRef
from drtool.model import ChunkId, PackId, SegmentId, TargetName, segment_object
from drtool.packing.segment import SEGMENT_ROWS_MAX, rows_of
from drtool.repository.copying import Amount
from drtool.repository.footers import Read, read_packs, unnamed
from drtool.repository.inventory import Inventory, take_inventory
from drtool.repository.marking import Marks
from drtool.repository.segments import store_segment
from drtool.repository.session import NOT_OPEN, SEGMENTS_CHANGED, Overtaken, WriterSession
from drtool.repository.writing import Writer

if TYPE_CHECKING:
    from drtool.repository.repository import Repository

ROWS_AT_ONCE = SEGMENT_ROWS_MAX // 2
ATTEMPTS = 8
AT_WORK = "a prune is in progress: run this again to rebuild the index segments that no site has"


class Prospect(Struct, frozen=True):
    """Segments that no site has, those of them in this host's cache, and the number of listed packs that no segment
    names.
    """

    lost: list[SegmentRef]
    cached: frozenset[SegmentId]
    packs: int

    @property
    def hopeful(self) -> list[SegmentRef]:
        """Return those that can be restored."""
        return [ref for ref in self.lost if ref.id in self.cached or self.packs]

    def words(self) -> str:
        segments = f"{len(self.lost)} index segment{'' if len(self.lost) == 1 else 's'}"
        return (
            f"{segments} without a good copy at any site: {len(self.cached)} in this host's cache;"
            f" the others are rebuilt from {self.packs} pack{'' if self.packs == 1 else 's'}"
        )


class Reindexed(Struct, frozen=True):
    """`stored`: new index segments.

    `unreadable`: packs without a whole copy, while data is missing that they may have held.
    """

    stored: Amount = Amount()
    unreadable: tuple[PackId, ...] = ()


def lost_segments(
    repository: "Repository", inventory: Inventory, bad: Mapping[str, set[TargetName]]
) -> list[SegmentRef]:
    """Return live segments without a listed copy, or only with copies that are damaged or could not be read just now.

    One that can be read but not parsed, by this version or with this password's keys, is not lost.
    """
    failed = repository.objects.bad_copies

    def is_there(ref: SegmentRef) -> bool:
        name = segment_object(ref.id)
        holders = set(inventory.holders(name, ref.size_bytes)) - bad.get(name, set())
        return any((target, name) not in failed for target in holders)

    return [ref for ref in repository.view.state.segments if not is_there(ref)]


def prospect(repository: "Repository", inventory: Inventory, bad: Mapping[str, set[TargetName]]) -> Prospect:
    """Return the work of `reindex`."""
    lost = lost_segments(repository, inventory, bad)
    cached = frozenset(ref.id for ref in lost) & repository.index.mapped()
    return Prospect(lost, cached, len(_packs_to_read(repository, inventory)) if len(lost) > len(cached) else 0)


def _packs_to_read(repository: "Repository", inventory: Inventory) -> dict[PackId, dict[TargetName, int]]:
    """Return packs that no segment names, except those that are being removed for good."""
    named = {row.pack for row in repository.index.packs()}
    return unnamed(inventory, named | repository.going_packs(repository.view, to_read=True))


def reindex(repository: "Repository", bad: Mapping[str, set[TargetName]], workers: int, emit: Emit) -> Reindexed:
    """Restore the content of the lost segments, as far as it exists anywhere."""
    emit(Stage(name="indexing"))
    with closing(repository.writer()) as writer:
        session = _begin(repository, writer)
        if session is None:
            emit(Warned(message=AT_WORK))
            return Reindexed()
        try:
            return _Work(repository, writer, session, workers, emit).go(bad)
        except Rejected as error:
            if error.reason != NOT_OPEN:
                raise
            raise Overtaken("the session of this run expired, so it stopped", hint="run it again") from error
        finally:
            session.abandon()


def _begin(repository: "Repository", writer: Writer) -> WriterSession | None:
    """Return a session, or None while a prune is in progress. The second attempt detects whether that one died."""
    for _ in range(2):
        try:
            return repository.begin(writer, "repair", "prune")
        except Rejected as error:
            if error.reason != "prune-open":
                raise
            repository.adopt(repository.manifest.read())
    return None


class _Work:
    def __init__(
        self, repository: "Repository", writer: Writer, session: WriterSession, workers: int, emit: Emit
    ) -> None:
        self._repository, self._writer, self._session = repository, writer, session
        self._workers, self._emit = workers, emit
        self._complete = True
        self._unreadable: list[PackId] = []

    def go(self, bad: Mapping[str, set[TargetName]]) -> Reindexed:
        repository = self._repository
        repository.load_index()
        inventory = take_inventory(repository.targets)
        lost = lost_segments(repository, inventory, bad)
        cached = [ref.id for ref in lost if ref.id in repository.index.mapped()]
        stored = self._store_again(cached)
        rest = [ref.id for ref in lost if ref.id not in cached]
        if rest:
            self._count_condemned_again()
            stored += self._build(inventory)
            self._complete &= not any(repository.may_hold(row, inventory) for row in self._places())
            if self._complete and self._nothing_missing():
                self._unreadable.clear()
                self._replace([], dict.fromkeys(rest))
        together = Amount(len(stored), sum(ref.size_bytes for ref in stored))
        return Reindexed(together, tuple(self._unreadable))

    def _places(self) -> Iterator[TargetName]:
        return (row.name for row in self._repository.view.state.targets if not row.votes_only)

    def _count_condemned_again(self) -> None:
        condemned = self._session.view.state.condemned
        if condemned is not None:
            op = Withdraw(condemned.sequence, self._session.id)
            self._repository.adopt(self._repository.manifest.commit(op).view)

    def _store_again(self, segments: Sequence[SegmentId]) -> list[SegmentRef]:
        """Store those in this host's cache under new names."""
        index = self._repository.index
        new: dict[SegmentId, SegmentRef | None] = {}
        for segment in segments:
            reader = index.reader(segment)
            new[segment] = store_segment(self._repository, self._writer, reader.packs, reader.rows())
            self._session.renew()
        self._replace([], new)
        return [ref for ref in new.values() if ref is not None]

    def _build(self, inventory: Inventory) -> list[SegmentRef]:
        """Build segments for the packs that are listed and whole, and that no segment names."""
        repository = self._repository
        packs = _packs_to_read(repository, inventory)
        total_bytes = sum(max(sizes.values()) for sizes in packs.values())
        done_bytes = 0
        new: list[SegmentRef] = []
        batch: list[Read] = []
        row_count = 0
        for read in read_packs(repository.targets, repository.keyring, packs, self._workers):
            self._session.renew()
            done_bytes += max(packs[read.pack].values())
            self._emit(Progress(processed_bytes=done_bytes, total_bytes=total_bytes))
            if read.contents is None:
                self._complete &= read.sure
                self._unreadable.append(read.pack)
                continue
            batch.append(read)
            row_count += sum(len(block.lengths) for block in read.contents.blocks)
            if row_count >= ROWS_AT_ONCE:
                new += self._store(batch)
                batch, row_count = [], 0
        new += self._store(batch)
        return new

    def _store(self, batch: Sequence[Read]) -> list[SegmentRef]:
        table = [row for read in batch if (row := read.row()) is not None]
        rows = sorted(
            row for number, read in enumerate(batch) if read.contents for row in rows_of(number, read.contents)
        )
        ref = store_segment(self._repository, self._writer, table, rows) if table else None
        if ref is None:
            return []
        self._replace([ref], {})
        return [ref]

    def _replace(self, new: Sequence[SegmentRef], instead: Mapping[SegmentId, SegmentRef | None]) -> None:
        """Commit the `new` segments, and others `instead` of some that no other run has replaced meanwhile."""
        repository = self._repository
        for _ in range(ATTEMPTS):
            live = {ref.id for ref in repository.view.state.segments}
            there = {old: ref for old, ref in instead.items() if old in live}
            added = (*new, *(ref for ref in there.values() if ref is not None))
            if not added and not there:
                return
            try:
                op = ReplaceIndex(added, tuple(there), self._session.id)
                repository.adopt(repository.manifest.commit(op).view)
            except Rejected as error:
                if error.reason != SEGMENTS_CHANGED:
                    raise
                repository.adopt(repository.manifest.read())
            else:
                return
        raise DrtoolError("other runs kept changing the index", hint="run it again when they are done")

    def _nothing_missing(self) -> bool:
        """Return whether everything that the snapshots need is in the present index."""
        repository = self._repository
        self._emit(Stage(name="marking"))
        repository.adopt(repository.manifest.read())

        def fetch(chunk: ChunkId) -> bytes:
            self._session.renew()
            return repository.chunks(chunk)

        try:
            Marks(repository.index.readers()).mark_trees((row.root for row in repository.view.state.snapshots), fetch)
        except (KeyError, DrtoolError):
            return False
        return True
