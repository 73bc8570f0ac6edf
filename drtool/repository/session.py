"""One writer at work on one source: fenced by the manifest, never by a lock.

Invariants
    The session is committed before anything is listed, looked up or chosen as a parent.
    A reference is committed only after what it refers to is durable: packs, then segments, then the manifest.
    A session that was expired meanwhile is opened anew; what was stored is still there and is committed under the new one,
    unless prune has condemned or removed anything since, or a target went out of use: then nothing is committed that was not
    looked up again.
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
"""Far below the hour of silence after which prune takes a session for dead."""


class Overtaken(DrtoolError):
    """A session was expired, and objects that it may refer to were condemned since: begin again."""


class WriterSession:
    """Open from construction until `commit` or `abandon`."""

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
            # what a killed run had sent may be its snapshot, which comes before its session's end; and what a forced
            # recovery gave up of this host's own comes back
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
        """Another session in place of one that was expired; `Overtaken` if what it stored may be gone meanwhile."""
        before = self.view
        self._lifeline.end()
        if self._kind == "backup":
            self.view = self._open()
            if not may_be_gone(before, self.view):
                return
            self._close()
        raise Overtaken(
            "this session has expired, and prune may have removed data that it references",
            hint="run the same command again: what is stored is reused",
        )

    def add(self, packs: Sequence[PackWritten]) -> None:
        """Takes note of packs that are durable, for the next checkpoint or the commit."""
        self._pending += packs
        for pack in packs:
            self.degraded |= pack.degraded
            self._count(distinct_sites(pack.targets))

    @property
    def pending_rows(self) -> int:
        return sum(len(block.lengths) for pack in self._pending for block in pack.contents.blocks)

    def checkpoint(self) -> list[SegmentId]:
        """Makes known what was stored so far, and renews the session; the segments that were added."""
        segments = self._store_segment(())
        committed = self._commit(lambda: CheckpointSession(self.id, tuple(segments)))
        self._repository.adopt(committed.view)
        return [ref.id for ref in segments]

    def renew(self) -> None:
        """Shows that it is alive, if it has not for long; it goes on with the view that it has."""
        if time.monotonic() - self._renewed_s < RENEW_S:
            return
        self._renewed_s = time.monotonic()
        with suppress(NoQuorum):  # there may be one the next time; without one nobody else can end the session either
            self._repository.manifest.commit(CheckpointSession(self.id))

    def commit(self, snapshot: Snapshot, scarce: Sequence[SegmentRef] = ()) -> "View":
        """The snapshot, its segments, and the end of the session, in one change. `scarce` segments are stored again."""
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
            # another run replaced the same segments; without replacing any there is nothing to disagree about
            self._pending = pending
            committed = self._add(snapshot, self._store_segment(()), ())
        self._lifeline.end()
        self._repository.view = committed  # the index is left as it was: nobody looks anything up after the commit
        return committed

    def _add(self, snapshot: Snapshot, segments: list[SegmentRef], replaces: tuple[SegmentId, ...]) -> "View":
        def op() -> AddSnapshot:
            return AddSnapshot(self.id, replace(snapshot, session=self.id), tuple(segments), replaces)

        return self._commit(op).view

    def abandon(self) -> None:
        """End the session without a snapshot; what is durable becomes known, so that the next run reuses it."""
        if self._over:
            return
        try:
            if self._pending:
                self.checkpoint()
        finally:
            self._close()

    def _close(self) -> None:
        """Nothing is left to do for a session that somebody else has ended."""
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
        """Commits an op of this session; under a new one, if somebody expired it."""
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
        """Segments that this host has in its cache, under new names."""
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
    """Whether anything that a session stored or found at `before` may have been taken away by `now`, if it was not open."""
    return _latest_removal(now) > _latest_removal(before) or bool(_places(before) - _places(now))


def _places(view: "View") -> frozenset[TargetName]:
    """The targets that a session stores on; one that is drained or given up since may be about to go, or gone."""
    return frozenset(row.name for row in view.state.targets if row.state == "active")


def _latest_removal(view: "View") -> int:
    """The change at which prune last condemned or removed anything."""
    condemned = view.state.condemned
    return max(view.state.last_removal, condemned.sequence if condemned else 0)
