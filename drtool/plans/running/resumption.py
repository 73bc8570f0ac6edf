"""The start of a resumed run: the plan stored beside its journal, and the doubt about work without an outcome.

A resumed run uses the stored plan, even if the original changed since.
"""

import os
from collections.abc import Iterator
from pathlib import Path

from drtool.errors import FormatError
from drtool.plans.journal.events import Ended
from drtool.plans.language import load_plan
from drtool.plans.language.model import Plan
from drtool.plans.running.state import RunState

FOLDER = "plan"


def keep_plan(plan: Plan, directory: Path, folder: Path) -> None:
    """Copy the plan's files, which are below `directory`, into a run's folder."""
    for row in plan.files:
        to = folder / FOLDER / row.file
        to.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor = os.open(to, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write((directory / row.file).read_bytes())
            file.flush()
            os.fsync(file.fileno())


def kept_plan(folder: Path, name: str, digest: str) -> Plan:
    """Load the plan that a run began with, from its main file `name`. Raises FormatError if its digest differs."""
    plan = load_plan(folder / FOLDER / name)
    if plan.digest != digest:
        raise FormatError(f"{folder / FOLDER}: this is not the plan that the run began with")
    return plan


def doubts(state: RunState, elapsed_s: float, at: str) -> Iterator[Ended]:
    """Yield an outcome for each piece of work that was running when the process died. It is retried, so it is not final."""
    for key, began in list(state.running.items()):
        yield Ended(
            at=at,
            elapsed_s=elapsed_s,
            key=key,
            status="aborted",
            attempt=began.attempt,
            detail="the process died before it ended",
            cause="doubt",
            retry_at_s=elapsed_s,
        )
