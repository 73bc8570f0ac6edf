"""`plan run`, `plan resume` and `plan approve`: run a plan, resume a run, and answer its questions."""

import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

import typer

from drtool.cli.call import Call
from drtool.cli.options import DryRun
from drtool.cli.plans import plan_file, trusted_plan
from drtool.cli.text import Document, brief, duration
from drtool.cli.view import Cell, Line, Style, Table, View, line, table, view
from drtool.errors import DrtoolError, Refused, UsageError
from drtool.events import StepNoted, Warned

if TYPE_CHECKING:
    from types import FrameType

    from drtool.cli.plan_recording import Expected
    from drtool.plans.journal.events import Event, RunBegan
    from drtool.plans.language.model import Objectives
    from drtool.plans.running.resolving import Resolution
    from drtool.plans.running.session import Result, Run

Live = Annotated[bool, typer.Option("--live", help="Allow changes to production; a plan of scope live needs this.")]
_STYLES: dict[str, Style] = {
    "passed": "good",
    "tolerated": "good",
    "simulated": "good",
    "skipped": "dim",
    "unproven": "warn",
    "missed": "warn",
}


def plan_run(
    context: typer.Context,
    plan: Annotated[
        str, typer.Argument(metavar="FILE|ID", help="Run this plan: a file, or an id in the configured directory.")
    ],
    dry_run: DryRun = False,
    live: Live = False,
    variables: Annotated[
        list[str] | None, typer.Option("--var", metavar="NAME=VALUE", help="Set a variable of the plan; repeatable.")
    ] = None,
    incident_at: Annotated[
        str | None,
        typer.Option("--incident-at", metavar="TIME", help="Measure RTO and RPO from this time of the incident."),
    ] = None,
) -> None:
    """Run a plan: resolve every step without changing anything, then execute, measure and record it.

    If a step cannot run, the command exits with 1 before anything is changed and gives the reason for each such step.
    Ctrl-C ends the current steps, and then undo and `always` still run. A second Ctrl-C skips them. The journal
    records the run: `drtool plan history`.

    Examples:
        drtool plan run single-file --var source=home --var path=/home/ann/thesis --dry-run
        drtool plan run plans/site-loss.yaml --var lost=paris --incident-at 2026-11-23T08:30:00Z
        drtool plan run game-day --var victim=attic --live
    """
    call: Call = context.obj
    file = plan_file(call, plan)  # an unknown plan is refused before anything heavy is imported

    from drtool.cli.plan_recording import expected
    from drtool.cli.plan_world import world
    from drtool.plans.evidence.objectives import measure
    from drtool.plans.running.kept_plan import keep_plan
    from drtool.plans.running.runs import new_run_id
    from drtool.plans.running.session import carry_out, check_before, foresee, started_now
    from drtool.plans.running.telling import untold

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
    resolution = foresee(run)
    if dry_run or resolution.cannot:
        document = _foreseen(run, resolution, expected(call, run, resolution), dry_run=dry_run)
        call.show(document, run_view(document), exit_code=1 if resolution.cannot else 0)
        return
    likely = expected(call, run, resolution)
    for row in untold(run.plan, run.around.can_tell):
        call.emit(Warned(message=f"the plan's notify: {row}"))
    with _signals() as interrupted:
        result = carry_out(
            run,
            resolution,
            measure,
            interrupted,
            _telling(call, run),
            begun=partial(keep_plan, loaded, file.parent, run.around.folder),
        )
    _show(call, run, result, likely)


def plan_resume(
    context: typer.Context,
    run: Annotated[
        str | None, typer.Argument(metavar="[RUN]", help="Resume this run; by default, the last unfinished one.")
    ] = None,
) -> None:
    """Resume a run whose process died, without repeating finished steps.

    Steps that were running have an unknown outcome. The `on_resume` of each step decides how it continues. The plan
    is the one that the run began with.

    Examples:
        drtool plan resume
        drtool plan resume 20261123-140500-3f2a
    """
    from drtool.cli.plan_recording import expected
    from drtool.cli.plan_world import world
    from drtool.plans.evidence.objectives import measure
    from drtool.plans.journal.file import read
    from drtool.plans.language.quantities import moment_ns
    from drtool.plans.language.values import Moment
    from drtool.plans.language.variables import restore_vars
    from drtool.plans.running.kept_plan import kept_plan
    from drtool.plans.running.runs import folder_of, last_unfinished
    from drtool.plans.running.session import carry_on, foresee
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
    resolution = foresee(again)
    likely = expected(call, again, resolution)
    with _signals() as interrupted:
        result = carry_on(again, resolution, measure, interrupted, _telling(call, again))
    _show(call, again, result, likely)


def plan_approve(
    context: typer.Context,
    run: Annotated[str, typer.Argument(metavar="RUN", help="Answer this run; it prints its id when it asks.")],
    step: Annotated[str, typer.Argument(metavar="STEP", help="Answer for this step.")],
    no: Annotated[bool, typer.Option("--no", help="Refuse instead of approving.")] = False,
    note: Annotated[str, typer.Option("--note", metavar="TEXT", help="Add a note for the report.")] = "",
) -> None:
    """Answer a run that waits for approval, from another terminal on this host.

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


def _own_file(began: "RunBegan") -> str:
    return next(iter(began.sources))


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


@contextmanager
def _signals() -> Iterator[Callable[[], str]]:
    """Collect signals as words while a run is at work, because the run ends itself."""
    heard: list[str] = []

    def note(number: int, _frame: "FrameType | None") -> None:
        heard.append(signal.Signals(number).name + (" again" * min(len(heard), 1)))

    taken = [signal.SIGINT, signal.SIGTERM]
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # a lost terminal ends a run too, except under nohup
        taken.append(signal.SIGHUP)
    before = {number: signal.signal(number, note) for number in taken}
    try:
        yield lambda: heard[-1] if heard else ""
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _telling(call: Call, run: "Run") -> "Callable[[Event], None]":
    """Return a handler that shows events and notifies the plan's channels."""
    from drtool.plans.journal.events import Began, Ended, Injected
    from drtool.plans.running.telling import announcements

    def hear(event: "Event") -> None:
        if isinstance(event, Began):
            call.emit(StepNoted(step=event.key, status="began"))
        elif isinstance(event, Injected):
            call.emit(StepNoted(step=event.key, status="injected"))
        elif isinstance(event, Ended):
            again = "; it is retried" if event.retry_at_s is not None else ""
            call.emit(StepNoted(step=event.key, status=event.status, detail=event.detail + again))
        for channel, name, message in announcements(run.plan, run.around.run, event):
            problem = run.around.tell(channel, name, message)
            if problem:
                call.emit(Warned(message=f"channel {channel} did not receive {name}: {problem}"))

    return hear


def _show(call: Call, run: "Run", result: "Result", likely: "Expected") -> None:
    from drtool.cli.plan_recording import record_owed, remove_old_runs

    problem = record_owed(call).get(result.run_id, "")
    if call.settings.config_path is None:
        problem = "the configuration names no repository to record it in"
        call.emit(Warned(message=f"not recorded: {problem}"))
    document = _done(run, result, likely) | {"recorded": not problem, "record_problem": problem}
    document["removed_runs"] = remove_old_runs(call, run)
    call.show(document, run_view(document), exit_code=result.conclusion.exit_code)


def _foreseen(run: "Run", resolution: "Resolution", likely: "Expected", *, dry_run: bool) -> Document:
    from drtool.plans.running.telling import untold

    rows = [
        {
            "id": row.id,
            "uses": row.uses,
            "status": row.status,
            "seconds": None,
            "estimate": likely.steps.get(row.id),
            "detail": row.foresight.detail,
        }
        for row in resolution.rows
    ]
    return _head(run, "simulated" if dry_run else "failed", dry_run=dry_run) | {
        "steps": rows,
        "objectives": {
            name: {"target": target, "measured": None, "met": None, "estimate": likely.objectives.get(name)}
            for name, target in _targets(run.plan.objectives).items()
            if target is not None or name in likely.objectives
        },
        "unproven": [
            f"{row.id}: {row.foresight.detail or 'cannot be checked beforehand'}" for row in resolution.unprovable
        ],
        "leftovers": [],
        "untold": untold(run.plan, run.around.can_tell),
        "reason": f"{len(resolution.cannot)} cannot run" if resolution.cannot else "",
    }


def _head(run: "Run", verdict: str, *, dry_run: bool) -> Document:
    plan = run.plan
    return {
        "run_id": run.around.run,
        "plan": plan.id,
        "title": plan.title,
        "verdict": verdict,
        "dry_run": dry_run,
        "scope": plan.scope,
        "digest": plan.digest,
    }


def _targets(objectives: "Objectives") -> dict[str, float | None]:
    return {
        "rto": objectives.rto_s,
        "rpo": objectives.rpo_s,
        "wrt": objectives.wrt_s,
        "detection": objectives.detection_s,
    }


def _done(run: "Run", result: "Result", likely: "Expected") -> Document:
    from drtool.plans.journal.events import Began, Ended

    began = {event.key: event.uses for event in result.events if isinstance(event, Began)}
    rows = [
        {
            "id": event.key,
            "uses": began.get(event.key) or _uses(run, event.key),
            "status": event.status,
            "seconds": event.seconds,
            "estimate": likely.steps.get(event.key),
            "detail": event.detail,
        }
        for event in result.events
        if isinstance(event, Ended) and event.retry_at_s is None
    ]
    conclusion = result.conclusion
    return _head(run, conclusion.verdict, dry_run=False) | {
        "steps": rows,
        "objectives": {
            name: row | {"estimate": likely.objectives.get(name)} if "measured" in row else row
            for name, row in result.measured.items()
        },
        "unproven": list(conclusion.unproven),
        "leftovers": list(conclusion.leftovers),
        "reason": conclusion.reason,
        "journal_digest": result.digest,
        "journal": os.fspath(run.around.folder),
        "wall_seconds": result.events[-1].elapsed_s if result.events else 0.0,
    }


def _uses(run: "Run", key: str) -> str:
    """Return the action of a step that never began."""
    from drtool.plans.running.building import steps_by_id
    from drtool.plans.running.tasks import task_id

    return steps_by_id(run.plan)[task_id(key)].uses


def run_view(document: Document) -> View:
    """Show one line without a terminal if the run passed; on a terminal, show a table of the steps."""
    verdict = document["verdict"]
    cannot = [row for row in document["steps"] if row["status"].startswith("cannot run")]
    head: list[Cell | str] = [
        Cell(verdict, _STYLES.get(verdict, "bad")),
        f": {document['plan']}, run {document['run_id']}",
    ]
    if not document["dry_run"] and "wall_seconds" in document:
        head.append(f", {duration(document['wall_seconds'])}")
    if document["reason"]:
        head.append(f"; {document['reason']}")
    objectives = {name: row for name, row in document["objectives"].items() if "measured" in row}
    parts: list[Line | Table] = []
    if document["dry_run"] or cannot or sys.stdout.isatty():
        parts.append(table("STEP ACTION TAKES> STATUS", [_step_row(row) for row in document["steps"]]))
    elif verdict == "passed":
        head += [f"; {name} {_told(row)}" for name, row in objectives.items()]
        objectives = {}
    parts.append(line(*head))
    unproven = "  not checked beforehand: " if document["dry_run"] else "  not proven "
    parts += [line(Cell(unproven, "warn"), text) for text in document["unproven"]]
    parts += [line(Cell("  left ", "bad"), text) for text in document["leftovers"]]
    parts += [line(Cell("  not notified ", "warn"), text) for text in document.get("untold", ())]
    told = _asked if document["dry_run"] else _told
    parts += [line(f"  {name} {told(row)}; {_before(row)}") for name, row in objectives.items()]
    return view(*parts)


def _step_row(row: Document) -> tuple[Cell | str, ...]:
    status, detail = row["status"], row["detail"]
    detail = brief(detail) if status in ("passed", "tolerated") else detail
    shown = status if detail and detail in status else f"{status} ({detail})" if detail else status
    style: Style = "bad" if status.startswith(("cannot run", "failed")) else _STYLES.get(status, "")
    return (Cell(row["id"], "strong"), row["uses"], _takes(row), Cell(shown, style))


def _takes(row: Document) -> Cell | str:
    """Return the time that a step took, or its estimate."""
    if row["seconds"] is not None:
        return duration(row["seconds"])
    likely = row["estimate"]
    return Cell("-" if likely is None else f"about {duration(likely['median'])}", "dim")


def _told(values: Document) -> str:
    target, measured = values.get("target"), values.get("measured")
    told = "not measured" if measured is None else duration(measured)
    return f"{told}, of {duration(target)}" if target is not None else told


def _asked(values: Document) -> str:
    """Return an objective's target for a dry run."""
    return "no target" if values["target"] is None else f"at most {duration(values['target'])}"


def _before(values: Document) -> str:
    """Return an objective's results in earlier runs."""
    likely = values.get("estimate")
    if likely is None:
        return "no earlier run to estimate from"
    if likely["runs"] == 1:
        return f"{duration(likely['median'])} in the one earlier run"
    between = f"{duration(likely['min'])} to {duration(likely['max'])}"
    return f"{duration(likely['median'])} ({between}) in the last {likely['runs']} runs"
