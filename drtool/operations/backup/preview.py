"""A backup's dry run: it reads the tree and the parent snapshot, and stores nothing."""

import time

from blake3 import blake3

from drtool.events import Emit, Warned
from drtool.model import ChunkId
from drtool.operations.backup.builder import TreeBuilder, has_same_stat
from drtool.operations.backup.changes import ChangeNotes
from drtool.operations.backup.request import BackupRequest, CopiesReport, SnapshotReport, SourceJob, item_error
from drtool.operations.backup.reuse import Reuse
from drtool.operations.backup.scan import Scan, parent_of_job
from drtool.operations.backup.shrinkage import Amount, check
from drtool.operations.backup.virtual import foresee
from drtool.repository import Repository


def preview(
    repository: Repository, request: BackupRequest, job: SourceJob, scan: Scan, emit: Emit, started: float
) -> SnapshotReport:
    """Return the report of a backup that stores nothing."""
    parent = parent_of_job(repository.view.state.snapshots, job, request.host)
    reuse = Reuse(repository)
    for message in reuse.warnings():
        emit(Warned(message=message))
    scan.checked = reuse.checked
    builder = TreeBuilder(lambda _, text: ChunkId(blake3(text).digest()), scan.problem, scan.files, scan.names)
    notes = ChangeNotes(emit if request.names_items else None, scan)
    facts = foresee(repository, request, job, scan, parent, notes) if job.captured is not None else []
    for found in scan.directories(parent, repository.trees, builder):
        notes.left_out(found)
        notes.looked_at(found.node, found.fresh)
        for index in found.fresh:
            entry = found.node.entries[index]
            old = found.node.previous.get(entry.name)
            if old is None:
                scan.files.new += 1
            elif has_same_stat(reuse.checked(old), entry):  # read again because it is recent, and found equal
                scan.files.unmodified += 1
            else:
                scan.files.changed += 1
    if job.captured is None:  # the size of other sources is unknown in a dry run
        files = scan.files.new + scan.files.changed + scan.files.unmodified
        check(repository, job, parent, Amount(files=files, bytes=scan.processed_bytes), None)
    return SnapshotReport(
        id=None,
        source=job.name,
        host=request.host,
        time_ns=request.taken_ns,
        parent=parent.id.hex() if parent else None,
        files=scan.files,
        dirs=builder.directories,
        errors=[item_error(problem) for problem in scan.problems],
        processed_bytes=scan.processed_bytes,
        added_bytes=0,
        stored_bytes=0,
        wall_seconds=round(time.monotonic() - started, 3),
        copies=CopiesReport(repository.view.state.policy.copies, 0),
        degraded=False,
        owed=[],
        manifest_bytes=0,
        sockets=scan.sockets,
        facts=facts,
    )
