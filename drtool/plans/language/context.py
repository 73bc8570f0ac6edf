"""The names that the expressions of a step may use: kinds before a run, and known values during one.

Invariants
    A step sees the outputs only of steps that it needs, directly or indirectly. Others may not have ended yet.
    An output is null if its step was skipped or ended without it, and unknown if its step has not ended.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from msgspec import Struct

from drtool.plans.language.actions import RESULTS
from drtool.plans.language.evaluating import Context, Names
from drtool.plans.language.model import Objectives, Plan, Step, VarType
from drtool.plans.language.values import Maybe, Moment, Seconds, Unknown, ValueKind

VAR_KINDS: dict[VarType, ValueKind] = {
    "string": "text",
    "path": "text",
    "int": "number",
    "bool": "bool",
    "duration": "duration",
    "size": "size",
    "timestamp": "timestamp",
    "list": "list",
}
_RUN: dict[str, ValueKind] = {"id": "text", "scope": "text", "started": "timestamp"}
_SITE: dict[str, ValueKind] = {"state": "text", "reachable": "bool", "free_bytes": "size"}
_STEADY: dict[str, ValueKind] = {"failing": "number", "passing": "number"}


class Outcome(Struct, frozen=True, kw_only=True):
    """The end of a step: a status (one per item with `foreach`), and its outputs under the plan's names."""

    statuses: tuple[str, ...]
    outputs: Mapping[str, Any] = {}
    seconds: float = 0.0


class Facts(Struct, frozen=True, kw_only=True):
    """The facts of a run. A name of the plan that is missing here is still unknown."""

    now: Moment | Unknown = Unknown(frozenset(), "timestamp")
    run: Mapping[str, Maybe] = {}
    vars: Mapping[str, Maybe] = {}
    outcomes: Mapping[str, Outcome] = {}
    sites: Mapping[str, Mapping[str, Maybe]] = {}
    secrets: Mapping[str, str] = {}
    steady_state: Mapping[str, Maybe] = {}


NOTHING = Facts()
"""The facts before a run: only the kind of each value is known."""


def all_steps(plan: Plan) -> Iterator[Step]:
    """Yield every step with its own id in the plan's graph, but no nested `confirm` or `compensate` steps."""
    yield from (*plan.preconditions, *plan.steps, *plan.always)


def reachable(plan: Plan, step: Step) -> frozenset[str]:
    """Return the steps that have ended, or been injected, whenever `step` starts.

    For a step in `always`, these are all steps that may have run.
    """
    if any(step.id == each.id for each in plan.always):
        before = [each.id for each in plan.always]
        return frozenset(each.id for each in all_steps(plan)) - frozenset(before[before.index(step.id) :])
    by_id = {each.id: each for each in plan.steps}
    found = {each.id for each in plan.preconditions if step.id in by_id}
    waiting = [need.step for need in step.needs if need.state != "started"]
    while waiting:
        current = waiting.pop()
        if current in by_id and current not in found:
            found.add(current)
            waiting += [need.step for need in by_id[current].needs if need.state != "started"]
    return frozenset(found)


def context_of(plan: Plan, step: Step | None, facts: Facts = NOTHING, *, item: Maybe = None) -> Context:
    """Return the context of `step`. None stands for expressions outside all steps (guards, the concurrency group)."""
    visible = reachable(plan, step) if step is not None else frozenset()
    return _context(plan, step, facts, visible, item)


def undo_context_of(plan: Plan, step: Step, facts: Facts = NOTHING, *, item: Maybe = None) -> Context:
    """Return the context of a step's own `compensate`: that of the step, and the step itself.

    Under `foreach` it sees one item, so an outcome of the step in `facts` must be that item's.
    """
    return _context(plan, step, facts, reachable(plan, step) | {step.id}, item, alone=step.id)


def _context(
    plan: Plan, step: Step | None, facts: Facts, visible: Iterable[str], item: Maybe, *, alone: str = ""
) -> Context:
    known = {each.id: each for each in all_steps(plan)}
    shown = {name: known[name] for name in visible}
    several = {name: each.foreach is not None and name != alone for name, each in shown.items()}
    steps = {name: _step(each, facts, several=several[name]) for name, each in shown.items()}
    roots: dict[str, Any] = {
        "vars": Names("variable", {name: _var(plan, name, facts) for name in plan.vars}),
        "steps": Names("step", steps, _absent(known, shown, step)),
        "run": Names("part of `run`", _filled(_RUN, facts.run, "run")),
        "sites": Names("site in the plan's `sites`", {name: _site(name, facts) for name in plan.sites}),
        "objectives": _objectives(plan.objectives),
        "secrets": Names("secret", {name: _secret(name, facts) for name in plan.secrets}),
        "steady_state": Names("part of `steady_state`", _steady(plan, facts)),
    }
    absent = {"item": "`item` exists only in a step with `foreach`"}
    if step is not None and step.foreach is not None:
        roots["item"] = Unknown(frozenset()) if item is None else item
    return Context(
        roots=Names("name", roots, absent),
        now=facts.now,
        statuses={name: _statuses(name, facts) for name in shown},
        needs=tuple(need.step for need in step.needs if need.state == "ended") if step is not None else (),
    )


def _absent(known: Mapping[str, Step], shown: Mapping[str, Step], step: Step | None) -> dict[str, str]:
    where = f"step {step.id!r} does not need it" if step is not None else "no step has run at that point"
    return {
        name: f"step {name!r} may not have ended by then: {where}; add it to `needs`"
        for name in known
        if name not in shown
    }


def _var(plan: Plan, name: str, facts: Facts) -> Maybe:
    return facts.vars[name] if name in facts.vars else Unknown(frozenset(), VAR_KINDS[plan.vars[name].type])


def _step(step: Step, facts: Facts, *, several: bool) -> Names:
    outcome = facts.outcomes.get(step.id)
    parts: dict[str, Any]
    if outcome is not None:
        outputs: dict[str, Any] = {name: outcome.outputs.get(name) for name in step.outputs}
        status = outcome.statuses[-1] if len(outcome.statuses) == 1 else outcome.statuses
        parts = {"status": status, "seconds": Seconds(outcome.seconds)}
    else:
        needs = frozenset({step.id})
        kinds = RESULTS[step.uses]
        outputs = {
            name: Unknown(needs, "list" if several else kinds.get(result, "any"))
            for name, result in step.outputs.items()
        }
        parts = {"status": Unknown(needs, "any" if several else "text"), "seconds": Unknown(needs, "duration")}
    return Names(f"part of step {step.id!r}", {"outputs": Names(f"output of step {step.id!r}", outputs), **parts})


def _statuses(name: str, facts: Facts) -> tuple[str, ...] | Unknown:
    outcome = facts.outcomes.get(name)
    return outcome.statuses if outcome is not None else Unknown(frozenset({name}), "bool")


def _filled(kinds: Mapping[str, ValueKind], known: Mapping[str, Maybe], needs: str) -> dict[str, Maybe]:
    return {name: known.get(name, Unknown(frozenset({needs}), kind)) for name, kind in kinds.items()}


def _site(name: str, facts: Facts) -> Names:
    return Names(f"part of site {name!r}", _filled(_SITE, facts.sites.get(name, {}), f"site {name}"))


def _secret(name: str, facts: Facts) -> Maybe:
    return facts.secrets.get(name, Unknown(frozenset({f"secret {name}"}), "text"))


def _steady(plan: Plan, facts: Facts) -> dict[str, Maybe]:
    return _filled(_STEADY, facts.steady_state, "steady_state") if plan.steady_state is not None else {}


def _objectives(objectives: Objectives) -> Names:
    values = {
        "rto": objectives.rto_s,
        "rpo": objectives.rpo_s,
        "wrt": objectives.wrt_s,
        "mtpd": objectives.mtpd_s,
        "detection": objectives.detection_s,
    }
    known = {name: Seconds(value_s) for name, value_s in values.items() if value_s is not None}
    absent = {name: f"the plan sets no objective {name!r}" for name in values}
    return Names("objective", known, absent)
