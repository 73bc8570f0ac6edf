"""Checks that a plan's steps form a graph: unique ids, valid `needs`, no cycles. All other checks rely on this.

Invariants
    Every problem is found in one pass. None is followed by problems that it alone causes.
"""

from collections.abc import Iterator, Mapping, Sequence

from drtool.config import nearest
from drtool.config.yaml import Parsed
from drtool.plans.language.actions import KINDS
from drtool.plans.language.model import Plan, Step
from drtool.plans.language.placed import Complaints, Placed


def broken_structure(plan: Plan, own: Parsed, placed: Sequence[Placed]) -> Complaints:
    """Yield the problems of the graph itself."""
    if not plan.steps:
        yield own, ("steps",), "a plan needs at least one step"
    yield from _ids(placed)
    by_id = {step.id: step for step in plan.steps}
    for each in placed:
        if each.step.uses not in KINDS:
            yield each.wrong(f"unknown uses {each.step.uses!r}{nearest(each.step.uses, KINDS)}", "uses")
        yield from _needs(each, by_id)
    yield from _circles(placed, by_id)


def _ids(placed: Sequence[Placed]) -> Complaints:
    first: dict[str, Placed] = {}
    for each in placed:
        other = first.setdefault(each.step.id, each)
        if other is not each:
            yield each.wrong(f"the id {each.step.id!r} is already used at {other.step.place}", "id")


def _needs(each: Placed, by_id: Mapping[str, Step]) -> Complaints:
    if each.step.needs and each.role != "step":
        yield each.wrong(f"{each.told} cannot have `needs`: these steps run in their written order", "needs")
        return
    for number, need in enumerate(each.step.needs):
        target = by_id.get(need.step)
        if target is None:
            yield each.wrong(f"there is no step {need.step!r}{nearest(need.step, by_id)}", "needs", number)
        elif need.state == "injected" and target.uses != "fault":
            yield each.wrong(
                f"{need}: only a fault is injected, but {need.step!r} is a {target.uses} step", "needs", number
            )


def _circles(placed: Sequence[Placed], by_id: Mapping[str, Step]) -> Complaints:
    told: set[str] = set()
    for each in placed:
        if each.role == "step" and each.step.id not in told:
            circle = _circle(each.step.id, by_id)
            if circle:
                told |= set(circle)
                yield each.wrong(f"steps need each other in a cycle: {' → '.join((*circle, circle[0]))}", "needs")


def _circle(start: str, by_id: Mapping[str, Step]) -> tuple[str, ...]:
    """Return the shortest path from a step back to itself, or an empty tuple."""
    ways: dict[str, tuple[str, ...]] = {start: (start,)}
    waiting = [start]
    for current in waiting:
        for name in _after(current, by_id):
            if name == start:
                return ways[current]
            if name not in ways:
                ways[name] = (*ways[current], name)
                waiting.append(name)
    return ()


def _after(name: str, by_id: Mapping[str, Step]) -> Iterator[str]:
    return (need.step for need in by_id[name].needs if need.step in by_id)
