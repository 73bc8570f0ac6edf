"""Retention of run folders. After a run, its plan's older runs are removed according to `report.keep`.

Invariants
    A run of any age stays if it is unfinished, in progress, damaged, or not yet in the catalogue.
    A folder is moved away before it is removed, so that no reader sees half of one. After a crash the next run removes it.
"""

import os
import shutil
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

from drtool.errors import DrtoolError
from drtool.plans.evidence.recording import MARK
from drtool.plans.journal.events import RunBegan, RunEnded
from drtool.plans.journal.file import is_written, read
from drtool.plans.running.runs import RUNS

_GONE = "runs.removed"


def remove_old(state_dir: Path, plan: str, keep_s: float, now_s: float) -> list[str]:
    """Remove old runs of `plan`, and return them, oldest first. Raises OSError."""
    runs, gone = state_dir / RUNS, state_dir / _GONE
    old = list(_old(runs, plan, now_s - keep_s))
    if old:
        gone.mkdir(mode=0o700, exist_ok=True)
    for folder in old:
        os.rename(folder, gone / folder.name)
    if gone.is_dir():
        shutil.rmtree(gone)
    return [folder.name for folder in old]


def _old(runs: Path, plan: str, before_s: float) -> Iterator[Path]:
    for name in sorted(os.listdir(runs)) if runs.is_dir() else ():
        folder = runs / name
        if not folder.is_symlink():
            ended_s = _ended_s(folder, plan)
            if ended_s is not None and ended_s < before_s:
                yield folder


def _ended_s(folder: Path, plan: str) -> float | None:
    """Return the end of a run that may be removed, or None: unfinished, of another plan, not recorded, or damaged."""
    try:
        if is_written(folder):
            return None
        events, _ = read(folder)
    except (DrtoolError, OSError):
        return None  # `plan history` shows the problem; a person decides
    began = next((event for event in events if isinstance(event, RunBegan)), None)
    ended = next((event for event in reversed(events) if isinstance(event, RunEnded)), None)
    if began is None or ended is None or began.plan != plan:
        return None
    if began.config and not (folder / MARK).is_file():
        return None  # a run without a configuration has no catalogue to record it in
    return datetime.fromisoformat(ended.at).timestamp()
