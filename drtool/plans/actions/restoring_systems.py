"""A system, for `restore`: its files, and a comparison of the system they describe with the record.

The files are restored and compared like any others. Then packages, units, users and the rest are read from them.
"""

from pathlib import Path
from typing import Any

from drtool.errors import DrtoolError
from drtool.manifest.records import Snapshot
from drtool.operations.drift import recorded_system
from drtool.plans.actions.port import Outcome, RunContext
from drtool.plans.language.actions import Restore
from drtool.repository import Repository
from drtool.sources.system import INVENTORY, KIND, WHAT, counted, differences, lacking, read_system, restored_system

ROWS = 50


def wanted(action: Restore) -> bool:
    return action.to.engine == KIND


def unfit(action: Restore, repository: Repository, snapshot: Snapshot) -> str:
    """Return why the snapshot cannot be restored as a system, or an empty string."""
    if action.to.dsn is not None:
        return "a system is restored into scratch or a path, not into a DSN"
    if action.paths or action.exclude:
        return "a system is restored as a whole; leave out `paths` and `exclude`"
    try:
        recorded_system(repository, snapshot)
    except DrtoolError as error:
        return error.message
    return ""


def judged(files: Path, run_context: RunContext) -> Outcome:
    """Compare the system restored below `files` with its own inventory."""
    try:
        recorded = read_system((files / INVENTORY.decode().lstrip("/")).read_bytes())
    except (OSError, DrtoolError) as error:
        return Outcome(status="failed", cause="error", detail=f"the restored inventory cannot be read: {error}")
    found = restored_system(files, run_context.environ)
    unknown = lacking(recorded, found, WHAT)
    known = counted(recorded, found, WHAT)
    rows = [f"{row.what} {row.name}: {row.change}, {row.detail}" for row in differences(recorded, found, WHAT)]
    outputs = {"engine": KIND, "server_version": recorded.os.get("PRETTY_NAME")}
    evidence: dict[str, Any] = {
        "recorded": known,
        "unknown": unknown,
        "differences": rows[:ROWS],
    }
    if rows:
        more = f", and {len(rows) - 1} more" if len(rows) > 1 else ""
        detail = f"restored, but not as recorded: {rows[0]}{more}"
        return Outcome(status="failed", detail=detail, outputs=outputs, evidence=evidence)
    if not any(known.values()):
        return Outcome(status="unproven", detail="nothing in the record can be checked from files", evidence=evidence)
    told = f"{known['packages']} packages and {known['units']} units of {recorded.hostname} are as recorded"
    blind = f"; not checked: {', '.join(unknown)}" if unknown else ""
    return Outcome(status="passed", detail=told + blind, outputs=outputs, evidence=evidence)
