"""Notifications during a run: the plan's `notify`, applied to the journal's events. PURE."""

from collections.abc import Callable, Iterator

from drtool.plans.journal.events import Began, Ended, Event, RunBegan, RunEnded
from drtool.plans.language.model import EventName, Plan
from drtool.plans.running.tasks import UNDO


def announcements(plan: Plan, run: str, event: Event) -> Iterator[tuple[str, str, str]]:
    """Yield (channel, event, message) for each notification that an event causes."""
    names = dict(_happened(plan, run, event))
    asked = event.inputs.get("channel") or asked_channel(plan) if isinstance(event, Began) else None
    for wish in plan.notify:
        for name in wish.events:
            if name in names and not (name == "approval" and wish.channel == asked):
                yield wish.channel, name, names[name]


def asked_channel(plan: Plan) -> str | None:
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
