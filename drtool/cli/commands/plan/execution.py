"""The execution of a run: signals, events, and its result as a document."""

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from drtool.cli.commands.plan.run_view import run_view
from drtool.cli.core.call import Call
from drtool.cli.core.text import Document
from drtool.events import StepNoted, Warned

if TYPE_CHECKING:
    from types import FrameType

    from drtool.cli.commands.plan.recording import Expected
    from drtool.plans.journal.events import Event
    from drtool.plans.language.model import Objectives
    from drtool.plans.running.session import Result, Run

Live = Annotated[bool, typer.Option("--live", help="Allow changes to production. A plan of scope live needs this.")]


@contextmanager
def signals() -> Iterator[Callable[[], str]]:
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


def event_handler(call: Call, run: "Run") -> "Callable[[Event], None]":
    """Return a handler that shows events and notifies the plan's channels."""
    from drtool.plans.journal.events import Began, Ended, Injected
    from drtool.plans.running.supervision import announcements

    def hear(event: "Event") -> None:
        if isinstance(event, Began):
            call.emit(StepNoted(step=event.key, status="began"))
        elif isinstance(event, Injected):
            call.emit(StepNoted(step=event.key, status="injected"))
        elif isinstance(event, Ended):
            again = "; it is retried" if event.retry_at_s is not None else ""
            call.emit(StepNoted(step=event.key, status=event.status, detail=event.detail + again))
        for channel, name, message in announcements(run.plan, run.context.run, event):
            problem = run.context.tell(channel, name, message)
            if problem:
                call.emit(Warned(message=f"channel {channel} did not receive {name}: {problem}"))

    return hear


def show_result(call: Call, run: "Run", result: "Result", likely: "Expected") -> None:
    from drtool.cli.commands.plan.recording import record_owed, remove_old_runs

    problem = record_owed(call).get(result.run_id, "")
    if call.settings.config_path is None:
        problem = "the configuration names no repository to record it in"
        call.emit(Warned(message=f"not recorded: {problem}"))
    document = _done(run, result, likely) | {"recorded": not problem, "record_problem": problem}
    document["removed_runs"] = remove_old_runs(call, run)
    call.show(document, run_view(document), exit_code=result.conclusion.exit_code)


def run_head(run: "Run", verdict: str, *, dry_run: bool) -> Document:
    plan = run.plan
    return {
        "run_id": run.context.run,
        "plan": plan.id,
        "title": plan.title,
        "verdict": verdict,
        "dry_run": dry_run,
        "scope": plan.scope,
        "digest": plan.digest,
    }


def objective_targets(objectives: "Objectives") -> dict[str, float | None]:
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
    return run_head(run, conclusion.verdict, dry_run=False) | {
        "steps": rows,
        "objectives": {
            name: row | {"estimate": likely.objectives.get(name)} if "measured" in row else row
            for name, row in result.measured.items()
        },
        "unproven": list(conclusion.unproven),
        "leftovers": list(conclusion.leftovers),
        "reason": conclusion.reason,
        "journal_digest": result.digest,
        "journal": os.fspath(run.context.folder),
        "wall_seconds": result.events[-1].elapsed_s if result.events else 0.0,
    }


def _uses(run: "Run", key: str) -> str:
    """Return the action of a step that never began."""
    from drtool.plans.running.building import steps_by_id
    from drtool.plans.running.tasks import task_id

    return steps_by_id(run.plan)[task_id(key)].uses
