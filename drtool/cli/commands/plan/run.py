"""`plan run`: run a plan."""

from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

import typer

from drtool.cli.commands.plan.execution import Live, event_handler, objective_targets, run_head, show_result, signals
from drtool.cli.commands.plan.run_view import run_view
from drtool.cli.core.call import Call
from drtool.cli.core.options import DryRun
from drtool.cli.core.plan_files import plan_file, trusted_plan
from drtool.cli.core.text import Document
from drtool.errors import UsageError
from drtool.events import Warned

if TYPE_CHECKING:
    from drtool.cli.commands.plan.recording import Expected
    from drtool.plans.running.resolving import Resolution
    from drtool.plans.running.session import Run


def plan_run(
    context: typer.Context,
    plan: Annotated[
        str, typer.Argument(metavar="FILE|ID", help="Run this plan: a file, or an id in the configured directory.")
    ],
    dry_run: DryRun = False,
    live: Live = False,
    variables: Annotated[
        list[str] | None, typer.Option("--var", metavar="NAME=VALUE", help="Set a variable of the plan (repeatable).")
    ] = None,
    incident_at: Annotated[
        str | None,
        typer.Option("--incident-at", metavar="TIME", help="Measure RTO and RPO from this time of the incident."),
    ] = None,
) -> None:
    """Run a plan, and measure and record the run.

    First every step is resolved without changing anything. Then the steps are executed. If a step cannot run, the
    command exits with 1 before anything is changed and gives the reason for each such step. Ctrl-C ends the current
    steps, and then undo and `always` still run. A second Ctrl-C skips them. The journal records the run: `drtool plan
    history`.

    Examples:
        drtool plan run single-file --var source=home --var path=/home/ann/thesis --dry-run
        drtool plan run plans/site-loss.yaml --var lost=paris --incident-at 2026-11-23T08:30:00Z
        drtool plan run game-day --var victim=attic --live
    """
    call: Call = context.obj
    file = plan_file(call, plan)  # an unknown plan is refused before anything heavy is imported

    from drtool.cli.commands.plan.recording import expected
    from drtool.cli.commands.plan.world import world
    from drtool.plans.evidence.objectives import measure
    from drtool.plans.running.resumption import keep_plan
    from drtool.plans.running.runs import new_run_id
    from drtool.plans.running.session import carry_out, check_before, preview, started_now
    from drtool.plans.running.supervision import untold

    loaded = trusted_plan(call, plan, file)
    started = started_now()
    run = world(
        call,
        loaded,
        new_run_id(datetime.now(UTC)),
        variables=variables or (),
        started=started,
        live=live,
        incident=_moment(incident_at, started),
    )
    if not dry_run:
        check_before(run)
    if loaded.objectives.clock == "incident" and loaded.objectives.rto_s is not None and incident_at is None:
        call.emit(
            Warned(message="rto counts from the incident: without --incident-at it can be neither measured nor passed")
        )
    resolution = preview(run)
    if dry_run or resolution.cannot:
        document = _preview_document(run, resolution, expected(call, run, resolution), dry_run=dry_run)
        call.show(document, run_view(document), exit_code=1 if resolution.cannot else 0)
        return
    likely = expected(call, run, resolution)
    for row in untold(run.plan, run.context.can_tell):
        call.emit(Warned(message=f"the plan's notify: {row}"))
    with signals() as interrupted:
        result = carry_out(
            run,
            resolution,
            measure,
            interrupted,
            event_handler(call, run),
            begun=partial(keep_plan, loaded, file.parent, run.context.folder),
        )
    show_result(call, run, result, likely)


def _moment(word: str | None, started: Any) -> Any:  # noqa: ANN401 - a Moment
    from drtool.plans.language.quantities import when

    if word is None:
        return None
    try:
        moment = when(word).resolved(started)
    except ValueError as error:
        raise UsageError(f"--incident-at: {error}") from None
    if moment > started:
        raise UsageError(f"--incident-at {word} is in the future")
    return moment


def _preview_document(run: "Run", resolution: "Resolution", likely: "Expected", *, dry_run: bool) -> Document:
    from drtool.plans.running.supervision import untold

    rows = [
        {
            "id": row.id,
            "uses": row.uses,
            "status": row.status,
            "seconds": None,
            "estimate": likely.steps.get(row.id),
            "detail": row.preview.detail,
        }
        for row in resolution.rows
    ]
    return run_head(run, "simulated" if dry_run else "failed", dry_run=dry_run) | {
        "steps": rows,
        "objectives": {
            name: {"target": target, "measured": None, "met": None, "estimate": likely.objectives.get(name)}
            for name, target in objective_targets(run.plan.objectives).items()
            if target is not None or name in likely.objectives
        },
        "unproven": [
            f"{row.id}: {row.preview.detail or 'cannot be checked beforehand'}" for row in resolution.unprovable
        ],
        "leftovers": [],
        "untold": untold(run.plan, run.context.can_tell),
        "reason": f"{len(resolution.cannot)} cannot run" if resolution.cannot else "",
    }
