"""What the expressions of a step may ask about: before a run by kind alone, in a run by what is known so far.

Invariants
    A step sees the outputs of those that it needs, directly or through others, and no others: they may not be there yet.
    An output of a step that ended without it is null, also of one that was skipped; of one that has not ended it is unknown.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from msgspec import Struct

from drtool.plans.language.evaluating import Context, Names
from drtool.plans.language.model import Objectives, Plan, Step, VarType
from drtool.plans.language.results import RESULTS
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
    """How a step ended: one status for each item of its `foreach`, else one; its outputs under the plan's names."""

    statuses: tuple[str, ...]
    outputs: Mapping[str, Any] = {}
    seconds: float = 0.0


class Facts(Struct, frozen=True, kw_only=True):
    """What a run knows. A name that is missing here, and is in the plan, is unknown still."""

    now: Moment | Unknown = Unknown(frozenset(), "timestamp")
    run: Mapping[str, Maybe] = {}
    vars: Mapping[str, Maybe] = {}
    outcomes: Mapping[str, Outcome] = {}
    sites: Mapping[str, Mapping[str, Maybe]] = {}
    secrets: Mapping[str, str] = {}
    steady_state: Mapping[str, Maybe] = {}


NOTHING = Facts()
"""Before a run: every value is only a kind."""


def all_steps(plan: Plan) -> Iterator[Step]:
    """Every step with an id of its own in the plan's graph; not those inside others."""
    yield from (*plan.preconditions, *plan.steps, *plan.always)


def reachable(plan: Plan, step: Step) -> frozenset[str]:
    """The steps that have ended, or been injected, whenever `step` starts. For one in `always`: all that may have run."""
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
    """What `step` sees; None: what stands outside all steps (guards, the concurrency group)."""
    visible = reachable(plan, step) if step is not None else frozenset()
    return _context(plan, step, facts, visible, item)


def undo_context_of(plan: Plan, step: Step, facts: Facts = NOTHING, *, item: Maybe = None) -> Context:
    """What a step's own `compensate` sees: all that the step sees, and the step itself; under `foreach` of that item alone,
    so that an outcome of the step in `facts` must be that item's."""
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
    absent = {"item": "`item` is only there under `foreach`"}
    if step is not None and step.foreach is not None:
        roots["item"] = Unknown(frozenset()) if item is None else item
    return Context(
        roots=Names("name", roots, absent),
        now=facts.now,
        statuses={name: _statuses(name, facts) for name in shown},
        needs=tuple(need.step for need in step.needs if need.state == "ended") if step is not None else (),
    )


def _absent(known: Mapping[str, Step], shown: Mapping[str, Step], step: Step | None) -> dict[str, str]:
    where = f"step {step.id!r} does not need it" if step is not None else "no step has run there"
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
