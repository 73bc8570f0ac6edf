"""Snapshots of this host that a forced recovery gave up: finding them, and adding them again.

Invariants
    A snapshot is added again only if no change in the recovered log added it. If the log has one but the catalogue does
    not list the snapshot, it was forgotten, and prune may have removed its data.
    A snapshot that this host itself forgot after the point of recovery is not added again.
    While the log cannot be read, nothing is added, and nothing is dropped from this host's memory.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence

import msgspec
from blake3 import blake3

from drtool.errors import NoQuorum, ObjectMissing, Rejected
from drtool.manifest.drafting import Author
from drtool.manifest.library import Learned, Library
from drtool.manifest.ops import AddSnapshot, CheckpointSession, ForgetSnapshots, Op, OpenSession, kind_of, summary_of
from drtool.manifest.pages import LogRow, log_rows
from drtool.manifest.ports import LocalState, Note, Talk
from drtool.manifest.records import SegmentRef
from drtool.manifest.state import State
from drtool.manifest.witness import Made
from drtool.model import SessionId, SiteName, SnapshotId

ADDED_ALREADY = ("session-exists", "snapshot-exists")
REMOVED_SINCE = "removed-since"

Batch = tuple[Op, ...]


def add_again(
    local: LocalState,
    library: Library,
    sites: Sequence[SiteName],
    author: Author,
    look: Callable[[], Talk[Learned]],
    commit: Callable[[Batch], Talk[object]],
) -> Talk[int]:
    """Add the snapshots of this host that forced recoveries gave up, and return how many."""
    generation = local.witness().generation
    old = [entry for entry in local.made() if entry.generation < generation]
    if not old:
        return 0
    learned = yield from look()
    try:
        lost = yield from given_up(library, sites, learned, local.made(), old)
    except (NoQuorum, ObjectMissing) as error:
        yield Note(
            "warning",
            f"which snapshots the recovery gave up cannot be determined yet, so none is added again: {error.message}",
        )
        return 0
    batches = batches_of(lost, old, learned.state, author)
    count = 0
    for batch in batches:
        count += yield from _committed(batch, commit)
    for entry in old:
        local.forget_made(entry)
    for words in _words(lost if count else (), old, learned.state):
        yield Note("warning", words)
    return count


def _committed(batch: Batch, commit: Callable[[Batch], Talk[object]]) -> Talk[bool]:
    """Commit `batch`, and return whether its snapshot is in the catalogue now."""
    try:
        yield from commit(batch)
    except Rejected as error:
        if error.reason == REMOVED_SINCE:  # a prune removed unreferenced data, so the snapshot stays given up
            yield Note("warning", error.message)
            return False
        if error.reason not in ADDED_ALREADY:
            raise
    return True


def given_up(
    library: Library, sites: Sequence[SiteName], learned: Learned, made: Iterable[Made], old: Iterable[Made]
) -> Talk[list[AddSnapshot]]:
    """Return the snapshots in `old` that the line of `learned` never contained and that this host did not forget."""
    forgotten = _forgotten_in(made)
    asked = [
        change.op
        for entry in old
        for change in entry.changes
        if isinstance(change.op, AddSnapshot) and change.op.snapshot.id not in forgotten
    ]
    unlisted = [op for op in asked if op.snapshot.id not in learned.state.snapshots]
    if not unlisted:
        return []
    added = yield from _additions(library, sites, learned)
    return [op for op in unlisted if (kind_of(op), summary_of(op)) not in added]


def _additions(library: Library, sites: Sequence[SiteName], learned: Learned) -> Talk[set[tuple[str, str]]]:
    """Return the log's kind and summary of every snapshot that was ever added in this line."""
    rows: list[LogRow] = list(log_rows(learned.head))
    for page in learned.checkpoint.log_pages if learned.checkpoint else ():
        pages = yield from library.log_pages(sites, [page.reference])
        rows += pages[page.reference.name].rows
    return {(row.kind, row.summary) for row in rows if row.kind == "add-snapshot"}


def batches_of(lost: Sequence[AddSnapshot], old: Sequence[Made], state: State, author: Author) -> list[Batch]:
    """Return one batch for each snapshot, under a session of its own.

    Segments that the lost sessions made known are added with the first snapshot. None is replaced, so nothing is
    missing.
    Each batch names the change of the recovery point, since a prune after that change may have removed needed data.
    """
    oldest = min((entry.generation for entry in old), default=0)
    cut = min((row.base for row in state.recoveries if row.generation > oldest), default=0)
    live = {row.id for row in state.segments}
    segments = {
        row.id: row
        for entry in old
        for change in entry.changes
        if isinstance(change.op, AddSnapshot | CheckpointSession)
        for row in change.op.segments
        if row.id not in live
    }
    batches: list[Batch] = []
    for op in lost:
        batches.append(_again(op, tuple(segments.values()), cut, author))
        segments = {}
    return batches


def _again(op: AddSnapshot, segments: tuple[SegmentRef, ...], cut: int, author: Author) -> Batch:
    session = SessionId(blake3(b"drtool/1/again" + op.snapshot.id, max_threads=1).digest(16))
    opening = OpenSession(kind="backup", source=op.snapshot.source, session=session, **msgspec.structs.asdict(author))
    snapshot = msgspec.structs.replace(op.snapshot, session=session)
    return opening, AddSnapshot(session, snapshot, segments, removal=cut)


def _forgotten_in(made: Iterable[Made]) -> set[SnapshotId]:
    return {
        id_
        for entry in made
        for change in entry.changes
        if isinstance(change.op, ForgetSnapshots)
        for id_ in change.op.snapshots
    }


def _words(lost: Sequence[AddSnapshot], old: Iterable[Made], state: State) -> Iterator[str]:
    """Yield the warnings for the user, including what cannot be determined."""
    base = max((row.base for row in state.recoveries), default=0)
    if lost:
        yield (
            f"snapshots that the forced recovery gave up were added again: {_few(op.snapshot.id for op in lost)}. Whether"
            f" another host forgot or pruned any of them after change {base} is not known: run `drtool verify`"
        )
    listed = [id_ for id_ in sorted(_forgotten_in(old)) if id_ in state.snapshots]
    if listed:
        yield (
            f"the forced recovery gave up that this host forgot {_few(listed)}: they are listed again, and prune may have"
            " removed their data: run `drtool verify`, and forget them again"
        )


def _few(ids: Iterable[SnapshotId]) -> str:
    return ", ".join(id_[:4].hex() for id_ in ids)
