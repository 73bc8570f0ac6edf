"""`compare` of a host with its recorded inventory: packages and units, of this host (`live:/`) or of a restored one.

Invariants
    A restored host is read from its own files (the package manager's database, the links of enabled units), never from the
    restored inventory. That would compare the record with itself.
    Anything that only one side knows is unproven, never equal.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from drtool.errors import DrtoolError
from drtool.plans.actions.comparing_databases import recorded_files, recorded_rows, restored_into
from drtool.plans.actions.port import Outcome, RunContext, StepContext, Work
from drtool.plans.actions.restoring_databases import ROWS
from drtool.plans.language.actions import Compare
from drtool.sources.system import INVENTORY, counted, lacking, present_system, read_system, restored_system
from drtool.sources.system import differences as differing

WHAT = ("packages", "units")


def wanted(action: Compare) -> bool:
    return any(what in WHAT for what in action.what)


def unfit(action: Compare, kinds: Sequence[str]) -> str:
    """Return why these sides cannot be compared, or an empty string."""
    if sorted(kinds) not in (["path", "recorded"], ["live", "recorded"]):
        return "a system is compared with its record: one side must be a path or live:/, the other recorded:SOURCE"
    others = [what for what in action.what if what not in WHAT]
    return f"{', '.join(others)}: for a system, compare {' and '.join(WHAT)}" if others else ""


def compared(
    action: Compare, kind: str, place: str, source: str, step_context: StepContext, run_context: RunContext, work: Work
) -> Outcome:
    """Compare a system with its record. Raises TimeUp, WasCancelled or DrtoolError."""
    snapshot = restored_into("path", place, step_context, run_context) or _newest(kind, source, run_context, work)
    record = recorded_files(snapshot, run_context, work) / INVENTORY.decode().lstrip("/")
    if not record.is_file():
        return Outcome(status="unproven", detail=f"snapshot {snapshot[:8]} of {source} records no system")
    recorded = read_system(record.read_bytes())
    found = present_system(run_context.environ) if kind == "live" else restored_system(Path(place), run_context.environ)
    unknown = lacking(recorded, found, action.what)
    known = counted(recorded, found, action.what)
    blank = next((what for what in action.what if what in unknown), None)
    if blank is not None:
        return Outcome(status="unproven", detail=f"{blank}: {unknown[blank]}")
    if not any(known.values()):
        return Outcome(status="unproven", detail=f"snapshot {snapshot[:8]} of {source} records none of them")
    rows = [f"{row.what} {row.name}: {row.change}, {row.detail}" for row in differing(recorded, found, action.what)]
    evidence: dict[str, Any] = {"snapshot": snapshot, "recorded": known, "unknown": unknown}
    if rows:
        more = f", and {len(rows) - 1} more" if len(rows) > 1 else ""
        outputs = {"equal": False, "differences": len(rows), "paths": rows[:ROWS]}
        return Outcome(
            status="failed", detail=rows[0] + more, outputs=outputs, evidence=evidence | {"rows": rows[:ROWS]}
        )
    told = " and ".join(f"{count} {what}" for what, count in known.items())
    blind = f"; not compared: {', '.join(unknown)}" if unknown else ""
    outputs = {"equal": True, "differences": 0, "paths": []}
    return Outcome(
        status="passed",
        detail=f"{told} are as recorded in snapshot {snapshot[:8]}{blind}",
        outputs=outputs,
        evidence=evidence,
    )


def _newest(kind: str, source: str, run_context: RunContext, work: Work) -> str:
    """Return the newest snapshot, for `live:/` one of this host if there is one. Raises DrtoolError if ambiguous."""
    rows = recorded_rows(source, run_context, work)
    mine = [row for row in rows if kind == "live" and row["host"] == run_context.host]
    hosts = sorted({str(row["host"]) for row in mine or rows})
    if len(hosts) > 1:
        raise DrtoolError(
            f"{', '.join(hosts)} each have a source {source}, so the snapshot is ambiguous",
            hint="let the step need the step that restored it",
        )
    return str((mine or rows)[-1]["id"])
