"""The changes that a step makes, and whether it can run without approval.

Invariants
    A step is behind an approval only if it cannot run without one: there is no path to it on which the approve step is
    skipped or its answer is ignored.
"""

from drtool.plans.language.actions import Fault, NestedPlan, Restore, Run
from drtool.plans.language.evaluating import LOOKS_AT_OUTCOMES
from drtool.plans.language.model import Plan, Step
from drtool.plans.language.syntax import Call, walk


def overwrites(step: Step) -> str:
    """Describe the production data that a step may replace (it then needs approval), or return an empty string."""
    action = step.action
    if not isinstance(action, Restore):
        return ""
    if action.to.path is not None and action.overwrite not in {None, "never"}:
        return f"restores over {action.to.path} (overwrite: {action.overwrite})"
    if action.delete:
        return "deletes what is at the destination"
    return f"restores into {action.to.dsn}" if action.to.dsn is not None else ""


def changes_production(step: Step) -> str:
    """Describe the changes outside scratch and the repository, or return an empty string."""
    action = step.action
    match action:
        case Restore() if action.to.path is not None:
            return overwrites(step) or f"restores to {action.to.path}"
        case Run() if action.changes == "live":
            return (
                "runs a program that may change anything (add `changes: nothing` or `changes: scratch` if it does not)"
            )
        case Fault():
            return f"injects a fault ({action.type})"
        case NestedPlan():
            return ""
        case _:
            return overwrites(step)


def is_behind_approval(plan: Plan, step: Step) -> bool:
    """Return whether `step` runs only after an approval."""
    by_id = {each.id: each for each in plan.steps}
    if step.id not in by_id or _looks_at_outcomes(step):
        return False
    waiting, seen = [need.step for need in step.needs if need.state == "ended"], set[str]()
    while waiting:
        name = waiting.pop()
        if name in seen:
            continue
        seen.add(name)
        if _is_approval_for(by_id[name], step):
            return True
        if not _passes_over(by_id[name]) and _always_runs_before(by_id[name], step):
            waiting += [need.step for need in by_id[name].needs if need.state == "ended"]
    return False


def _is_approval_for(approve: Step, step: Step) -> bool:
    return (
        approve.uses == "approve"
        and not approve.optional
        and approve.foreach is None  # an empty list would skip the question
        and approve.on_resume != "skip"
        and approve.on_failure == "fail"
        and _always_runs_before(approve, step)
    )


def _always_runs_before(earlier: Step, step: Step) -> bool:
    """Return whether `earlier` runs whenever `step` runs."""
    return earlier.condition is None or earlier.condition == step.condition


def _passes_over(step: Step) -> bool:
    """Return whether a step runs, or counts as passed, even if a step that it needs has failed."""
    return _looks_at_outcomes(step) or step.on_failure != "fail"


def _looks_at_outcomes(step: Step) -> bool:
    """Return whether a step may run even if a step that it needs has failed."""
    return step.condition is not None and any(
        isinstance(node, Call) and node.name in LOOKS_AT_OUTCOMES for node in walk(step.condition.root)
    )
