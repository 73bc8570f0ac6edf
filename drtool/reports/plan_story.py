"""The story of a plan's run: the data of its report, collected from its journal. PURE.

Invariants
    Everything comes from the journal, of any version. The plan itself adds only which step waited for which.
"""

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from msgspec import Struct

from drtool.plans.journal.events import (
    Answered,
    Began,
    Cancelled,
    Ended,
    Event,
    Measured,
    Reached,
    Resumed,
    RunBegan,
    RunEnded,
    Sampled,
)

UNDO = "undo:"
_AT_ONCE_S = 0.05


class Attempt(Struct, frozen=True, kw_only=True):
    number: int
    status: str
    seconds: float
    detail: str


class Work(Struct, frozen=True, kw_only=True):
    """One step, one item of a `foreach`, or one undo. Times are seconds since the start. `status` is empty if it never ended."""

    key: str
    uses: str
    status: str
    began_s: float
    ended_s: float
    seconds: float = 0.0
    human_s: float = 0.0
    detail: str = ""
    inputs: Mapping[str, Any] = {}
    outputs: Mapping[str, Any] = {}
    evidence: Mapping[str, Any] = {}
    attempts: tuple[Attempt, ...] = ()
    leftovers: tuple[str, ...] = ()
    milestone: str = ""

    @property
    def is_undo(self) -> bool:
        return self.key.startswith(UNDO)


class Goal(Struct, frozen=True, kw_only=True):
    """An objective, in seconds. `met` is None if it was not measured, or has no target."""

    name: str
    target: float | None
    measured: float | None
    met: bool | None


class Story(Struct, frozen=True, kw_only=True):
    run: RunBegan
    ended: RunEnded | None
    works: tuple[Work, ...]
    goals: tuple[Goal, ...]
    human_s: float
    wall_s: float
    unproven: tuple[str, ...]
    leftovers: tuple[str, ...]
    samples: tuple[Sampled, ...]
    answers: tuple[Answered, ...]
    resumes: tuple[Resumed, ...]
    cancelled: Cancelled | None
    digest: str
    """The digest of the journal's last line."""

    @property
    def verdict(self) -> str:
        return self.ended.verdict if self.ended is not None else "unfinished"


def story_of(events: Sequence[Event], digest: str) -> Story | None:
    """Return the story, or None for a journal in which no run began."""
    began = next((event for event in events if isinstance(event, RunBegan)), None)
    if began is None:
        return None
    ended = next((event for event in reversed(events) if isinstance(event, RunEnded)), None)
    measured = next((event.values for event in reversed(events) if isinstance(event, Measured)), {})
    works = tuple(_works(events))
    goals = tuple(_goals(measured))
    return Story(
        run=began,
        ended=ended,
        works=works,
        goals=goals,
        human_s=measured.get("time", {}).get("human_seconds", 0.0),
        wall_s=events[-1].elapsed_s,
        unproven=(ended.unproven if ended is not None else ()) or tuple(_unproven(works, goals)),
        leftovers=ended.leftovers if ended is not None else tuple(one for work in works for one in work.leftovers),
        samples=tuple(event for event in events if isinstance(event, Sampled)),
        answers=tuple(event for event in events if isinstance(event, Answered)),
        resumes=tuple(event for event in events if isinstance(event, Resumed)),
        cancelled=next((event for event in events if isinstance(event, Cancelled)), None),
        digest=digest,
    )


def critical_path(works: Sequence[Work], needs: Mapping[str, Sequence[str]]) -> tuple[str, ...]:
    """Return the steps that determined the length of the run, in order: from the last step back over its waits."""
    ended = {work.key: work for work in works if work.status not in ("", "skipped", "blocked") and ":" not in work.key}
    at = max((work for work in ended.values() if work.key in needs), key=lambda work: work.ended_s, default=None)
    path: list[str] = []
    while at is not None and at.key not in path:
        path.append(at.key)
        waited = [ended[key] for key in needs.get(at.key, ()) if key in ended]
        at = max(waited, key=partial(_waited_until_s, at.began_s), default=None)
    return tuple(reversed(path))


def _waited_until_s(began_s: float, waited: Work) -> float:
    """Return until when the later work waited for `waited`: its end, or only its start if it ended after that work began."""
    return waited.ended_s if waited.ended_s <= began_s + _AT_ONCE_S else waited.began_s


def _works(events: Sequence[Event]) -> Iterator[Work]:
    began: dict[str, Began] = {}
    first_s: dict[str, float] = {}
    attempts: dict[str, list[Attempt]] = {}
    last: dict[str, Ended] = {}
    milestones = {event.key: event.milestone for event in events if isinstance(event, Reached)}
    for event in events:
        if isinstance(event, Began):
            began[event.key] = event
            first_s.setdefault(event.key, event.elapsed_s)
        elif isinstance(event, Ended):
            one = Attempt(number=event.attempt, status=event.status, seconds=event.seconds, detail=event.detail)
            attempts.setdefault(event.key, []).append(one)
            last[event.key] = event
            first_s.setdefault(event.key, event.elapsed_s)
    end_s = events[-1].elapsed_s
    for key, start_s in first_s.items():
        yield _work(key, start_s, end_s, began.get(key), last.get(key), attempts.get(key, []), milestones.get(key, ""))


def _work(
    key: str,
    start_s: float,
    end_s: float,
    began: Began | None,
    ended: Ended | None,
    attempts: list[Attempt],
    milestone: str,
) -> Work:
    over = ended if ended is not None and ended.retry_at_s is None else None
    return Work(
        key=key,
        uses=began.uses if began is not None else "",
        status=over.status if over is not None else "",
        began_s=start_s,
        ended_s=over.elapsed_s if over is not None else end_s,
        seconds=sum(attempt.seconds for attempt in attempts),
        human_s=over.human_s if over is not None else 0.0,
        detail=over.detail if over is not None else "",
        inputs=began.inputs if began is not None else {},
        outputs=over.outputs if over is not None else {},
        evidence=over.evidence if over is not None else {},
        attempts=tuple(attempts),
        leftovers=over.leftovers if over is not None else (),
        milestone=milestone,
    )


def _goals(measured: Mapping[str, Mapping[str, Any]]) -> Iterator[Goal]:
    for name, row in measured.items():
        if "measured" in row:
            yield Goal(name=name, target=row.get("target"), measured=row["measured"], met=row.get("met"))


def _unproven(works: Sequence[Work], goals: Sequence[Goal]) -> Iterator[str]:
    for work in works:
        if work.status == "unproven" and not work.key.endswith("]"):
            yield f"{work.key}: {work.detail}" if work.detail else work.key
        elif not work.status:
            yield f"{work.key}: it began, but its end is unknown"
    for goal in goals:
        if goal.target is not None and goal.measured is None:
            yield f"objective {goal.name}: it was not measured"
