"""The writer side of a session: one writer at work on one source, fenced by the manifest rather than a lock.

Invariants
    The session is committed before anything is listed, looked up or chosen as a parent.
    A reference is committed only after its objects are durable: packs, then segments, then the manifest.
    If the session expired meanwhile, another is opened, and the stored data is committed under it. But if prune has
    condemned or removed anything since, or a target went out of use, everything must be looked up again first.
"""

import os
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

import msgspec
from msgspec.structs import replace

from drtool.errors import DrtoolError, NoQuorum, Rejected
from drtool.manifest.ops import AddSnapshot, CheckpointSession, CloseSession, Op, OpenSession
from drtool.manifest.records import SegmentRef, SessionKind, Snapshot
from drtool.model import SegmentId, SessionId, TargetName
from drtool.packing import SegmentPack
from drtool.packing.segment import SEGMENT_ROWS_MAX, rows_of
from drtool.repository.identity import gone, identify
from drtool.repository.index import merged, to_merge
from drtool.repository.lifelines import Lifeline, sweep
from drtool.repository.placement import distinct_sites
from drtool.repository.segments import store_segment
from drtool.repository.writing import PackWritten, Writer

if TYPE_CHECKING:
    from drtool.manifest.facade import Committed, View
    from drtool.repository.repository import Repository

SEGMENTS_CHANGED = "segments-changed"
NOT_OPEN = "session-not-open"
SESSION_ID_BYTES = 16
RENEW_S = 600.0
"""Far below the hour of silence after which prune expires a session."""


class Overtaken(DrtoolError):
    """A session expired, and objects that it may reference were condemned since, so the run must start again."""


class WriterSession:
    """A session that is open from construction until `commit` or `abandon`."""

    def __init__(self, repository: "Repository", writer: Writer, source: str, kind: SessionKind = "backup") -> None:
        self._repository = repository
        self._writer = writer
        self._source = source
        self._kind = kind
        self._pending: list[PackWritten] = []
        self.degraded = False
        self.minimum_written: int | None = None
        self.manifest_bytes = 0
        self._over = False
        self.view = self._open()

    def _open(self) -> "View":
        me = identify(self._repository)
        dead = gone(self._repository.view.state.sessions, me)
        if dead or self._repository.view.config.recovery:
            # the last change of a killed run may be its snapshot, which comes before its session's end. Snapshots of
            # this host that a forced recovery gave up are added again.
            self._repository.manifest.settle()
        session = SessionId(os.urandom(SESSION_ID_BYTES))
        lifeline = Lifeline(me.lifelines, session)
        try:
            committed = self._repository.manifest.commit(
                OpenSession(
                    kind=self._kind,
                    host_id=me.host_id,
                    host=self._repository.spec.host,
                    boot_id=me.boot_id,
                    pid_namespace=me.pid_namespace,
                    pid=me.pid,
                    start_time=me.start_time,
                    source=self._source,
                    expires=dead,
                    session=session,
                )
            )
        except Rejected:
            lifeline.end()
            raise
        self.id = session
        self._lifeline = lifeline
        sweep(me.lifelines, [row.id for row in committed.view.state.sessions], ended=dead)
        self._renewed_s = time.monotonic()
        self._repository.adopt(committed.view)
        return committed.view

    def _reopen(self) -> None:
        """Open another session in place of an expired one. `Overtaken` if the stored data may be gone."""
        before = self.view
        self._lifeline.end()
        if self._kind == "backup":
            self.view = self._open()
            if not may_be_gone(before, self.view):
                return
            self._close()
        raise Overtaken(
            "this session has expired, and prune may have removed data that it references",
            hint="run the same command again (stored data is reused)",
        )

    def add(self, packs: Sequence[PackWritten]) -> None:
        """Add durable packs to the next checkpoint or the commit."""
        self._pending += packs
        for pack in packs:
            self.degraded |= pack.degraded
            self._count(distinct_sites(pack.targets))

    @property
    def pending_rows(self) -> int:
        return sum(len(block.lengths) for pack in self._pending for block in pack.contents.blocks)

    def checkpoint(self) -> list[SegmentId]:
        """Record the stored packs and renew the session. Return the segments that were added."""
        segments = self._store_segment(())
        committed = self._commit(lambda: CheckpointSession(self.id, tuple(segments)))
        self._repository.adopt(committed.view)
        return [ref.id for ref in segments]

    def renew(self) -> None:
        """Renew the session if it was not renewed for long. The view stays the same."""
        if time.monotonic() - self._renewed_s < RENEW_S:
            return
        self._renewed_s = time.monotonic()
        with suppress(NoQuorum):  # there may be one the next time, and without one the session cannot be ended either
            self._repository.manifest.commit(CheckpointSession(self.id))

    def commit(self, snapshot: Snapshot, scarce: Sequence[SegmentRef] = ()) -> "View":
        """Commit the snapshot, its segments and the end of the session in one change. Store `scarce` segments again."""
        live = self._repository.view.state.segments
        merge = to_merge(live, self.pending_rows, SEGMENT_ROWS_MAX) if self._pending else []
        merge = [ref for ref in merge if ref.id in self._repository.index.mapped()]
        again = [ref for ref in scarce if ref in live and ref not in merge]
        pending = list(self._pending)
        segments = [*self._store_segment(merge), *self._store_again(again)]
        try:
            committed = self._add(snapshot, segments, tuple(ref.id for ref in (*merge, *again)))
        except Rejected as error:
            if error.reason != SEGMENTS_CHANGED:
                raise
            # another run replaced the same segments, and without replacements there is no conflict
            self._pending = pending
            committed = self._add(snapshot, self._store_segment(()), ())
        self._lifeline.end()
        self._repository.view = committed  # the index is not reloaded: there are no lookups after the commit
        return committed

    def _add(self, snapshot: Snapshot, segments: list[SegmentRef], replaces: tuple[SegmentId, ...]) -> "View":
        def op() -> AddSnapshot:
            return AddSnapshot(self.id, replace(snapshot, session=self.id), tuple(segments), replaces)

        return self._commit(op).view

    def abandon(self) -> None:
        """End the session without a snapshot. Durable packs are recorded, so that the next run reuses them."""
        if self._over:
            return
        try:
            if self._pending:
                self.checkpoint()
        finally:
            self._close()

    def _close(self) -> None:
        """Close the session. Nothing is left to do if it has already ended."""
        try:
            self._repository.manifest.commit(CloseSession(self.id))
        except Rejected as error:
            if error.reason != NOT_OPEN:
                raise
        self._lifeline.end()

    def close_with(self, ops: Sequence[Op], through: "Callable[[Sequence[Op]], View] | None" = None) -> "View":
        """End the session and apply `ops` in one change set, which `through` commits if it is a special one."""
        changes = [CloseSession(self.id), *ops]
        view = self._repository.manifest.commit(changes).view if through is None else through(changes)
        self._over = True
        self._lifeline.end()
        return view

    def _commit(self, op: "Callable[[], CheckpointSession | AddSnapshot]") -> "Committed":
        """Commit an op of this session, under a new one if it expired."""
        try:
            change = op()
            committed = self._repository.manifest.commit(change)
        except Rejected as error:
            if error.reason != NOT_OPEN:
                raise
            self._reopen()
            change = op()
            committed = self._repository.manifest.commit(change)
        self.manifest_bytes += len(msgspec.msgpack.encode(change))
        return committed

    def _store_segment(self, merge: Sequence[SegmentRef]) -> list[SegmentRef]:
        if not self._pending:
            return []
        repository = self._repository
        table = [SegmentPack.of(p.pack, p.size_bytes, p.targets, p.contents) for p in self._pending]
        rows = (row for number, pack in enumerate(self._pending) for row in rows_of(number, pack.contents))
        readers = [repository.index.reader(ref.id) for ref in merge]
        packs, stream = merged(readers, table, rows)
        segment = store_segment(repository, self._writer, packs, stream)
        self._pending = []
        return [] if segment is None else [self._judged(segment)]

    def _store_again(self, refs: Sequence[SegmentRef]) -> list[SegmentRef]:
        """Store segments from this host's cache again, under new names."""
        repository = self._repository
        readers = [repository.index.reader(ref.id) for ref in refs]
        new = [store_segment(repository, self._writer, reader.packs, reader.rows()) for reader in readers]
        return [self._judged(ref) for ref in new if ref is not None]

    def _judged(self, segment: SegmentRef) -> SegmentRef:
        self._count(distinct_sites(segment.targets))
        self.degraded |= distinct_sites(segment.targets) < self._repository.view.state.policy.copies
        return segment

    def _count(self, sites: int) -> None:
        self.minimum_written = sites if self.minimum_written is None else min(sites, self.minimum_written)


def may_be_gone(before: "View", now: "View") -> bool:
    """Return whether data that a session stored or found at `before` may have been removed by `now`, unless it was
    open.
    """
    return _latest_removal(now) > _latest_removal(before) or bool(_places(before) - _places(now))


def _places(view: "View") -> frozenset[TargetName]:
    """Return the targets that a session stores on. One that was drained or given up since may be about to go, or gone."""
    return frozenset(row.name for row in view.state.targets if row.state == "active")


def _latest_removal(view: "View") -> int:
    """Return the change at which prune last condemned or removed anything."""
    condemned = view.state.condemned
    return max(view.state.last_removal, condemned.sequence if condemned else 0)
