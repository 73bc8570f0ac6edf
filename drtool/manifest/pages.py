"""The objects under a head: a checkpoint, pages of snapshots, pages of the log. All are immutable and
content-addressed.

A checkpoint holds the small part of the state and the list of pages. Folding moves a head's recent changes under a new
checkpoint: their snapshots become a page, and their log rows another. Eight neighbouring pages of one size class become
one (a geometric merge, in which each row is rewritten at most three times), up to a size at which pages are left alone.
So a host that has read the manifest before fetches the checkpoint and a few small pages, regardless of the length of
the history.

Invariants
    A page is never changed. A page that lost more than an eighth of its snapshots is replaced by one without them.
    `dead` holds the positions of forgotten snapshots in a page, which readers skip.
    An object that a fold replaced is named in `retired`, and deleted only `RETIRED_CHANGES` later. By then only a
    reader that is far behind can still ask for it.

Source: O'Neil et al. 1996 (log-structured merge trees), with fan-out 8 and three levels.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TypeVar

import msgspec
from blake3 import blake3

from drtool.manifest.catalogue import Catalogue, Page
from drtool.manifest.head import NO_DIGEST, Head, Reference, digests_of, reference_to
from drtool.manifest.ops import kind_of, summary_of
from drtool.manifest.records import Forgotten, Row, Snapshot
from drtool.manifest.state import Core, State

FAN_OUT = 8
LEVEL_ROWS = (256, 2048)
DEAD_SHARE = 8
RETIRED_CHANGES = 256
LOG_DIGEST_BYTES = 16

R = TypeVar("R", bound=Row)


class PageRef(Row, frozen=True):
    """A page: its reference, its number of rows, and the positions that no longer count."""

    reference: Reference
    rows: int
    dead: tuple[int, ...] = ()


class LogRow(Row, frozen=True):
    """One change as shown by `manifest log` and used by `check`: time, author, op, and the start of the digest after
    it.
    """

    sequence: int
    time_ns: int
    host: str
    kind: str
    summary: str
    digest: bytes


class SnapshotPage(Row, frozen=True):
    snapshots: tuple[Snapshot, ...]


class LogPage(Row, frozen=True):
    rows: tuple[LogRow, ...]


class ForgottenPage(Row, frozen=True):
    rows: tuple[Forgotten, ...]


class NameList(Row, frozen=True):
    """Names of packs and index segments that prune condemns and removes, sorted and joined, 32 bytes each."""

    packs: bytes = b""
    segments: bytes = b""


class Retired(Row, frozen=True):
    name: bytes
    sequence: int


class Checkpoint(Row, frozen=True):
    """The state at one sequence, and the history up to there. Forgotten snapshots are in a page of their own."""

    sequence: int
    digest: bytes
    core: Core
    snapshot_pages: tuple[PageRef, ...] = ()
    log_pages: tuple[PageRef, ...] = ()
    retired: tuple[Retired, ...] = ()
    forgotten: PageRef | None = None
    forgotten_hash: bytes = b""

    def pages(self) -> tuple[PageRef, ...]:
        """Return every page below this checkpoint."""
        return (*self.snapshot_pages, *self.log_pages, *((self.forgotten,) if self.forgotten else ()))


class Fold:
    """A new checkpoint under construction: the objects to store before a head may name it."""

    def __init__(self, seal: Callable[[Row], bytes]) -> None:
        self._seal = seal
        self.objects: dict[bytes, bytes] = {}
        self.loaded: dict[bytes, Row] = {}

    def add(self, row: Row) -> Reference:
        sealed = self._seal(row)
        reference = reference_to(sealed)
        self.objects[reference.name] = sealed
        self.loaded[reference.name] = row
        return reference


def fold(
    fold_: Fold, head: Head, state: State, under: Checkpoint | None, log_pages: Mapping[bytes, LogPage]
) -> tuple[Reference, Checkpoint]:
    """Return the checkpoint at `head` with `state`. `log_pages` holds those that `log_pages_to_merge` named."""
    before = under or Checkpoint(0, NO_DIGEST, state.core())
    snapshot_pages = _snapshot_pages(fold_, state.snapshots, before.snapshot_pages)
    log = _log_pages(fold_, head, before.log_pages, log_pages)
    forgotten, forgotten_hash = _forgotten_page(fold_, state, before)
    core = msgspec.structs.replace(state.core(), forgotten=())
    new = Checkpoint(head.sequence, head.digest, core, snapshot_pages, log, (), forgotten, forgotten_hash)
    kept = {page.reference.name for page in new.pages()}
    gone = [page.reference.name for page in before.pages()] + ([head.checkpoint.name] if head.checkpoint else [])
    retired = tuple(Retired(name, head.sequence) for name in gone if name not in kept)
    still = tuple(row for row in before.retired if row.sequence > head.sequence - RETIRED_CHANGES)
    checkpoint = msgspec.structs.replace(new, retired=(*still, *retired))
    return fold_.add(checkpoint), checkpoint


def _forgotten_page(fold_: Fold, state: State, before: Checkpoint) -> tuple[PageRef | None, bytes]:
    """Return the page of forgotten snapshots, which is the present one if none was forgotten or pruned since."""
    if not state.forgotten:
        return None, b""
    page = ForgottenPage(state.forgotten)
    content_hash = blake3(msgspec.msgpack.encode(page)).digest()
    if content_hash == before.forgotten_hash:
        return before.forgotten, content_hash
    return PageRef(fold_.add(page), len(state.forgotten)), content_hash


def removable(under: Checkpoint | None, sequence: int) -> tuple[bytes, ...]:
    """Return the objects that the fold at `sequence` drops from `retired`, to be deleted once its head is chosen."""
    rows = under.retired if under else ()
    return tuple(row.name for row in rows if row.sequence <= sequence - RETIRED_CHANGES)


def log_pages_to_merge(under: Checkpoint | None) -> tuple[Reference, ...]:
    """Return the log pages whose content the next fold needs."""
    pages = under.log_pages if under else ()
    first = merge_from([page.rows for page in pages] + [1])
    return tuple(page.reference for page in pages[first:])


def merge_from(sizes: Sequence[int]) -> int:
    """Return the position of the first of the trailing pages to merge, or the last position if there are none."""
    first, rows = len(sizes) - 1, sizes[-1] if sizes else 0
    while True:
        level = _level(rows)
        start = first
        while start > 0 and _level(sizes[start - 1]) <= level:
            start -= 1
        if level >= len(LEVEL_ROWS) or first - start < FAN_OUT - 1:
            return max(first, 0)
        first, rows = start, sum(sizes[start:])


def log_rows(head: Head) -> list[LogRow]:
    """Return the head's recent changes as rows of the log."""
    digests = digests_of(head)[1:]
    return [
        LogRow(
            head.checkpoint_sequence + i,
            change.time_ns,
            change.host,
            kind_of(change.op),
            summary_of(change.op),
            digest[:LOG_DIGEST_BYTES],
        )
        for i, (change, digest) in enumerate(zip(head.recent, digests, strict=True), start=1)
    ]


def catalogue_of(refs: Sequence[PageRef], pages: Mapping[bytes, SnapshotPage]) -> Catalogue:
    """Return the snapshots of a checkpoint."""
    content: tuple[Page, ...] = tuple(pages[ref.reference.name].snapshots for ref in refs)
    dropped = frozenset(page[position].id for ref, page in zip(refs, content, strict=True) for position in ref.dead)
    return Catalogue(content, dropped=dropped)


def _level(rows: int) -> int:
    return sum(rows >= limit for limit in LEVEL_ROWS)


def _log_pages(
    fold_: Fold, head: Head, refs: Sequence[PageRef], content: Mapping[bytes, LogPage]
) -> tuple[PageRef, ...]:
    new = log_rows(head)
    first = merge_from([ref.rows for ref in refs] + [1])
    lost = [position for position, ref in enumerate(refs) if position >= first and ref.reference.name not in content]
    first = max(lost) + 1 if lost else first  # a page that is missing at every site stays unmerged
    rows = [row for ref in refs[first:] for row in content[ref.reference.name].rows]
    page = LogPage((*rows, *new))
    return (*refs[:first], PageRef(fold_.add(page), len(page.rows)))


def _snapshot_pages(fold_: Fold, snapshots: Catalogue, refs: Sequence[PageRef]) -> tuple[PageRef, ...]:
    parts = list(_parts(snapshots, refs))
    first = merge_from([len(rows) for _, rows in parts])
    if len(parts) - first > 1:
        merged = tuple(row for _, rows in parts[first:] for row in rows if row.id not in snapshots.dropped)
        parts[first:] = [(None, merged)]
    return tuple(ref or PageRef(fold_.add(SnapshotPage(rows)), len(rows)) for ref, rows in parts if rows)


def _parts(snapshots: Catalogue, refs: Sequence[PageRef]) -> Iterator[tuple[PageRef | None, Page]]:
    """Yield the pages as they would be without a merge. The reference is None for those that must be written."""
    dropped = snapshots.dropped
    for ref, page in zip(refs, snapshots.pages, strict=True):
        dead = tuple(i for i, row in enumerate(page) if row.id in dropped) if dropped else ()
        if len(dead) * DEAD_SHARE > len(page):
            live = tuple(row for row in page if row.id not in dropped)
            if live:
                yield None, live
        else:
            yield (ref if dead == ref.dead else PageRef(ref.reference, ref.rows, dead)), page
    added = tuple(row for row in snapshots.added if row.id not in dropped)
    if added:
        yield None, added
