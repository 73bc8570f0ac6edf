"""Databases, for `restore` and `compare`: the dumps of a snapshot are loaded into a server and compared with the record.

Invariants
    The command restores and compares the files like any others. Then they are loaded, and the server is compared with the
    inventory: if rows or schema differ, the database is not restored.
    Scratch servers end with the run, passed or failed. All waiting ends with the step's timeout.
"""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from drtool.config import load_config
from drtool.errors import DrtoolError, Refused
from drtool.manifest.records import Snapshot
from drtool.operations.inventories import recorded
from drtool.plans.actions.port import Outcome, RunContext, Work
from drtool.plans.bounded import TimeUp, WasCancelled
from drtool.plans.language.actions import Restore
from drtool.repository import Repository
from drtool.sources.configured import access_of
from drtool.sources.databases import NO_ACCESS, Access, Target, engine_of, nobody_watches, unproven
from drtool.sources.inventory import NAME, Database, Inventory, read_inventory

WHAT = ("rowcount", "schema")
ROWS = 50


def wanted(action: Restore) -> bool:
    """Return whether the step restores a database, and not files alone."""
    return action.to.engine not in (None, "system") or action.to.dsn is not None


def unfit(
    action: Restore, repository: Repository, snapshot: Snapshot, run_context: RunContext
) -> tuple[str, Inventory | None]:
    """Return why the snapshot cannot be loaded (or ""), and its inventory."""
    engine, short = action.to.engine, snapshot.id.hex()[:8]
    if action.paths or action.exclude:
        return "a database is restored as a whole; leave out `paths` and `exclude`", None
    inventory = recorded(repository, snapshot)
    if inventory is None:
        return f"snapshot {short} is not of a database, but the step has engine: {engine}", None
    if inventory.drtool != engine:
        return f"snapshot {short} is of {inventory.drtool}, but the step has engine: {engine}", None
    return _lacking(action, inventory, run_context, snapshot.source), inventory


def access(source: str, run_context: RunContext) -> Access:
    """Return how the backup of a source reaches its server. Raises DrtoolError."""
    if run_context.config_path is None:
        return NO_ACCESS
    return access_of(load_config(run_context.config_path).sources.get(source), run_context.config_path.parent)


def _lacking(action: Restore, inventory: Inventory, run_context: RunContext, source: str) -> str:
    """Return what this host, or the server of the DSN, is missing."""
    engine = engine_of(inventory.drtool)
    problem = engine.lacks(run_context.environ, inventory, scratch=action.to.dsn is None)
    if problem or action.to.dsn is None:
        return problem
    try:
        engine.connect(action.to.dsn, run_context.environ, nobody_watches, access(source, run_context))
    except DrtoolError as error:
        return error.message
    return ""


def watch_of(work: Work) -> Callable[[], None]:
    """Return a function that raises when the step must end."""

    def watch() -> None:
        if work.cancelled.is_set():
            raise WasCancelled("the run was cancelled")
        if time.monotonic() >= work.ends_at:
            raise TimeUp("no answer in time")

    return watch


def load(action: Restore, pins: Any, files: Path, run_context: RunContext, work: Work) -> Outcome:  # noqa: ANN401 - pinned by `preview`
    """Load restored dumps into a server, and compare it with the record."""
    try:
        inventory = read_inventory((files / str(action.to.engine) / NAME).read_bytes())
        target = _target(action, pins, inventory, run_context, work)
        work.at_end(target.stop)
        chosen = target.put_back(inventory, files, (), work.progress)
        return _judged(action, pins, inventory, target, chosen, files)
    except Refused as error:
        return Outcome(status="failed", cause="refused", detail=run_context.redact(error.message))
    except DrtoolError as error:
        told = f"{error.message}; {error.hint}" if error.hint else error.message
        return Outcome(status="failed", cause="error", detail=run_context.redact(told))
    except OSError as error:
        return Outcome(status="failed", cause="error", detail=f"the restored files cannot be read: {error}")
    except TimeUp:
        return Outcome(status="failed", cause="timeout", detail="the time ran out before the database was loaded")
    except WasCancelled:
        return Outcome(
            status="aborted", cause="cancelled", detail="the run was cancelled before the database was loaded"
        )


def _target(action: Restore, pins: Any, inventory: Inventory, run_context: RunContext, work: Work) -> Target:  # noqa: ANN401 - as above
    engine = engine_of(inventory.drtool)
    if action.to.dsn is not None:
        how = access(str(pins.get("source", "")), run_context)
        return engine.connect(action.to.dsn, run_context.environ, watch_of(work), how)
    return engine.start(tuple(run_context.scratch_roots), run_context.environ, inventory, pins["bytes"], watch_of(work))


def _judged(
    action: Restore,
    pins: Any,  # noqa: ANN401 - as above
    inventory: Inventory,
    target: Target,
    chosen: list[Database],
    files: Path,
) -> Outcome:
    what = [each for each in WHAT if not unproven(chosen, (each,))]
    found = [*target.problems, *target.differences(chosen, files, what)]
    outputs = {
        "dsn": target.url if action.to.dsn is None else None,
        "engine": inventory.drtool,
        "server_version": target.version,
        "programs": target.programs,
        "consistent_at": consistent_at(pins, chosen),
    }
    evidence: dict[str, Any] = {
        "databases": [database.name for database in chosen],
        "compared": what,
        "recorded_version": inventory.server_version,
        "differences": [f"{row.where}: {row.detail}" for row in found[:ROWS]],
    }
    if found:
        first = f"{found[0].where}: {found[0].detail}"
        more = f", and {len(found) - 1} more" if len(found) > 1 else ""
        detail = f"loaded, but not as recorded: {first}{more}"
        return Outcome(status="failed", detail=detail, outputs=outputs, evidence=evidence)
    told = f"{', '.join(database.name for database in chosen)} in {inventory.drtool} {target.version}"
    proof = f"; {' and '.join(what)} as recorded" if what else ""
    return Outcome(status="passed", detail=told + proof, outputs=outputs, evidence=evidence)


def consistent_at(pins: Any, chosen: list[Database]) -> str:  # noqa: ANN401 - as above
    """Return the oldest consistency time of the databases, or that of the snapshot if any is not recorded."""
    moments = [database.consistent_at for database in chosen if database.consistent_at is not None]
    return min(moments) if moments and len(moments) == len(chosen) else str(pins["consistent_at"])
