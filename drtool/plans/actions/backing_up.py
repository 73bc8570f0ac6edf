"""`backup`: backs up a configured source, as `drtool backup --source` does."""

import os
from pathlib import Path
from typing import Any

from drtool.config import SourceConfig, load_config, nearest
from drtool.errors import DrtoolError
from drtool.model import counted
from drtool.plans.actions.port import Outcome, Preview, RunContext, StepContext, Work
from drtool.plans.actions.verbs import ROWS_MAX, cannot, deferred, ended
from drtool.plans.language.actions import RESULTS, Backup
from drtool.sources.configured import captured_source
from drtool.sources.port import Around as Capturing

OUTPUTS = RESULTS["backup"]
_DEGRADED, _INCOMPLETE = 5, 3


class BackupAction:
    """An implementation of `port.Action`."""

    def preview(self, step_context: StepContext, run_context: RunContext) -> Preview:
        action: Backup = step_context.action
        later = deferred(step_context)
        if later is not None:
            return later
        if run_context.config_path is None:
            return cannot("there is no configuration, so no source is defined")
        sources = load_config(run_context.config_path).sources
        if action.source not in sources:
            return cannot(f"{run_context.config_path} has no source {action.source!r}{nearest(action.source, sources)}")
        source = sources[action.source]
        problem = _unreadable(source.named_paths, run_context.config_path.parent) or _uncapturable(source, run_context)
        if problem:
            return cannot(f"source {action.source}: {problem}")
        with run_context.repository() as repository:
            wanted, least = repository.view.state.policy.copies, repository.view.state.policy.minimum
            tentative = repository.view.tentative
            sites = {
                name.partition("/")[0] for name in repository.targets.storing() if repository.targets.reachable(name)
            }
        if tentative:
            return cannot("the manifest has no quorum, so no snapshot could be recorded")
        if len(sites) < max(1, least):
            return cannot(f"only {len(sites)} storing sites are reachable, but {max(1, least)} are needed")
        short = f"; {len(sites)} of {wanted} sites are reachable" if len(sites) < wanted else ""
        return Preview(verdict="would change", detail=f"the repository: a snapshot of {action.source}{short}")

    def act(self, step_context: StepContext, run_context: RunContext, work: Work) -> Outcome:
        action: Backup = step_context.action
        words = ["backup", "--source", action.source, *(word for tag in action.tags for word in ("--tag", tag))]
        result, document = run_context.drtool(words, work)
        return ended(result, document, run_context, _judged, (0, _INCOMPLETE, _DEGRADED))


def _uncapturable(config: SourceConfig, run_context: RunContext) -> str:
    """Return why a source other than files cannot be captured now, or an empty string."""
    assert run_context.config_path is not None
    try:
        source = captured_source(config, run_context.config_path.parent)
        if source is not None:
            source.foresee(
                Capturing(state_dir=run_context.state_dir, environ=run_context.environ, warn=_drop, problem=_drop)
            )
    except DrtoolError as error:
        return run_context.redact(error.message)
    return ""


def _drop(_: object) -> None:
    """Ignore messages that matter only when something is stored."""


def _unreadable(paths: tuple[str, ...], directory: Path) -> str:
    """Return why nothing can be backed up from the paths, or an empty string."""
    for name in paths:
        path = directory / Path(name)
        try:
            if path.is_dir():
                with os.scandir(path) as entries:
                    if next(entries, None) is None:
                        return f"{path} is empty"
            else:
                path.open("rb").close()
        except FileNotFoundError:
            return f"there is no {path}"
        except OSError as error:
            return f"{path} cannot be read: {error.strerror}"
    return ""


def _judged(document: dict[str, Any], exit_code: int) -> Outcome:
    rows = document["snapshots"]
    if len(rows) != 1:
        return Outcome(status="failed", cause="error", detail=f"it stored {len(rows)} snapshots instead of 1")
    row = rows[0]
    outputs = {
        "snapshot_id": row["id"],
        "time": row["time"],
        "files": sum(row["files"].values()),
        "bytes": row["processed_bytes"],
        "added_bytes": row["added_bytes"],
        "stored_bytes": row["stored_bytes"],
        "degraded": row["degraded"],
    }
    evidence = {"errors": row["errors"][:ROWS_MAX], "owed": row["owed"], "copies": row["copies"]}
    if exit_code == _INCOMPLETE or row["errors"]:
        detail = (
            f"{counted(len(row['errors']), 'item')} could not be read, {row['errors'][0]['path']} first"
            if row["errors"]
            else "incomplete"
        )
        return Outcome(status="failed", detail=detail, outputs=outputs, evidence=evidence)
    owed = ", ".join(one["target"] for one in row["owed"])
    detail = f"snapshot {row['id'][:8]}" + (f", degraded: {owed} is unreachable" if row["degraded"] else "")
    return Outcome(status="passed", detail=detail, outputs=outputs, evidence=evidence)
