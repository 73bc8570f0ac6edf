"""The scratch spaces of this host: one file each in the state directory, written before the space exists.

Invariants
    A space's directory is named after its run and a random word, and its record must agree. Even a wrong record cannot
    lead a removal to any other directory.
    The space of a live process is removed only with force.
"""

import os
import re
import time
from contextlib import suppress
from pathlib import Path

import msgspec
from msgspec import Struct

from drtool.errors import DrtoolError, Refused, UsageError
from drtool.plans.scratch.removing import Leftover, remove_tree
from drtool.repository.processes import ProcessMark, Standing
from drtool.stores import durable
from drtool.stores.names import TEMPORARY_PREFIX

SCRATCH = "scratch"
UNFINISHED_S = 60.0
"""An incomplete record older than this is abandoned."""
_PREFIX, _RECORD = "drtool-", ".json"
_RUN = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]{0,99}", re.ASCII)
_NAME = re.compile(r"(?P<run>[A-Za-z0-9_][A-Za-z0-9_-]{0,99})\.(?P<word>[0-9a-f]{16})", re.ASCII)


class ScratchRecord(Struct, frozen=True, kw_only=True):
    """One scratch space. `name` is its run and a random word, joined by a dot."""

    name: str
    run: str
    path: str
    owner: ProcessMark
    size_bytes: int
    """The requested size."""
    inodes: int
    created_at: str

    def check(self, name: str) -> None:
        """Raise ValueError unless this is the record of the space called `name`."""
        match = _NAME.fullmatch(name)
        path = Path(self.path)
        if match is None or self.name != name or self.run != match["run"]:
            raise ValueError("it is not the record of a scratch space of that name")
        if not path.is_absolute() or path.name != _PREFIX + name or ".." in path.parts:
            raise ValueError(f"its directory cannot be {self.path}")


class ScratchRow(Struct, frozen=True, kw_only=True):
    """One row of `scratch list`. `process` is the state of the owner; `present` is whether the directory exists."""

    run: str
    name: str
    path: str
    process: Standing
    present: bool
    pid: int
    asked_bytes: int
    created_at: str


class ScratchList(Struct, frozen=True, kw_only=True):
    spaces: tuple[ScratchRow, ...]
    unreadable: tuple[Leftover, ...]
    """Records that describe no valid space, and directories without a record."""


class ScratchRemoval(Struct, frozen=True, kw_only=True):
    """The spaces that `scratch remove` removed, or would remove, and those it could not (`left`)."""

    removed: tuple[ScratchRow, ...]
    left: tuple[Leftover, ...]
    dry_run: bool


def check_run(run: str) -> None:
    """Raise UsageError unless a directory can be named after the run."""
    if not _RUN.fullmatch(run):
        raise UsageError(f"not a run id: {run!r}", hint="use at most 100 letters, digits, - and _")


def directory_name(name: str) -> str:
    return _PREFIX + name


def register(state_dir: Path, record: ScratchRecord) -> None:
    """Write the record durably, replacing an existing one."""
    directory = state_dir / SCRATCH
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    _tidy(directory)
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        durable.replace(descriptor, record.name + _RECORD, msgspec.json.encode(record))
    finally:
        os.close(descriptor)


def forget(state_dir: Path, name: str) -> None:
    """Remove the record of a space that is gone."""
    directory = state_dir / SCRATCH
    (directory / (name + _RECORD)).unlink(missing_ok=True)
    _tidy(directory)
    with suppress(OSError):  # other spaces remain
        directory.rmdir()


def _tidy(directory: Path) -> None:
    """Remove incomplete records left by killed processes."""
    with suppress(OSError):  # already gone, or owned by another user
        for path in directory.glob(f"{TEMPORARY_PREFIX}*"):
            if path.lstat().st_mtime < time.time() - UNFINISHED_S:
                path.unlink()


def records(state_dir: Path) -> tuple[list[ScratchRecord], list[Leftover]]:
    """Return the spaces by name, and all invalid entries."""
    found, bad = [], []
    for path in _entries(state_dir):
        if path.suffix != _RECORD:
            continue
        try:
            record = msgspec.json.decode(path.read_bytes(), type=ScratchRecord)
            record.check(path.name.removesuffix(_RECORD))
        except FileNotFoundError:
            continue
        except (OSError, ValueError, msgspec.MsgspecError) as error:
            bad.append(Leftover(path=str(path), reason=str(error)))
        else:
            found.append(record)
    known = {directory_name(record.name) for record in found}
    bad += [
        Leftover(path=str(path), reason="it has no record")
        for path in _entries(state_dir)
        if path.name.startswith(_PREFIX) and path.name not in known
    ]
    return found, bad


def _entries(state_dir: Path) -> list[Path]:
    try:
        return sorted(path for path in (state_dir / SCRATCH).iterdir() if not path.name.startswith("."))
    except OSError:
        return []


def list_scratch(state_dir: Path) -> ScratchList:
    """List every scratch space of this host."""
    found, bad = records(state_dir)
    return ScratchList(spaces=tuple(map(_row, found)), unreadable=tuple(bad))


def remove_scratch(state_dir: Path, run: str, *, force: bool = False, dry_run: bool = False) -> ScratchRemoval:
    """Remove the spaces of a run. Raises Refused while the process that made them may be alive, unless forced."""
    check_run(run)
    found, bad = records(state_dir)
    rows = [_row(record) for record in found if record.run == run]
    strays = [Path(each.path) for each in bad if _run_of(Path(each.path)) == run]
    if not rows and not strays:
        raise DrtoolError(f"there is no scratch space of run {run}", hint="drtool scratch list shows the existing ones")
    for row in rows:
        if row.process != "gone" and not force:
            raise Refused(
                f"the scratch space {row.path} is in use: process {row.pid} of run {run} {_STANDING[row.process]}",
                hint="wait for it, or stop it; --force removes the space anyway",
            )
    if strays and not force:
        raise Refused(
            f"{strays[0]} is a scratch space of run {run} without a readable record, so it may be in use",
            hint="make sure that the run has ended, then repeat with --force",
        )
    left = [] if dry_run else [leftover for row in rows for leftover in clear_away(state_dir, row.name, Path(row.path))]
    left += [] if dry_run else [leftover for path in strays for leftover in _removed(path)]
    gone = (row for row in rows if dry_run or not os.path.lexists(row.path))
    return ScratchRemoval(removed=tuple(gone), left=tuple(left), dry_run=dry_run)


def _run_of(path: Path) -> str | None:
    """Return the run that a directory or record belongs to, by its name."""
    match = _NAME.fullmatch(path.name.removeprefix(_PREFIX).removesuffix(_RECORD))
    return match["run"] if match else None


def _removed(path: Path) -> tuple[Leftover, ...]:
    if path.suffix != _RECORD:
        return remove_tree(path)
    path.unlink(missing_ok=True)
    return ()


_STANDING = {
    "alive": "is running",
    "elsewhere": "is on another machine",
    "unknown": "is in a container that cannot be inspected",
}


def clear_away(state_dir: Path, name: str, path: Path) -> tuple[Leftover, ...]:
    """Remove a space and then its record. The record stays while anything is left."""
    left = remove_tree(path)
    if not left:
        forget(state_dir, name)
    return left


def _row(record: ScratchRecord) -> ScratchRow:
    return ScratchRow(
        run=record.run,
        name=record.name,
        path=record.path,
        process=record.owner.standing(),
        present=os.path.lexists(record.path),
        pid=record.owner.pid,
        asked_bytes=record.size_bytes,
        created_at=record.created_at,
    )
