"""The objectives of a run, measured: how long recovery took, and how old the restored data was. PURE, over a run's events.

    RTO        from the run's start (with `clock: incident`: from the incident) to `recovered`. If the plan has no such
               milestone, or skipped it: to the end of its last step
    WRT        from `recovered` to `validated`
    detection  from the incident to `detected`
    RPO        from the incident (or the run's start) back to the consistency time of the oldest restored data

Invariants
    An objective that was not measured is never met: `met` is None, and it is listed as not proven. Unknown is never 0.
    Time is wall-clock time across a resume. Machine time and human time are separate. Simultaneous waits for several
    people count once.
"""

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any

from msgspec import Struct

from drtool.plans.journal.events import Ended, Event, Reached, RunBegan
from drtool.plans.language.model import Objectives, Plan
from drtool.plans.language.values import duration_text
from drtool.plans.running.building import steps_by_id
from drtool.plans.running.tasks import task_id

_DECISIVE = ("rto", "wrt", "rpo")
"""Only a person can report when an incident was detected. A drill cannot measure it."""


class Measures(Struct, frozen=True, kw_only=True):
    """The measured objectives. `values` maps each to `{target, measured, met}` in seconds, and holds `human_s`, `machine_s`."""

    values: dict[str, dict[str, Any]]
    missed: tuple[str, ...] = ()
    unproven: tuple[str, ...] = ()
    """Objectives that are set, must be measured, and were not. The run has then not passed."""
    unmeasured: tuple[str, ...] = ()
    """Other objectives that were not measured. They are only reported."""


class _Measured(Struct, frozen=True):
    name: str
    target_s: float | None
    value_s: float | None
    why: str
    """The reason why there is no value."""


def measure(plan: Plan, events: Sequence[Event]) -> Measures:
    """Measure the objectives of a run that is about to be concluded."""
    began = next(event for event in events if isinstance(event, RunBegan))
    rows = list(_all(plan.objectives, plan, began, events))
    values = {row.name: _row(row) for row in rows if row.target_s is not None or row.value_s is not None}
    values |= {"time": _times(events)}
    missed = [
        f"{row.name}: {duration_text(row.value_s)}, more than the objective of {duration_text(row.target_s)}"
        for row in rows
        if row.value_s is not None and row.target_s is not None and row.value_s > row.target_s
    ]
    lacking = {row.name: row.why for row in rows if row.target_s is not None and row.value_s is None}
    return Measures(
        values=values,
        missed=tuple(missed),
        unproven=tuple(f"objective {name}: {why}" for name, why in lacking.items() if name in _DECISIVE),
        unmeasured=tuple(f"objective {name}: {why}" for name, why in lacking.items() if name not in _DECISIVE),
    )


def _all(objectives: Objectives, plan: Plan, began: RunBegan, events: Sequence[Event]) -> Iterator[_Measured]:
    start_s = _seconds(began.started or began.at)
    incident_s = _seconds(began.incident_at) if began.incident_at else None
    at = {event.milestone: _seconds(event.at) for event in events if isinstance(event, Reached)}
    zero_s = incident_s if objectives.clock == "incident" else start_s
    known = "the time of the incident was not given (--incident-at)"
    recovered_s = at.get("recovered", _end_of_steps(plan, events))
    yield _between("rto", objectives.rto_s, zero_s, recovered_s, known, "recovered")
    yield _between(
        "wrt", objectives.wrt_s, at.get("recovered"), at.get("validated"), "no step reached recovered", "validated"
    )
    yield _between("detection", objectives.detection_s, incident_s, at.get("detected"), known, "detected")
    yield _rpo(objectives.rpo_s, list(_consistent(plan, events)), start_s, incident_s)


def _rpo(target_s: float | None, times: list[float | None], start_s: float, incident_s: float | None) -> _Measured:
    """Measure RPO by the oldest restored data.

    It is unknown if the time of any of it is unknown, or later than the incident. Without an incident, data that the run
    itself stored counts as no loss.
    """
    known = [one for one in times if one is not None]
    if not times:
        return _Measured("rpo", target_s, None, "nothing was restored")
    if len(known) < len(times):
        return _Measured("rpo", target_s, None, "some restored data has no consistency time")
    if incident_s is None:
        return _Measured("rpo", target_s, max(0.0, start_s - min(known)), "")
    if min(known) > incident_s:
        return _Measured("rpo", target_s, None, "the restored data is newer than the incident")
    return _Measured("rpo", target_s, incident_s - min(known), "")


def _end_of_steps(plan: Plan, events: Sequence[Event]) -> float | None:
    """Return the end of the last step, if all steps were executed and none reached `recovered`; else None."""
    ends = {event.key: event for event in events if isinstance(event, Ended) and event.retry_at_s is None}
    if any(
        step.milestone == "recovered" and ends[step.id].status != "skipped" for step in plan.steps if step.id in ends
    ):
        return None
    needed = [ends.get(step.id) for step in plan.steps if not step.optional]
    done = [event for event in needed if event is not None and event.status in ("passed", "tolerated")]
    if not done or any(event is None or event.status not in ("passed", "tolerated", "skipped") for event in needed):
        return None
    return max(_seconds(event.at) for event in done)


def _between(
    name: str, target_s: float | None, from_s: float | None, to_s: float | None, no_start: str, end: str
) -> _Measured:
    if from_s is None:
        return _Measured(name, target_s, None, no_start)
    if to_s is not None and to_s < from_s:
        return _Measured(
            name, target_s, None, f"{end} was reached before its start: the order is wrong, or the clock went back"
        )
    return _Measured(name, target_s, None if to_s is None else to_s - from_s, f"no step reached {end}")


def _consistent(plan: Plan, events: Sequence[Event]) -> Iterator[float | None]:
    """Yield the consistency times of the data that was restored, or None where one is unknown."""
    steps = steps_by_id(plan)
    for event in events:
        if not isinstance(event, Ended) or event.status not in ("passed", "tolerated") or ":" in event.key:
            continue
        step = steps.get(task_id(event.key))
        if step is not None and step.uses == "restore" and (step.foreach is None or event.key.endswith("]")):
            found = event.outputs.get("consistent_at")
            yield _seconds(found) if isinstance(found, str) else None


def _times(events: Sequence[Event]) -> dict[str, Any]:
    human_s = _together_s(
        [(event.elapsed_s - event.human_s, event.elapsed_s) for event in events if isinstance(event, Ended)]
    )
    wall_s = events[-1].elapsed_s
    return {
        "wall_seconds": round(wall_s, 3),
        "human_seconds": round(human_s, 3),
        "machine_seconds": round(max(0.0, wall_s - human_s), 3),
    }


def _together_s(stretches: Sequence[tuple[float, float]]) -> float:
    """Return how long at least one of the stretches lasted."""
    whole_s, reached_s = 0.0, 0.0
    for from_s, to_s in sorted(stretches):
        whole_s += max(0.0, to_s - max(from_s, reached_s))
        reached_s = max(reached_s, to_s)
    return whole_s


def _row(row: _Measured) -> dict[str, Any]:
    met = None if row.target_s is None or row.value_s is None else row.value_s <= row.target_s
    measured = None if row.value_s is None else round(row.value_s, 3)
    return {"target": row.target_s, "measured": measured, "met": met}


def _seconds(text: str) -> float:
    """Parse an RFC 3339 time with any number of fraction digits."""
    head, dot, tail = text.replace("Z", "+00:00").partition(".")
    if not dot:
        return datetime.fromisoformat(head).timestamp()
    digits = tail[: len(tail) - len(tail.lstrip("0123456789"))] or "0"
    return datetime.fromisoformat(head + tail[len(digits) :]).timestamp() + float(f"0.{digits}")
