"""`plan resume`: resume a run whose process died."""

from typing import TYPE_CHECKING, Annotated

import typer

from drtool.cli.commands.plan.execution import event_handler, show_result, signals
from drtool.cli.core.call import Call
from drtool.errors import DrtoolError

if TYPE_CHECKING:
    from drtool.plans.journal.events import RunBegan


def plan_resume(
    context: typer.Context,
    run: Annotated[
        str | None, typer.Argument(metavar="[RUN]", help="Resume this run instead of the last unfinished one.")
    ] = None,
) -> None:
    """Resume a run whose process died.

    Finished steps are not repeated. Steps that were running have an unknown outcome. The `on_resume` of each step
    decides how it continues. The plan is the one that the run began with.

    Examples:
        drtool plan resume
        drtool plan resume 20261123-140500-3f2a
    """
    from drtool.cli.commands.plan.recording import expected
    from drtool.cli.commands.plan.world import world
    from drtool.plans.evidence.objectives import measure
    from drtool.plans.journal.file import read
    from drtool.plans.language.quantities import moment_ns
    from drtool.plans.language.values import Moment
    from drtool.plans.language.variables import restore_vars
    from drtool.plans.running.resumption import kept_plan
    from drtool.plans.running.runs import folder_of, last_unfinished
    from drtool.plans.running.session import carry_on, preview
    from drtool.plans.running.state import RunState

    call: Call = context.obj
    run_id = run or last_unfinished(call.state_dir)
    if run_id is None:
        raise DrtoolError("no run is unfinished", hint="drtool plan history lists the finished ones")
    folder = folder_of(call.state_dir, run_id)
    state = RunState(read(folder)[0])
    began = state.run
    if began is None or state.over is not None:
        raise DrtoolError(f"run {run_id} is finished" if state.over else f"run {run_id} never began")
    plan = kept_plan(folder, _own_file(began), began.digest)
    started = Moment(moment_ns(began.started or began.at))
    incident = Moment(moment_ns(began.incident_at)) if began.incident_at else None
    again = world(
        call,
        plan,
        run_id,
        variables=(),
        started=started,
        live=began.live,
        incident=incident,
        resolved=restore_vars(plan, began.variables, started),
    )
    resolution = preview(again)
    likely = expected(call, again, resolution)
    with signals() as interrupted:
        result = carry_on(again, resolution, measure, interrupted, event_handler(call, again))
    show_result(call, again, result, likely)


def _own_file(began: "RunBegan") -> str:
    return next(iter(began.sources))
