"""Checks of a source before its backup begins: another run, a recent snapshot, a target below its paths."""

import fcntl
import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from msgspec import Struct
from msgspec.structs import replace

from drtool.events import Emit, Warned
from drtool.model import TargetName
from drtool.operations.backup.request import SourceJob
from drtool.operations.backup.scan import is_same_source
from drtool.repository import Repository
from drtool.repository.lodging import targets_here
from drtool.sources.filesystem import Roots, Rules, idle_reason, pattern_of

_AHEAD_NS = 3600 * 10**9


def is_recent(repository: Repository, job: SourceJob, host: str, now_ns: int, newer_than_ns: int) -> bool:
    """Return whether a snapshot of this source is younger than that. One dated far in the future does not count."""
    same = is_same_source(job, host)
    times = (row.time_ns for row in repository.view.state.snapshots if same(row))
    return any(now_ns - newer_than_ns < time_ns <= now_ns + _AHEAD_NS for time_ns in times)


@contextmanager
def at_work(state_dir: Path, job: SourceJob, host: str) -> Iterator[bool]:
    """Mark the source as being backed up until the block ends.

    Yield whether another process of this host already does so.
    """
    what = "\0".join((host, job.name, *sorted(os.fsdecode(path) for path in job.roots.paths)))
    directory = state_dir / "running"
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    name = hashlib.sha256(os.fsencode(what)).hexdigest()[:32]
    descriptor = os.open(directory / name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        busy = not _taken(descriptor, fcntl.LOCK_EX)
        fcntl.flock(descriptor, fcntl.LOCK_SH)  # two backups of one source may overlap, and a third sees both
        yield busy
    finally:
        os.close(descriptor)


def _taken(descriptor: int, how: int) -> bool:
    try:
        fcntl.flock(descriptor, how | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


class LeftOut(Struct, frozen=True):
    """A target inside the backed-up paths, which is left out of the snapshot."""

    source: str
    target: TargetName
    path: str


def without_targets(repository: Repository, job: SourceJob, emit: Emit) -> tuple[SourceJob, list[LeftOut]]:
    """Return the job without the targets below its paths, and these: a repository stored in itself grows each time.

    A target that the user names as a PATH is backed up, with a warning. One that the job's own rules exclude is not
    reported.
    """
    roots = job.roots
    _warn_of_idle_patterns(job, roots, emit)
    rules = Rules(roots, job.excludes, one_file_system=job.one_file_system)
    found = []
    for name, place in targets_here(repository).items():
        root = next((path for path in roots.paths if _holds(os.path.realpath(path), place)), None)
        if root is None or not repository.targets.reachable(name):
            continue
        below = os.path.normpath(os.path.join(root, os.path.relpath(place, os.path.realpath(root))))
        if below in roots.devices:
            emit(
                Warned(
                    message=f"{os.fsdecode(below)} is the target {name}: the repository is stored in itself and grows"
                )
            )
        elif not rules.leaves_out(below):
            found.append(LeftOut(job.name, name, os.fsdecode(below)))
            emit(Warned(message=_left_out(found[-1])))
    return replace(job, excludes=(*job.excludes, *(pattern_of(os.fsencode(row.path)) for row in found))), found


def _warn_of_idle_patterns(job: SourceJob, roots: Roots, emit: Emit) -> None:
    for pattern in job.excludes if roots.devices else ():
        if reason := idle_reason(pattern, [*roots.devices]):
            emit(Warned(message=f"the exclude pattern {pattern} leaves out nothing: {reason}"))


def _left_out(row: LeftOut) -> str:
    return (
        f"{row.path} is the target {row.target} of this repository and is left out of the snapshot; "
        "an exclude pattern for it ends this notice"
    )


def _holds(above: bytes, path: bytes) -> bool:
    return path == above or path.startswith(above.rstrip(b"/") + b"/")
