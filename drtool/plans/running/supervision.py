"""Supervision of a run: reasons to end it early, the steady state, and the notifications of the plan's `notify`.

PURE, except for checking whether the kill switch exists.
"""

import os
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

from drtool.plans.faults.windows import closing_time, parse_window
from drtool.plans.journal.events import Began, Cancelled, Ended, Event, RunBegan, RunEnded
from drtool.plans.language.evaluating import Context, truth
from drtool.plans.language.model import EventName, Guards, Plan, SteadyState
from drtool.plans.language.parsing import ExpressionError
from drtool.plans.language.values import Unknown, duration_text
from drtool.plans.running.state import RunState
from drtool.plans.running.tasks import UNDO


def reasons_to_stop(guards: Guards, elapsed_s: float, now: datetime, context: Context, at: str) -> Iterator[Cancelled]:
    """Yield the reasons to end the run now. The first is enough."""
    if guards.max_duration_s is not None and elapsed_s >= guards.max_duration_s:
        yield _cancelled(
            at, elapsed_s, f"it took longer than max_duration, {duration_text(guards.max_duration_s)}", "timeout"
        )
    if guards.kill_switch is not None and os.path.lexists(guards.kill_switch):
        yield _cancelled(at, elapsed_s, f"the kill switch {guards.kill_switch} exists", "kill-switch")
    if guards.windows and not in_window(guards, now):
        yield _cancelled(at, elapsed_s, f"no window is open ({'; '.join(guards.windows)})", "window")
    for condition in guards.abort_if:
        try:
            holds = truth(condition, context)
        except ExpressionError as error:
            yield _cancelled(
                at, elapsed_s, f"abort_if {condition.text!r} cannot be evaluated: {error.message}", "abort_if"
            )
            continue
        if holds is True and not isinstance(holds, Unknown):
            yield _cancelled(at, elapsed_s, f"abort_if: {condition.text}", "abort_if")


def in_window(guards: Guards, now: datetime) -> bool:
    """Return whether one of the windows is open, or there are none."""
    windows = [parse_window(text, ZoneInfo) for text in guards.windows]
    return not windows or any(closing_time(window, now.astimezone(UTC)) is not None for window in windows)


def unsteady(steady: SteadyState | None, state: RunState) -> str:
    """Return why the steady state did not hold during the steps, or an empty string."""
    during = [sample for sample in state.samples if sample.when == "during"]
    if steady is None or not during:
        return ""  # `unanswered` reports it
    failing = sum(not sample.passed for sample in during)
    if failing / len(during) <= steady.allow_failing:
        return ""
    last = next(sample for sample in reversed(during) if not sample.passed)
    return (
        f"the steady state did not hold: {failing} of {len(during)} answers were bad, more than the allowed"
        f" {steady.allow_failing:.0%} (the last: {last.probe}: {last.detail})"
    )


def unanswered(steady: SteadyState | None, state: RunState) -> str:
    """Return why it is unknown whether the steady state held, or an empty string."""
    if steady is None or "during" not in steady.when or any(sample.when == "during" for sample in state.samples):
        return ""
    return "the steady state was not probed during the run"


def _cancelled(at: str, elapsed_s: float, reason: str, cause: str) -> Cancelled:
    return Cancelled(at=at, elapsed_s=elapsed_s, reason=reason, cause=cause)  # type: ignore[arg-type]


def announcements(plan: Plan, run: str, event: Event) -> Iterator[tuple[str, str, str]]:
    """Yield (channel, event, message) for each notification that an event causes."""
    names = dict(_happened(plan, run, event))
    asked = event.inputs.get("channel") or approval_channel(plan) if isinstance(event, Began) else None
    for wish in plan.notify:
        for name in wish.events:
            if name in names and not (name == "approval" and wish.channel == asked):
                yield wish.channel, name, names[name]


def approval_channel(plan: Plan) -> str | None:
    """Return the channel for questions of steps that name none: the first that is notified of approvals."""
    return next((wish.channel for wish in plan.notify if "approval" in wish.events), None)


def untold(plan: Plan, can_tell: Callable[[str], str]) -> list[str]:
    """Return the channels of `notify` that cannot be used, each with the reason."""
    problems = {wish.channel: can_tell(wish.channel) for wish in plan.notify}
    return [f"{channel}: {problem}" for channel, problem in problems.items() if problem]


def _happened(plan: Plan, run: str, event: Event) -> Iterator[tuple[EventName, str]]:
    head = f"{plan.title} ({plan.id}, run {run})"
    match event:
        case RunBegan():
            yield "start", f"{head} begins"
        case Began(uses="approve", key=key):
            yield "approval", f"{head} waits for an answer: drtool plan approve {run} {key}"
        case Ended(key=key, status="failed", detail=detail, retry_at_s=None) if key.startswith(UNDO):
            yield "cleanup", f"{head}: {key} failed: {detail}"
        case RunEnded(verdict=verdict, reason=reason, leftovers=left):
            told = f"{head}: {verdict}" + (f" ({reason})" if reason else "")
            yield "end", told
            yield ("pass" if verdict == "passed" else "fail"), told
            if verdict == "missed":
                yield "objective", told
            if left:
                yield "cleanup", f"{head} has leftovers: {'; '.join(left)}"
        case _:
            pass
