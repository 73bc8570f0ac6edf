"""The next decisions of a run: `decide(graph, state, …)`. PURE: elapsed time and the values of conditions are passed in.

The phases are preconditions, steps, undo (only if the run will not pass) and always. A phase ends when each of its tasks
has ended. `always` and undo run after any outcome, including an interruption.

Invariants
    No task begins before the tasks that it needs have ended (or begun, or been injected). A task is blocked if a task that
    it needs failed, unless its `if` refers to the status of other steps. A fault ends after its dependents have ended, or
    when none can begin any more.
    After a failure that is not tolerated, or a cancellation, only steps that handle it begin.
"""

from collections.abc import Callable, Iterator
from typing import TypeAlias

from msgspec import Struct

from drtool.plans.journal.events import Phase, Status
from drtool.plans.running.state import BAD, GOOD, RunState
from drtool.plans.running.tasks import CONFIRM, UNDO, Edge, Graph, Task, item_key, undo_key

PHASES: tuple[Phase, ...] = ("preconditions", "steps", "undo", "always")


class Start(Struct, frozen=True):
    key: str
    attempt: int = 1
    item: int | None = None


class Expand(Struct, frozen=True):
    """Resolve the items of a `foreach`."""

    task: str


class Settle(Struct, frozen=True):
    """End a task without doing anything (more)."""

    key: str
    status: Status
    detail: str = ""


class Release(Struct, frozen=True):
    """End a fault that is no longer needed."""

    key: str


class Rest(Struct, frozen=True):
    """Wait until something ends, or until so much time has elapsed."""

    until_s: float | None = None


class Finish(Struct, frozen=True):
    """End the run: all phases are over."""


Decision: TypeAlias = Start | Expand | Settle | Release | Rest | Finish
Judge: TypeAlias = Callable[[Task], bool | str]
"""Whether a task's `if` holds, or why that is not known. Called when all tasks that it needs have ended."""


def decide(graph: Graph, state: RunState, elapsed_s: float, judge: Judge) -> list[Decision]:
    """Return everything that can be done now, never an empty list. Call again once all of it is in the journal."""
    for phase in PHASES:
        found = list(_in_doubt(graph, state, phase)) or list(_in_phase(graph, state, phase, elapsed_s, judge))
        if found:
            return found
    return [Finish()]


def will_pass(graph: Graph, state: RunState) -> bool:
    """Return whether nothing has happened so far that keeps the run from passing."""
    return state.cancelled is None and not any(_spoils(state, task) for task in graph.tasks)


def _in_phase(graph: Graph, state: RunState, phase: Phase, elapsed_s: float, judge: Judge) -> Iterator[Decision]:
    if phase == "undo":
        yield from _undo(graph, state)
        return
    tasks = graph.of(phase)
    waiting = [task for task in tasks if state.status(task.id) is None]
    acts: list[Decision] = []
    for task in waiting:
        acts += _for_task(graph, state, task, elapsed_s, judge, room=_room(graph, state, acts))
    if acts:
        yield from acts
    elif waiting:
        retry_at_s = min((at for key, at in state.retry_at_s.items() if key not in state.running), default=None)
        if state.running or retry_at_s is not None:
            yield Rest(retry_at_s)
        else:  # impossible in a checked graph; an unchecked one must not wait for ever
            yield from (
                Settle(task.id, "blocked", "none of the steps that it waits for can happen") for task in waiting
            )


def _room(graph: Graph, state: RunState, acts: list[Decision]) -> int:
    """Return how many more tasks may begin. Faults take no place, because they only hold."""
    busy = sum(not graph.task(key).holds for key in state.running)
    busy += sum(isinstance(act, Start) and not graph.task(act.key).holds for act in acts)
    return graph.max_parallel - busy


def _for_task(
    graph: Graph, state: RunState, task: Task, elapsed_s: float, judge: Judge, room: int
) -> Iterator[Decision]:
    if task.id in state.running:
        if task.holds and _nobody_waits(graph, state, task):
            yield Release(task.id)
        return
    if task.each and task.id in state.items:
        yield from _items(state, task, elapsed_s, room)
        return
    if task.id in state.attempts:
        yield from _again(state, task, task.id, elapsed_s, room)
        return
    verdict = _may_begin(graph, state, task, judge)
    if verdict is None:
        return
    if isinstance(verdict, Settle):
        yield verdict
    elif task.each:
        yield Expand(task.id)
    elif room > 0 or task.holds:
        yield Start(task.id, state.attempt(task.id))


def _again(
    state: RunState, task: Task, key: str, elapsed_s: float, room: int, item: int | None = None
) -> Iterator[Decision]:
    """Decide about a task that failed and has attempts left."""
    if state.cancelled is not None and task.phase != "always":
        yield Settle(key, "aborted", f"{_cancelled(state)}, before another attempt")
    elif state.retry_at_s[key] <= elapsed_s and room > 0:
        yield Start(key, state.attempt(key), item)


def _items(state: RunState, task: Task, elapsed_s: float, room: int) -> Iterator[Decision]:
    keys = [item_key(task.id, number) for number in range(len(state.items[task.id]))]
    open_keys = [key for key in keys if state.status(key) is None]
    if not open_keys:
        yield _all_items(state, task, keys)
        return
    room = min(room, task.max_parallel - sum(key in state.running for key in keys))
    failed = any(state.status(key) in BAD for key in keys) and task.on_failure == "fail"
    for key in open_keys:
        if key in state.running:
            continue
        number = keys.index(key)
        if key in state.attempts:
            acts = list(_again(state, task, key, elapsed_s, room, number))
        elif (state.cancelled is not None and task.phase != "always") or failed:
            acts = [Settle(key, "aborted", _cancelled(state) if state.cancelled else "another item failed")]
        else:
            acts = [Start(key, 1, number)] if room > 0 else []
        room -= sum(isinstance(act, Start) for act in acts)
        yield from acts


def _all_items(state: RunState, task: Task, keys: list[str]) -> Settle:
    """Return the end of a `foreach` task: the worst status of its items, or `skipped` if there are none."""
    statuses = [state.status(key) for key in keys]
    for status in ("failed", "aborted", "blocked", "unproven", "simulated"):
        bad = sum(one == status for one in statuses)
        if bad:
            return Settle(task.id, status, f"{bad} of {len(keys)} items {status}")
    return Settle(task.id, "passed" if keys else "skipped", "" if keys else "there are no items")


def _may_begin(graph: Graph, state: RunState, task: Task, judge: Judge) -> Settle | bool | None:
    """Return True, or the decision that ends the task at once, or None while it has to wait."""
    if state.cancelled is not None and task.phase != "always":
        return Settle(task.id, "aborted", _cancelled(state))
    met = [_met(state, edge) for edge in task.needs]
    if None in met:
        return None
    bad = [edge.task for edge, good in zip(task.needs, met, strict=True) if good == "bad"]
    if not task.handles and task.phase != "always":
        if any(_stops(graph, state, edge) for edge in bad):
            return Settle(task.id, "blocked", f"it needs {', '.join(bad)}, which {_became(state, bad)}")
        skipped = [edge.task for edge, good in zip(task.needs, met, strict=True) if good == "skipped"]
        if skipped:
            return Settle(task.id, "skipped", f"it needs {', '.join(skipped)}, which was skipped")
        stop = _stopped_by(graph, state) if task.phase == "steps" else ""
        if stop:
            return Settle(task.id, "blocked", stop)
    holds = judge(task) if task.conditional else True
    if isinstance(holds, str):
        return Settle(task.id, "failed", f"its condition cannot be evaluated: {holds}")
    return True if holds else Settle(task.id, "skipped", "its condition does not hold")


def _met(state: RunState, edge: Edge) -> str | None:
    """Return `good`, `bad` or `skipped`, or None if the edge is not decided yet."""
    status = state.status(edge.task)
    if edge.until == "injected":
        if edge.task in state.injected:
            return "good"
        return None if status is None else "bad"
    if status is None:
        begun = edge.until == "started" and (edge.task in state.order or edge.task in state.items)
        return "good" if begun else None
    return "bad" if status in BAD else "skipped" if status == "skipped" else "good"


def _stops(graph: Graph, state: RunState, task: str) -> bool:
    """Return whether the outcome of a task blocks its dependents. An optional task may fail."""
    return not graph.task(task).optional or state.status(task) != "failed"


def _became(state: RunState, tasks: list[str]) -> str:
    return ", ".join(
        dict.fromkeys(
            {"aborted": "was aborted", "blocked": "was blocked"}.get(str(state.status(task)), "failed")
            for task in tasks
        )
    )


def _stopped_by(graph: Graph, state: RunState) -> str:
    """Return why no further step begins (a failure that ends the plan, or an unproven precondition), or an empty string."""
    for task in (*graph.of("preconditions"), *graph.of("steps")):
        status = state.status(task.id)
        if task.optional or status not in ("failed", "unproven"):
            continue
        if task.phase == "preconditions":
            return f"the precondition {task.id} {'failed' if status == 'failed' else 'could not be proven'}"
        if status == "failed" and task.on_failure == "fail":
            return f"{task.id} failed, and that ends the plan"
    return ""


def _nobody_waits(graph: Graph, state: RunState, fault: Task) -> bool:
    """Return whether all dependents of a fault have ended. A fault without dependents lasts until its time is up."""
    if fault.id not in state.injected:
        return False
    dependents = [task for task in graph.tasks if Edge(fault.id, "injected") in task.needs]
    if not dependents:
        return state.cancelled is not None or bool(_stopped_by(graph, state))
    return all(state.status(task.id) is not None for task in dependents)


def _undo(graph: Graph, state: RunState) -> Iterator[Decision]:
    """Undo one step after the other, the last one begun first. All are tried, even if some fail. Nothing if the run will pass."""
    if will_pass(graph, state):
        return
    keys = [
        undo_key(key, number)
        for key in reversed(state.order)
        if ":" not in key
        for number in range(graph.task(key).undo)
    ]
    for key in keys:
        if key in state.running:
            yield Rest()
            return
        if state.status(key) is None:
            yield Start(key, state.attempt(key))
            return


def _spoils(state: RunState, task: Task) -> bool:
    status = state.status(task.id)
    return (
        status is not None
        and status not in (*GOOD, "skipped", "unproven")
        and not (status == "failed" and task.optional)
    )


def _in_doubt(graph: Graph, state: RunState, phase: Phase) -> Iterator[Decision]:
    """Decide about tasks that were running when the process died: their last attempt has the cause `doubt`."""
    for key, ends in state.attempts.items():
        if ends[-1].cause != "doubt" or key in state.ended or key in state.running:
            continue
        if key.startswith((UNDO, CONFIRM)) or _phase_of(graph, key) != phase:
            continue
        if all(
            _met(state, edge) is not None for edge in graph.task(key).needs
        ):  # a fault that it needs may be in doubt too
            yield from _after_doubt(graph, state, key)


def _phase_of(graph: Graph, key: str) -> Phase:
    return graph.task(key).phase


def _after_doubt(graph: Graph, state: RunState, key: str) -> Iterator[Decision]:
    task = graph.task(key)
    if state.cancelled is not None and task.phase != "always":
        yield Settle(key, "aborted", f"{_cancelled(state)}; whether it took effect is unknown")
    elif task.on_resume == "skip":
        yield Settle(key, "unproven", "it was running when the run was interrupted; whether it took effect is unknown")
    elif task.on_resume == "retry":
        yield Start(key, state.attempt(key), _item_of(key))
    else:
        yield _after_question(state, key, task.on_resume)


def _after_question(state: RunState, key: str, how: str) -> Decision:
    """Resolve a doubt. `confirm` runs a step that checks the effect; `ask` asks a person whether to do the step (again)."""
    if CONFIRM + key in state.running:
        return Rest()
    answer = state.status(CONFIRM + key)
    if answer is None:
        return Start(CONFIRM + key, state.attempt(CONFIRM + key))
    if (answer in GOOD) == (how == "ask"):
        return Start(key, state.attempt(key), _item_of(key))
    if how == "confirm":
        return Settle(key, "passed", "confirmed: it had taken effect before the run was interrupted")
    return Settle(key, "aborted", "whether it took effect is unknown, and repeating it was not approved")


def _item_of(key: str) -> int | None:
    return int(key[key.index("[") + 1 : -1]) if key.endswith("]") else None


def _cancelled(state: RunState) -> str:
    return state.cancelled.reason if state.cancelled else ""
