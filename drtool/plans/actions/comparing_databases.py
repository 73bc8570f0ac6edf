"""`compare` of a database with its recorded inventory: rows and schema at the time of the snapshot.

Invariants
    The record is that of the snapshot that a needed step restored into this DSN, else of the source's newest snapshot.
    Anything that was not recorded is unproven, never equal.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from drtool.errors import DrtoolError
from drtool.plans.actions.port import Outcome, RunContext, StepContext, Work
from drtool.plans.actions.restoring_databases import ROWS, WHAT, access, watch_of
from drtool.plans.language.actions import Compare
from drtool.sources.databases import Difference, engine_of, unproven
from drtool.sources.inventory import NAME, Database, read_inventory

_ROOM_BYTES, _ROOM_FILES = 256 << 20, 10_000


def unfit(action: Compare, kinds: Sequence[str], *, known: bool) -> str:
    """Return why a database or record cannot be compared, or an empty string. A DSN may not be `known` yet."""
    if sorted(kinds) != ["dsn", "recorded"] and (known or "recorded" not in kinds):
        return "a database is compared with its record: one side must be a DSN, the other recorded:SOURCE"
    others = [what for what in action.what if what not in WHAT]
    return f"{', '.join(others)}: for a database, compare {' and '.join(WHAT)}" if others else ""


def compared(
    action: Compare, dsn: str, source: str, step_context: StepContext, run_context: RunContext, work: Work
) -> Outcome:
    """Compare a database with its record. Raises TimeUp, WasCancelled or DrtoolError."""
    snapshot = restored_into("dsn", dsn, step_context, run_context) or str(
        recorded_rows(source, run_context, work)[-1]["id"]
    )
    files = recorded_files(snapshot, run_context, work)
    found = sorted(files.glob(f"*/{NAME}"))
    if not found:
        return Outcome(status="unproven", detail=f"snapshot {snapshot[:8]} of {source} records no database")
    inventory = read_inventory(found[0].read_bytes())
    chosen = list(inventory.databases)
    lacking = unproven(chosen, action.what)
    if lacking:
        return Outcome(status="unproven", detail=lacking)
    target = engine_of(inventory.drtool).connect(dsn, run_context.environ, watch_of(work), access(source, run_context))
    return _judged(action, snapshot, chosen, target.differences(chosen, files, action.what))


def _judged(action: Compare, snapshot: str, chosen: list[Database], found: list[Difference]) -> Outcome:
    evidence: dict[str, Any] = {
        "snapshot": snapshot,
        "databases": [database.name for database in chosen],
        "tables": sum(len(database.rows or {}) for database in chosen),
        "compared": list(action.what),
    }
    if found:
        rows = [f"{row.where}: {row.detail}" for row in found[:ROWS]]
        more = f", and {len(found) - 1} more" if len(found) > 1 else ""
        outputs = {"equal": False, "differences": len(found), "paths": sorted({row.where for row in found})[:ROWS]}
        return Outcome(status="failed", detail=rows[0] + more, outputs=outputs, evidence=evidence | {"rows": rows})
    told = f"{' and '.join(action.what)} of {', '.join(database.name for database in chosen)} are as recorded"
    outputs = {"equal": True, "differences": 0, "paths": []}
    return Outcome(status="passed", detail=told, outputs=outputs, evidence=evidence)


def restored_into(output: str, place: str, step_context: StepContext, run_context: RunContext) -> str:
    """Return the snapshot that a needed step restored to `place`, by its output `output`, or an empty string."""
    for need in step_context.step.needs:
        outputs = run_context.outputs(need.step)
        if outputs.get(output) == place:
            return str(outputs.get("snapshot_id") or "")
    return ""


def recorded_rows(source: str, run_context: RunContext, work: Work) -> list[dict[str, Any]]:
    """Return the snapshots of a source, the newest last. Raises DrtoolError if there are none."""
    result, document = run_context.drtool(["snapshots", "--source", source], work)
    rows = list(document.get("snapshots", ()))
    if result.exit_code or not rows:
        raise DrtoolError(f"source {source} has no snapshot, so nothing was recorded")
    return rows


def recorded_files(snapshot: str, run_context: RunContext, work: Work) -> Path:
    """Restore the inventory of a snapshot, and the schemas of databases, without its dumps."""
    to = work.scratch(_ROOM_BYTES, _ROOM_FILES) / f"recorded-{snapshot[:8]}"
    words = ["restore", "--to", str(to), "--include", NAME, "--include", "schema.sql", "--", snapshot]
    result, document = run_context.drtool(words, work)
    if result.exit_code or document.get("errors"):
        last = result.stderr.strip().splitlines()[-1:] or ["no further message"]
        raise DrtoolError(f"the record of snapshot {snapshot[:8]} could not be read: {last[0]}")
    return to
