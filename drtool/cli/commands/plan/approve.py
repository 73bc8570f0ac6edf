"""`plan approve`: answer a run that waits for approval."""

from typing import Annotated

import typer

from drtool.cli.core.call import Call
from drtool.cli.core.view import line, view
from drtool.errors import Refused, UsageError


def plan_approve(
    context: typer.Context,
    run: Annotated[str, typer.Argument(metavar="RUN", help="Answer this run. It prints its id when it asks.")],
    step: Annotated[str, typer.Argument(metavar="STEP", help="Answer for this step.")],
    no: Annotated[bool, typer.Option("--no", help="Refuse instead of approving.")] = False,
    note: Annotated[str, typer.Option("--note", metavar="TEXT", help="Add a note for the report.")] = "",
) -> None:
    """Answer a run that waits for approval.

    Use it from another terminal on the same host.

    Examples:
        drtool plan approve 20261123-140500-3f2a go
        drtool plan approve 20261123-140500-3f2a go --no --note "not before the weekend"
    """
    from drtool.plans.approvals import answer
    from drtool.plans.journal.file import is_written, read
    from drtool.plans.running.runs import folder_of
    from drtool.plans.running.state import RunState

    call: Call = context.obj
    folder = folder_of(call.state_dir, run)
    state = RunState(read(folder)[0])
    if state.over is not None or not is_written(folder):
        raise Refused(f"run {run} is not running, so there is nothing to approve", hint=f"drtool plan resume {run}")
    waiting = [key for key, began in state.running.items() if began.uses == "approve"]
    if step not in waiting:
        asked = f"; it waits for {', '.join(waiting)}" if waiting else "; it waits for no answer"
        raise UsageError(f"run {run} does not wait for an answer to {step}{asked}")
    answer(folder, step, yes=not no, note=note)
    document = {"run_id": run, "step": step, "yes": not no}
    call.show(document, view(line(f"{step} of {run}: {'no' if no else 'yes'}")))
