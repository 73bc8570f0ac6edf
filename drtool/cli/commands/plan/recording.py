"""Runs of plans in the catalogue: recording and reading them. A failure here never fails the command."""

import time
from typing import TYPE_CHECKING

from msgspec import Struct

from drtool.cli.core.options import sites
from drtool.cli.core.text import Document, document_of
from drtool.cli.core.view import Style
from drtool.errors import DrtoolError
from drtool.events import Warned

if TYPE_CHECKING:
    from collections.abc import Mapping

    from drtool.cli.core.call import Call
    from drtool.manifest.records import RecordedRun
    from drtool.plans.evidence.history import Estimate, HistoryRow
    from drtool.plans.running.resolving import Resolution
    from drtool.plans.running.session import Run


def record_owed(call: "Call") -> dict[str, str]:
    """Record each finished run of this host that the catalogue lacks.

    Return by run the reason for a failure, or "" on success.
    """
    from drtool.manifest.ops import RecordRun
    from drtool.plans.evidence.recording import mark, owed

    rows = list(owed(call.state_dir, str(call.settings.config_path or "")))
    if not rows:
        return {}
    try:
        with call.open_repository() as repository:
            done = repository.manifest.commit([RecordRun(row) for _, row in rows])
        for folder, _ in rows:
            mark(folder, done.sequence)
    except (DrtoolError, OSError) as error:
        why = error.message if isinstance(error, DrtoolError) else str(error)
        call.emit(
            Warned(
                message=f"not recorded in the catalogue: {why}; the next `drtool plan run` or `plan history` records it"
            )
        )
        return {row.id: why for _, row in rows}
    return {row.id: "" for _, row in rows}


def remove_old_runs(call: "Call", run: "Run") -> list[str]:
    """Remove the folders of this plan's runs that are older than its `report.keep`. Return the removed runs."""
    from drtool.plans.evidence.keeping import remove_old

    keep_s = run.plan.report.keep_s
    if keep_s is None:
        return []
    try:
        return remove_old(call.state_dir, run.plan.id, keep_s, time.time())
    except OSError as error:
        call.emit(Warned(message=f"old runs of {run.plan.id} could not be removed: {error}"))
        return []


def known_runs(call: "Call", recorded: "tuple[RecordedRun, ...]") -> "list[HistoryRow]":
    """Return the runs from the catalogue and from this host's journals."""
    from drtool.plans.evidence.history import history
    from drtool.plans.running.runs import past_runs

    return history(recorded, past_runs(call.state_dir), call.settings.host)


class Expected(Struct, frozen=True):
    """Estimates from a plan's earlier runs: by objective, and of its steps by id. Values without data are left out."""

    objectives: dict[str, Document]
    steps: dict[str, Document]


def expected(call: "Call", run: "Run", resolution: "Resolution") -> Expected:
    """Return the estimates for a run that is about to begin or resume."""
    from drtool.plans.evidence.history import estimates, history, step_estimates
    from drtool.plans.running.building import steps_by_id
    from drtool.plans.running.runs import past_runs

    recorded: tuple[RecordedRun, ...] = ()
    try:
        if call.settings.config_path is not None:
            with run.context.repository() as repository:
                recorded = repository.view.state.runs
    except DrtoolError as error:
        call.emit(Warned(message=f"estimates use only this host's runs: {error.message}"))
    steps = steps_by_id(run.plan)
    past = list(past_runs(call.state_dir))
    own_s = {row.id: steps[row.id].estimate_s or row.preview.estimate_s for row in resolution.rows if row.id in steps}
    return Expected(
        _known(estimates(history(recorded, past, call.settings.host), run.plan.id)),
        _known(step_estimates(past, run.plan.id, own_s)),
    )


def _known(found: "Mapping[str, Estimate | None]") -> dict[str, Document]:
    return {name: document_of(value) for name, value in found.items() if value is not None}


VERDICT_STYLES: dict[str, Style] = {
    "passed": "good",
    "unproven": "warn",
    "missed": "warn",
    "at work": "dim",
    "unfinished": "warn",
}


def recorded_runs(call: "Call", manifest_from: list[str] | None) -> "tuple[RecordedRun, ...] | None":
    """Return the catalogue's runs, or None if there is no catalogue. If it cannot be opened, warn and return None."""
    if call.settings.config_path is None and manifest_from is None:
        return None
    try:
        with call.open_for_report(sites(manifest_from)) as repository:
            return repository.view.state.runs
    except DrtoolError as error:
        call.emit(
            Warned(message=f"the catalogue could not be read, so only runs of this host are shown: {error.message}")
        )
        return None
