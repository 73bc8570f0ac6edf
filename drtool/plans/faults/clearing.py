"""Listing and manual removal of the faults on this host. It needs no repository, configuration or password.

Invariants
    Clearing only removes files, because the targets were never touched. The process that holds a fault notices its end.
    The kill switch was set by a person, and stays.
"""

from collections.abc import Sequence
from pathlib import Path

from msgspec import Struct

from drtool.model import FaultKind
from drtool.repository.overlays import BadFile, OverlayFiles, OverlayRecord, State
from drtool.repository.processes import boot_time_s


class FaultRow(Struct, frozen=True, kw_only=True):
    """One row of `fault list`. `ends_in_seconds` is 0 if the fault is over."""

    id: str
    run: str
    step: str
    kind: FaultKind
    target: str
    site: str
    objects: tuple[str, ...]
    state: State
    injected_at: str
    ends_in_seconds: float
    pid: int


class FaultList(Struct, frozen=True, kw_only=True):
    """The faults. `stopped` means that the kill switch is on, so that no fault is active."""

    faults: tuple[FaultRow, ...]
    unreadable: tuple[BadFile, ...]
    stopped: bool
    directory: str


class Clearing(Struct, frozen=True, kw_only=True):
    """The faults that `fault clear` removed, or would remove, and those it could not (`left`)."""

    cleared: tuple[FaultRow, ...]
    removed: tuple[BadFile, ...]
    """Files that were not valid overlays."""
    left: tuple[BadFile, ...]
    dry_run: bool


def list_faults(state_dir: Path, run: str | None = None) -> FaultList:
    """List the faults of a run, or all, and the unreadable files."""
    files = OverlayFiles(state_dir)
    shelf, stopped = files.read(), files.stopped()
    rows = (_row(record, stopped=stopped) for record in shelf.records if run in {None, record.run})
    return FaultList(faults=tuple(rows), unreadable=shelf.bad, stopped=stopped, directory=str(files.directory))


def clear_faults(state_dir: Path, run: str | None = None, *, dry_run: bool = False) -> Clearing:
    """End the faults of a run, or all. Without a run, unreadable files are removed too."""
    files, found = OverlayFiles(state_dir), list_faults(state_dir, run)
    strays = found.unreadable if run is None else ()
    left: dict[str, BadFile] = {}
    if not dry_run:
        files_of: dict[str, tuple[str, ...]] = {
            f"{row.id}.json": (f"{row.id}.json", f"{row.id}.ended") for row in found.faults
        }
        files_of |= {bad.name: (bad.name,) for bad in strays}
        reasons = {name: _removed(files, names) for name, names in files_of.items()}
        left = {name: BadFile(name=name, reason=reason) for name, reason in reasons.items() if reason}
        if run is None:
            files.tidy()
    return Clearing(
        cleared=tuple(row for row in found.faults if f"{row.id}.json" not in left),
        removed=tuple(bad for bad in strays if bad.name not in left),
        left=tuple(left.values()),
        dry_run=dry_run,
    )


def _removed(files: OverlayFiles, names: Sequence[str]) -> str:
    """Remove files, and return why that failed, or an empty string."""
    try:
        files.remove_files(*names)
    except OSError as error:
        return error.strerror or str(error)
    return ""


def _row(record: OverlayRecord, *, stopped: bool) -> FaultRow:
    now_s = boot_time_s()
    state = record.state(now_s, stopped=stopped)
    return FaultRow(
        id=record.id,
        run=record.run,
        step=record.step,
        kind=record.kind,
        target=record.target,
        site=record.site,
        objects=record.objects,
        state=state,
        injected_at=record.injected_at,
        ends_in_seconds=round(max(0.0, record.boot_deadline_s - now_s), 1) if state == "in force" else 0.0,
        pid=record.owner.pid,
    )
