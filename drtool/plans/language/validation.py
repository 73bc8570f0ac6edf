"""Validation of a whole plan: its steps form a graph, and the plans that they nest can be run.

Invariants
    Every problem is found in one pass. None is followed by problems that it alone causes.
    A plan is never among those that it runs. Its files lie below the outer plan's directory and are part of its digest.
    A nested plan changes no more than its outer plan may.
"""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path as FilePath
from typing import Literal, TypeAlias

from msgspec import Struct

from drtool.config import nearest
from drtool.config.yaml import Parsed, Path
from drtool.errors import ConfigError
from drtool.plans.language.actions import KINDS, NestedPlan
from drtool.plans.language.approval import is_behind_approval
from drtool.plans.language.model import Digest, Plan, Step
from drtool.plans.language.reading import leaves_directory
from drtool.plans.language.templates import has_holes

Role: TypeAlias = Literal["precondition", "step", "always", "steady state", "confirm", "compensate"]
Complaint: TypeAlias = tuple[Parsed, Path, str]
_ROLE_NAMES: dict[Role, str] = {
    "precondition": "a precondition",
    "step": "a step",
    "always": "a step in `always`",
    "steady state": "a probe of the steady state",
    "confirm": "a `confirm` step",
    "compensate": "a `compensate` step",
}


class Placed(Struct, frozen=True):
    """A step together with its position in the plan."""

    step: Step
    role: Role
    parsed: Parsed
    path: Path
    owner: Step | None = None
    """The step that this `confirm` or `compensate` step belongs to."""

    def wrong(self, message: str, *below: str | int) -> Complaint:
        return self.parsed, (*self.path, *below), message

    @property
    def role_name(self) -> str:
        """The step's role, as shown in messages."""
        return _ROLE_NAMES[self.role]

    @property
    def graph_step(self) -> Step:
        """The step whose position in the graph applies: the owner's, if there is one."""
        return self.owner or self.step


Complaints: TypeAlias = Iterator[Complaint]


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
        yield each.wrong(f"{each.role_name} cannot have `needs`: these steps run in their written order", "needs")
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


MAX_DEPTH = 4
Load = Callable[[FilePath], Plan]


def nested_plans(
    placed: Sequence[Placed], directory: FilePath, above: Sequence[str], load: Load
) -> Mapping[str, Plan | str]:
    """Return, by the file that steps name, each plan, or the reason why it cannot be nested."""
    files = {each.step.action.file for each in placed if isinstance(each.step.action, NestedPlan)}
    return {file: _loaded(file, directory, above, load) for file in sorted(files)}


def _loaded(file: str, directory: FilePath, above: Sequence[str], load: Load) -> Plan | str:
    path = directory / file
    if has_holes(file):
        return "the file of a nested plan must be written out; expressions are not allowed here"
    if leaves_directory(file):
        return f"{file!r} must be in the plan's directory or below it"
    if os.path.realpath(path) in above:
        return f"{file!r} runs itself, directly or through other plans"
    if len(above) >= MAX_DEPTH:
        return f"plans are nested deeper than {MAX_DEPTH} levels"
    try:
        return load(path)
    except ConfigError as error:
        return f"the plan is invalid: {error.message.splitlines()[0]}"


def nesting_problems(plan: Plan, placed: Sequence[Placed], nested: Mapping[str, Plan | str]) -> Complaints:
    for each in placed:
        action = each.step.action
        if not isinstance(action, NestedPlan):
            continue
        inner = nested[action.file]
        if isinstance(inner, str):
            yield each.wrong(inner, "with", "file")
            continue
        for name in action.vars:
            if name not in inner.vars:
                message = f"the plan {inner.id!r} has no variable {name!r}{nearest(name, inner.vars)}"
                yield each.wrong(message, "with", "vars", name)
        for name, var in inner.vars.items():
            if var.required and name not in action.vars:
                yield each.wrong(f"the plan {inner.id!r} requires the variable {name!r}", "with", "vars")
        if plan.scope == "scratch" and inner.scope == "live" and not is_behind_approval(plan, each.graph_step):
            message = f"this plan has scope: scratch, but the plan {inner.id!r} is live; put an approve step before it"
            yield each.wrong(message)


def nested_digests(nested: Mapping[str, Plan | str], own: Sequence[Digest]) -> tuple[Digest, ...]:
    """Return the files of nested plans, each once, with paths relative to the outer plan's directory."""
    found = {each.file: each for each in own}
    for file, inner in nested.items():
        for each in inner.files if isinstance(inner, Plan) else ():
            name = os.path.normpath(os.path.join(os.path.dirname(file), each.file))
            found.setdefault(name, Digest(file=name, sha256=each.sha256))
    return tuple(found.values())
