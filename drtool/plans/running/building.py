"""Conversion of a plan to tasks and edges. PURE."""

from typing import Literal

from drtool.plans.journal.events import Phase
from drtool.plans.language.actions import Fault, Restore, Run
from drtool.plans.language.model import Plan, Step
from drtool.plans.language.syntax import Call, Expression, walk
from drtool.plans.running.tasks import Edge, Graph, Retries, Task

STATUS_FUNCTIONS = frozenset({"success", "failed", "ran", "always"})
STEADY_BEFORE, STEADY_AFTER = "before.", "after."
"""Prefix of the ids of the steady state's probes, where they are tasks of the run. No step's id contains a dot."""


def graph_of(plan: Plan) -> Graph:
    """Return the tasks of a run of the plan."""
    tasks = [_task(step, "preconditions") for step in (*_steady(plan, "before"), *plan.preconditions)]
    tasks += [_task(step, "steps") for step in plan.steps]
    tasks += [_task(step, "always") for step in (*_steady(plan, "after"), *plan.always)]
    return Graph(tasks=tuple(tasks), max_parallel=plan.concurrency.max_parallel)


def steps_by_id(plan: Plan) -> dict[str, Step]:
    """Return every step that is a task, by the task's id."""
    steps = (*_steady(plan, "before"), *plan.preconditions, *plan.steps, *_steady(plan, "after"), *plan.always)
    return {step.id: step for step in steps}


def _steady(plan: Plan, when: Literal["before", "after"]) -> list[Step]:
    from msgspec.structs import replace

    steady = plan.steady_state
    if steady is None or when not in steady.when:
        return []
    prefix = STEADY_BEFORE if when == "before" else STEADY_AFTER
    return [replace(probe, id=prefix + probe.id) for probe in steady.probes]


def _task(step: Step, phase: Phase) -> Task:
    return Task(
        id=step.id,
        phase=phase,
        needs=tuple(Edge(need.step, need.state) for need in step.needs),
        conditional=step.condition is not None,
        handles=step.condition is not None and handles(step.condition),
        each=step.foreach is not None,
        max_parallel=step.max_parallel,
        on_failure=step.on_failure,
        optional=step.optional,
        retries=Retries(
            attempts=step.retry.attempts,
            backoff_s=step.retry.backoff_s,
            factor=step.retry.factor,
            max_s=step.retry.max_s,
            jitter=step.retry.jitter,
            only=step.retry.only,
        ),
        undo=len(step.compensate),
        holds=isinstance(step.action, Fault),
        on_resume=step.on_resume or _nature(step),
    )


def handles(condition: Expression) -> bool:
    """Return whether a condition refers to the status of other steps."""
    return any(isinstance(node, Call) and node.name in STATUS_FUNCTIONS for node in walk(condition.root))


def _nature(step: Step) -> Literal["retry", "ask", "skip"]:
    """Return the default of `on_resume`: idempotent work is retried, and a person is asked about the rest."""
    action = step.action
    if isinstance(action, Run):
        return "retry" if action.idempotent or action.changes == "nothing" else "ask"
    if isinstance(action, Restore):
        return "retry" if action.to.scratch else "ask"
    return "skip" if step.uses == "notify" else "retry"
