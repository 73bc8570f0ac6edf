"""The runs of this host, each a folder with its journal, and the concurrency groups.

Invariants
    A concurrency group is a kernel lock, so a killed process holds none.
    Run ids sort by their start times.
"""

import fcntl
import os
import secrets
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path

from drtool.errors import DrtoolError, UsageError
from drtool.plans.evidence.past import PastRun
from drtool.plans.journal.events import Ended, Event, Measured, RunBegan, RunEnded
from drtool.plans.journal.file import is_written, read

RUNS = "runs"
_GROUPS = "groups"


class GroupBusy(DrtoolError):
    """Raised when another run holds the plan's concurrency group."""

    exit_code = 75


def new_run_id(now: datetime) -> str:
    """Return an id such as `20261123-140500-3f2a`: the start in UTC, and a random word."""
    return f"{now.astimezone(UTC):%Y%m%d-%H%M%S}-{secrets.token_hex(2)}"


def folder_of(state_dir: Path, run: str) -> Path:
    """Return the folder of a run's journal. Raises UsageError if `run` is not a run id."""
    if not run or not all(letter in "abcdefghijklmnopqrstuvwxyz0123456789-" for letter in run) or len(run) > 64:
        raise UsageError(f"{run!r} is not a run id", hint="`drtool plan history` lists them")
    return state_dir / RUNS / run


def past_runs(state_dir: Path) -> Iterator[PastRun]:
    """Yield all runs of this host, oldest first."""
    try:
        names = sorted(os.listdir(state_dir / RUNS))
    except FileNotFoundError:
        return
    for name in names:
        yield _past(state_dir / RUNS / name)


def last_unfinished(state_dir: Path) -> str | None:
    """Return the newest run that is neither finished nor running."""
    found = [
        row.run_id
        for row in past_runs(state_dir)
        if row.began and not row.verdict and not row.at_work and not row.problem
    ]
    return found[-1] if found else None


def _past(folder: Path) -> PastRun:
    try:
        events, head = read(folder)
        at_work = is_written(folder)
    except (DrtoolError, OSError) as error:
        return PastRun(run_id=folder.name, problem=str(error))
    began = next((event for event in events if isinstance(event, RunBegan)), None)
    ended = next((event for event in reversed(events) if isinstance(event, RunEnded)), None)
    measured = next((event for event in reversed(events) if isinstance(event, Measured)), None)
    return PastRun(
        run_id=folder.name,
        plan=began.plan if began else "",
        title=began.title if began else "",
        began=began.at if began else "",
        seconds=events[-1].elapsed_s if events else 0.0,
        verdict=ended.verdict if ended else "",
        exit_code=ended.exit_code if ended else None,
        reason=ended.reason if ended else "",
        at_work=at_work,
        digest=head,
        objectives={name: row for name, row in (measured.values if measured else {}).items() if "measured" in row},
        step_seconds=_step_seconds(events),
    )


def _step_seconds(events: Iterable[Event]) -> dict[str, float]:
    """Return the seconds per step, without the items of a `foreach` and undo."""
    took: dict[str, float] = {}
    came_out = []
    for event in events:
        if isinstance(event, Ended) and ":" not in event.key and not event.key.endswith("]"):
            took[event.key] = took.get(event.key, 0.0) + event.seconds
            came_out += [event.key] if event.status in ("passed", "tolerated") else []
    return {key: round(took[key], 3) for key in came_out}


@contextmanager
def held_group(state_dir: Path, group: str | None) -> Iterator[None]:
    """Hold the concurrency group, if the plan names one. Raises GroupBusy if another run holds it."""
    if group is None:
        yield
        return
    directory = state_dir / _GROUPS
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    descriptor = os.open(
        directory / sha256(group.encode()).hexdigest()[:32], os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600
    )
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise GroupBusy(f"another run of the group {group!r} is in progress on this host") from None
        yield
    finally:
        os.close(descriptor)
