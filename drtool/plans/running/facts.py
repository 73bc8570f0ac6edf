"""The values that expressions see in a run: the journal's state, in the types of the plan language. PURE."""

from collections.abc import Mapping
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from drtool.plans.language.actions import RESULTS
from drtool.plans.language.context import Facts, Outcome, context_of, undo_context_of
from drtool.plans.language.evaluating import Context
from drtool.plans.language.model import Plan, Step
from drtool.plans.language.quantities import moment_ns
from drtool.plans.language.values import Bytes, Maybe, Moment, Unknown, ValueKind
from drtool.plans.running.building import steps_by_id
from drtool.plans.running.state import RunState
from drtool.plans.running.tasks import UNDO, item_key, task_id, undone


class Given(Struct, frozen=True, kw_only=True):
    """The fixed values of a run, under the plan's names."""

    run: str
    scope: str
    started: Moment
    vars: Mapping[str, Maybe] = {}
    secrets: Mapping[str, str] = {}
    sites: Mapping[str, Mapping[str, Maybe]] = {}


def context_for(plan: Plan, state: RunState, given: Given, key: str | None, now: Moment | Unknown) -> Context:
    """Return the context of the piece of work `key`. None stands for expressions outside all steps."""
    facts = Facts(
        now=now,
        run={"id": given.run, "scope": given.scope, "started": given.started},
        vars=given.vars,
        outcomes=outcomes(plan, state),
        sites=given.sites,
        secrets=given.secrets,
        steady_state=steady(state),
    )
    if key is None:
        return context_of(plan, None, facts)
    step = steps_by_id(plan)[task_id(key)]
    item = _item(state, undone(key)[0] if key.startswith(UNDO) else key)
    if key.startswith(UNDO):
        own = {step.id: _own_outcome(step, state, undone(key)[0])}
        return undo_context_of(plan, step, replace(facts, outcomes={**facts.outcomes, **own}), item=item)
    return context_of(plan, step, facts, item=item)


def outcomes(plan: Plan, state: RunState) -> dict[str, Outcome]:
    """Return the outcome so far of each step that has ended, or is an active fault."""
    found = {}
    for name, step in steps_by_id(plan).items():
        status = state.status(name) or ("injected" if name in state.injected else None)
        if status is None:
            continue
        keys = [item_key(name, number) for number in range(len(state.items[name]))] if name in state.items else [name]
        ended = state.ended.get(name)
        found[name] = Outcome(
            statuses=tuple(str(state.status(key) or status) for key in keys),
            outputs=_outputs(step, state, keys),
            seconds=ended.seconds if ended else 0.0,
        )
    return found


def _own_outcome(step: Step, state: RunState, key: str) -> Outcome:
    """Return the outcome of the piece of work being undone. An output that it did not produce is null, not unknown."""
    return Outcome(statuses=(str(state.status(key) or "aborted"),), outputs=_row(step, state, key))


def _outputs(step: Step, state: RunState, keys: list[str]) -> dict[str, Any]:
    """Return outputs under the plan's names. With `foreach`, each is a list in the order of the items."""
    rows = [_row(step, state, key) for key in keys]
    if step.foreach is None:
        return rows[0]
    return {name: tuple(row[name] for row in rows) for name in step.outputs}


def _row(step: Step, state: RunState, key: str) -> dict[str, Any]:
    kinds, given = RESULTS[step.uses], state.outputs(key) or {}
    return {name: typed(given.get(result), kinds.get(result, "any")) for name, result in step.outputs.items()}


def typed(value: Any, kind: ValueKind) -> Any:  # noqa: ANN401 - any plain value
    """Convert a plain value from the journal to its kind."""
    if value is None:
        return None
    if kind == "timestamp" and isinstance(value, str):
        return Moment(moment_ns(value))
    if kind == "size" and isinstance(value, int):
        return Bytes(value)
    return tuple(value) if isinstance(value, list) else value


def steady(state: RunState) -> dict[str, Maybe]:
    """Return the share of bad and good answers of the probes during the steps."""
    during = [sample for sample in state.samples if sample.when == "during"]
    if not during:
        return {"failing": 0.0, "passing": 1.0}
    failing = sum(not sample.passed for sample in during) / len(during)
    return {"failing": failing, "passing": 1 - failing}


def _item(state: RunState, key: str) -> Maybe:
    if not key.endswith("]"):
        return None
    name, number = task_id(key), int(key[key.rindex("[") + 1 : -1])
    item: Maybe = state.items[name][number]
    return item
