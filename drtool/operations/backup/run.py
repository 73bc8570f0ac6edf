"""One backup run: walk, hand new data to the workers, build the tree, commit the snapshot.

Invariants
    The session is open before anything is looked up. Packs come first, then segments, then the manifest.
    Memory is bounded: a few batches, a few slots and the directories on the way down.
"""

import os
import time
from contextlib import closing, suppress

from blake3 import blake3

from drtool import __version__
from drtool.errors import DrtoolError, Incomplete, Interrupted, NoQuorum
from drtool.events import Emit, ItemFailed, SnapshotStored, Stage, TargetFailed, Warned
from drtool.manifest.records import Counts, Snapshot
from drtool.model import ChunkId, ChunkKind, SegmentId, SnapshotId
from drtool.operations.backup.builder import TreeBuilder
from drtool.operations.backup.changes import ChangeNotes
from drtool.operations.backup.checkpoints import Checkpoints
from drtool.operations.backup.feeding import Feeder
from drtool.operations.backup.known_damage import put_right, record_damage, warn_of_catalogue
from drtool.operations.backup.owed import bring_owed
from drtool.operations.backup.preview import preview
from drtool.operations.backup.progress import Amounts, BackupProgress
from drtool.operations.backup.request import (
    BackupRequest,
    BackupResult,
    Brought,
    CopiesReport,
    JobFailure,
    OwedReport,
    SnapshotReport,
    SourceJob,
    item_error,
)
from drtool.operations.backup.reuse import Reuse, find_damage
from drtool.operations.backup.scan import Scan, parent_of_job
from drtool.operations.backup.shrinkage import Amount, check
from drtool.operations.backup.virtual import Content, VirtualTree, capture, surroundings
from drtool.packing import PackKind
from drtool.repository import Repository
from drtool.repository.put_meter import PutMeter
from drtool.repository.readiness import readiness
from drtool.repository.recognition import mend_markers
from drtool.repository.session import Overtaken, WriterSession
from drtool.repository.workers import WINDOW
from drtool.repository.writing import PackSink, PackWritten, Writer
from drtool.sources.filesystem import Roots, hidden_from_us, hidden_kinds
from drtool.sources.inventory import Inventory
from drtool.sources.port import Readable, Source
from drtool.trees import Entry, write_content

ATTEMPTS = 3


def backup(repository: Repository, request: BackupRequest, emit: Emit) -> BackupResult:
    """Take one snapshot of each job. A job without one is in `failed`, and the others are still done and reported.

    With a single job, its error is raised.
    """
    started = time.monotonic()
    reports: list[SnapshotReport] = []
    failed, brought = [], list[Brought]()
    if not request.dry_run:
        markers = list(mend_markers(repository))
        _try_targets(repository, emit)
        slots = repository.mend_slots(thorough=True)
        for message in (*markers, *slots.messages()):
            emit(Warned(message=message))
        record_damage(repository, emit, set(put_right(repository, slots.failed)))
        warn_of_catalogue(repository, emit)
    for job in request.jobs:
        try:
            reports.append(_backup_one(repository, request, job, emit))
        except DrtoolError as error:
            if len(request.jobs) == 1 and not isinstance(error, Incomplete):
                raise
            exit_code = 1 if isinstance(error, Incomplete) else error.exit_code
            failed.append(JobFailure(job.name, error.message, exit_code))
            emit(ItemFailed(path=job.name, message=error.message))
    if not request.dry_run:
        record_damage(repository, emit)
        reports, brought = bring_owed(repository, time.monotonic() - started, request.owed_s, reports, emit)
    return BackupResult(snapshots=reports, failed=failed, brought=brought)


def _try_targets(repository: Repository, emit: Emit) -> None:
    """Test the targets. One that accepts nothing is owed its objects, even by a run without new data."""
    ready = readiness(repository)
    for name, error in ready.refusals.items():
        repository.targets.fail_by(name, error)
    for site, why in ready.voters.items():
        emit(Warned(message=f"voter {site} cannot vote: {why}"))


def _backup_one(repository: Repository, request: BackupRequest, job: SourceJob, emit: Emit) -> SnapshotReport:
    started = time.monotonic()
    scan = Scan(job, lambda message: emit(Warned(message=message)))
    if not scan.paths:
        raise Incomplete(f"nothing to back up: {_why_nothing(scan.roots)}")
    if job.name and job.captured is None and scan.is_empty():  # a user who names a path by hand sees its contents
        where = ", ".join(os.fsdecode(path) for path in scan.roots.paths)
        raise Incomplete(f"nothing to back up: {where} is empty (is something not mounted there?)")
    if sockets := scan.roots.sockets:
        what = f"{os.fsdecode(sockets[0])} is a socket and is" if len(sockets) == 1 else f"{len(sockets):,} sockets are"
        emit(Warned(message=f"{what} left out of the named paths: sockets have no content to store"))
    for hidden in hidden_from_us() if scan.roots.paths else ():
        emit(Warned(message=hidden))
    if request.dry_run:
        return preview(repository, request, job, scan, emit, started)
    with closing(repository.writer(leaves_slow=True)) as writer:
        for attempt in range(ATTEMPTS):
            run = BackupRun(repository, request, job, scan, writer, emit)
            try:
                return run.report(run.go(), started)
            except (Overtaken, _ParentDamaged) as error:
                if attempt + 1 == ATTEMPTS or not _is_repeatable(job):
                    raise
                emit(Warned(message=f"{error.message}: everything is checked again"))
                scan = Scan(job, lambda message: emit(Warned(message=message)))
        raise AssertionError("unreachable")


def _why_nothing(roots: Roots) -> str:
    """Return in words why none of the named paths can be backed up."""
    reasons = [f"{os.fsdecode(path)} does not exist" for path in roots.missing]
    reasons += [f"{os.fsdecode(path)} is a socket, which has no content to store" for path in roots.sockets]
    reasons += [f"{os.fsdecode(path)}: {message}" for path, message in roots.problems]
    return ", ".join(reasons) or "no path is named"


class _ParentDamaged(DrtoolError):
    """No copy of a tree of the parent snapshot could be read, and this snapshot may already reference other data in its
    pack.
    """


def _is_repeatable(job: SourceJob) -> bool:
    return job.captured is None or job.captured.again


class BackupRun:
    """The backup of one source."""

    def __init__(
        self,
        repository: Repository,
        request: BackupRequest,
        job: SourceJob,
        scan: Scan,
        writer: Writer,
        emit: Emit,
    ) -> None:
        self._repository, self._request, self._job, self._scan, self._emit = repository, request, job, scan, emit
        self._writer = writer
        self._session: WriterSession = repository.begin(writer, job.name)
        self._written: list[PackWritten] = []
        self._trees = PackSink(
            repository.keyring,
            writer,
            PackKind.TREES,
            lambda pack: repository.demand(pack, PackKind.TREES),
            self._written.append,
            repository.keep_trees,
            pads=repository.pads,
        )
        self._new_trees: set[ChunkId] = set()
        self._failed = self._flushing = False
        self._damaged: DrtoolError | None = None
        self._notes = ChangeNotes(emit if request.names_items else None, scan)
        self._builder = TreeBuilder(self._put_tree, scan.problem, scan.files, scan.names, self._notes.settled)
        self._inventory: Inventory | None = None
        self._added_bytes = 0
        self._stored_bytes = 0
        self._checkpoints = Checkpoints(time.monotonic())
        self._noted: list[SegmentId] = []  # segments that the workers do not use yet
        self._meter = PutMeter(repository.targets.specs, request.workers + 1)
        writer.meter = self._meter.counter(request.workers)
        self._progress = BackupProgress(job, self._meter, emit)
        self._item = ""

    def go(self) -> Snapshot:
        """Run everything up to and including the commit."""
        view = self._session.view
        condemned = view.state.condemned
        parents = (row for row in view.state.snapshots if condemned is None or row.sequence <= condemned.marked)
        parent = parent_of_job(parents, self._job, self._request.host)  # later ones may reference condemned data
        for segment, why in self._repository.load_index().items():
            self._emit(Warned(message=f"index segment {segment.hex()[:16]}… cannot be read: {why}"))
        self._judge_what_is_stored(parent)
        can_count = self._request.shows_progress and self._job.captured is None
        self._progress.expect(parent, self._scan.new_rules() if can_count else None)
        # the index is mapped before the fork, so that the workers share it
        self._feeder = Feeder(
            self._repository,
            self._builder,
            self._request.workers,
            self._tick,
            self._idle,
            self._meter,
            self._job.ignore_ctime,
        )
        self._writer.idle = self._show
        try:
            self._emit(Stage(name="storing"))
            if self._job.captured is not None:
                self._scan.beside = self._capture(self._job.captured, parent)
            for found in self._scan.directories(parent, self._fetch, self._builder):
                self._notes.left_out(found)
                self._feeder.take(found)
                self._tick()
                if self._damaged is not None:
                    self._begin_again(self._damaged, parent)
            self._flush()
            self._check_shrinkage(parent)
        except NoQuorum:
            raise  # nothing could be saved either, and waiting would take as long again
        except (DrtoolError, Interrupted):
            self._save()
            raise
        finally:
            self._feeder.close()
            self._progress.close()
        self._show()
        self._emit(Stage(name="committing"))
        snapshot = self._snapshot(parent)
        self._session.commit(snapshot, self._reuse.scarce_segments())
        self._emit(SnapshotStored(snapshot=snapshot.id.hex(), source=self._job.name))
        return snapshot

    def _judge_what_is_stored(self, parent: Snapshot | None) -> None:
        """Set aside data with too few copies. For a source that cannot be captured twice, damage must be known first."""
        if parent is not None and not _is_repeatable(self._job):
            find_damage(self._repository, parent.root)
        self._reuse = Reuse(self._repository)
        for message in self._reuse.warnings():
            self._emit(Warned(message=message))
        self._scan.checked = self._reuse.checked if self._repository.index.lost else None

    def _fetch(self, chunk: ChunkId) -> bytes:
        """Return a chunk of the parent snapshot's trees. Record the error if the index has it but no copy can be read."""
        try:
            return self._repository.trees(chunk)
        except DrtoolError as error:
            if chunk in self._repository.index:
                self._damaged = error
            raise

    def _begin_again(self, error: DrtoolError, parent: Snapshot | None) -> None:
        if parent is None or not _is_repeatable(self._job):
            return
        find_damage(self._repository, parent.root)
        raise _ParentDamaged(f"the parent snapshot is damaged ({error.message})", hint=error.hint) from error

    def _capture(self, source: Source, parent: Snapshot | None) -> dict[bytes, Entry]:
        """Store a source's captured content, and return the entries at the top of its tree."""
        scan, request = self._scan, self._request
        tree = VirtualTree(
            self._put_tree,
            self._fetch,
            parent.root if parent else b"",
            scan.names,
            request.now_ns,
            lambda message: self._emit(Warned(message=message)),
            self._notes,
        )
        around = surroundings(self._repository, request, scan, self._emit)
        self._inventory = capture(source, around, tree, self._store, self._note_item)
        self._item = ""
        entries = tree.entries()
        scan.files.add(tree.files)
        self._builder.directories.add(tree.directories)
        return entries

    def _check_shrinkage(self, parent: Snapshot | None) -> None:
        now = Amount(files=self._files(), bytes=self._scan.processed_bytes)
        check(self._repository, self._job, parent, now, self._inventory)

    def _files(self) -> int:
        files = self._scan.files
        return files.new + files.changed + files.unmodified

    def _note_item(self, path: bytes) -> None:
        self._item = os.fsdecode(path)

    def _store(self, content: Readable) -> Content:
        before_bytes = self._scan.processed_bytes
        ids = self._feeder.take_content(content, self._scan.count_bytes)
        return Content(*write_content(ids, self._put_tree), self._scan.processed_bytes - before_bytes)

    def _save(self) -> None:
        """Record the durable data after a failure, and end the session.

        Only the first failure is reported. A failure here only costs the next run time. The open tree pack is dropped,
        and accepts nothing more, since an interruption may have come in the middle of a block.
        """
        self._failed = True
        self._flush_workers()
        with suppress(DrtoolError):
            self._session.add([*self._feeder.take_durable(), *self._written])
        with suppress(DrtoolError):
            self._session.abandon()

    def _flush_workers(self) -> None:
        """Flush the workers. A failed one refuses each waiting request, and each refusal ends a flush."""
        for _ in range(WINDOW * self._request.workers + 1):
            with suppress(DrtoolError):
                self._feeder.flush()
                return

    def _tick(self) -> None:
        """Between any two hand-overs, show the progress, and make a checkpoint when one is due."""
        if self._progress.is_due():
            self._show()
        if self._failed:
            return
        now = time.monotonic()
        added = (self._feeder.added_bytes, self._feeder.added_chunks)
        if not self._flushing and self._checkpoints.is_due(now, *added):
            self._checkpoints.made(now, *added)
            self._flush()
            self._feeder.learn([*self._noted, *self._session.checkpoint()])
            self._noted.clear()
            self._new_trees.clear()
        else:
            self._note_durable(now)

    def _idle(self) -> None:
        """Called while every worker is busy, perhaps for long on a slow connection."""
        self._repository.targets.announce()
        self._show()
        if not self._failed:
            self._note_durable(time.monotonic())

    def _note_durable(self, now: float) -> None:
        """Record durable packs now and then, without waiting for the rest, so that a killed run loses little."""
        if not self._checkpoints.begins_note(now):
            return
        durable = self._feeder.take_durable()
        if durable or self._written:
            self._take(durable)
            self._noted += self._session.checkpoint()

    def _flush(self) -> None:
        self._flushing = True
        flushed = self._feeder.flush()
        self._flushing = False
        self._trees.flush()
        self._repository.targets.note_failures(flushed.failures, flushed.away)
        self._take(self._feeder.take_durable())

    def _take(self, durable: list[PackWritten]) -> None:
        packs = [*durable, *self._written]
        self._written.clear()
        self._session.add(packs)
        self._reuse.note(packs)
        self._stored_bytes += sum(pack.size_bytes * len(pack.targets) for pack in packs)
        self._added_bytes += sum(pack.text_bytes for pack in packs)

    def _put_tree(self, kind: ChunkKind, text: bytes) -> ChunkId:
        chunk = ChunkId(blake3(text, key=self._repository.keyring.id_key(kind)).digest())
        if not self._failed and chunk not in self._new_trees and chunk not in self._repository.index:
            self._new_trees.add(chunk)
            self._trees.add(chunk, text)
        return chunk

    def _show(self) -> None:
        feeder = self._feeder
        read_bytes = max(0, self._scan.processed_bytes - feeder.unread_bytes)
        item = self._item or feeder.in_work()
        self._progress.show(Amounts(self._files(), read_bytes, feeder.added_bytes, item))

    def _snapshot(self, parent: Snapshot | None) -> Snapshot:
        request, scan = self._request, self._scan
        dirs = self._builder.directories
        return Snapshot(
            id=SnapshotId(os.urandom(16)),
            session=self._session.id,
            source=self._job.name,
            host=request.host,
            user=request.user,
            time_ns=request.taken_ns,
            started_ns=scan.started_ns,
            paths=scan.paths,
            tags=request.tags,
            root=self._builder.root,
            parent=parent.id if parent else None,
            counts=Counts(
                files=self._files(),
                dirs=dirs.new + dirs.changed + dirs.unmodified,
                bytes=scan.processed_bytes,
                added_bytes=self._added_bytes,
                stored_bytes=self._stored_bytes,
                errors=len(scan.problems),
            ),
            program=f"drtool {__version__}",
            hidden=hidden_kinds(),
        )

    def report(self, snapshot: Snapshot, started: float) -> SnapshotReport:
        for problem in self._scan.problems:
            self._emit(ItemFailed(path=os.fsdecode(problem.path), message=problem.message))
        owing = self._repository.owing()
        for target, reason in owing.items():
            self._emit(TargetFailed(target=target, reason=reason))
        wanted, copies = self._repository.view.state.policy.copies, self._copies(snapshot)
        return SnapshotReport(
            id=snapshot.id.hex(),
            source=self._job.name,
            host=snapshot.host,
            time_ns=snapshot.time_ns,
            parent=snapshot.parent.hex() if snapshot.parent else None,
            files=self._scan.files,
            dirs=self._builder.directories,
            errors=[item_error(problem) for problem in self._scan.problems],
            processed_bytes=self._scan.processed_bytes,
            added_bytes=self._added_bytes,
            stored_bytes=self._stored_bytes,
            wall_seconds=round(time.monotonic() - started, 3),
            copies=CopiesReport(wanted, copies),
            degraded=self._session.degraded or copies < wanted,
            owed=[OwedReport(*item) for item in sorted(owing.items())],
            manifest_bytes=self._session.manifest_bytes,
            sockets=self._scan.sockets,
        )

    def _copies(self, snapshot: Snapshot) -> int:
        """Return on how many sites all data of the snapshot is."""
        if self._reuse.is_short:  # this run's packs must be found for the walk
            self._repository.load_index()
        return self._reuse.copies(snapshot.root, self._session.minimum_written)
