"""The copy of a plan beside the journal of its run. A resumed run uses this copy, even if the original changed since."""

import os
from pathlib import Path

from drtool.errors import FormatError
from drtool.plans.language import load_plan
from drtool.plans.language.model import Plan

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
