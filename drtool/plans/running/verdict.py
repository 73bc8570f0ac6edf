"""The conclusion of a run: the verdict in one word, and the exit code. PURE.

Invariants
    `unproven` is never `passed`. A step skipped by its condition is neither. An optional step that did not pass is listed as
    not proven, but does not keep the run from passing.
"""

from collections.abc import Iterable

from msgspec import Struct

from drtool.errors import worst_exit
from drtool.plans.journal.events import Verdict
from drtool.plans.running.building import STEADY_AFTER
from drtool.plans.running.state import BAD, RunState
from drtool.plans.running.tasks import UNDO, Graph, task_id

FAILED, LEFTOVERS, UNPROVEN, MISSED = 1, 8, 9, 7
_SIGNALS = {"interrupt": 130, "terminate": 143}


class Conclusion(Struct, frozen=True, kw_only=True):
    verdict: Verdict
    exit_code: int
    unproven: tuple[str, ...] = ()
    """Unproven steps, optional ones included, each with its reason."""
    leftovers: tuple[str, ...] = ()
    reason: str = ""
    """The first cause for not passing, in one sentence."""


def conclude(
    graph: Graph,
    state: RunState,
    *,
    missed: Iterable[str] = (),
    leftovers: Iterable[str] = (),
    unproven: Iterable[str] = (),
    unmeasured: Iterable[str] = (),
    unsteady: str = "",
    unanswered: str = "",
) -> Conclusion:
    """Conclude a run after all its phases.

    `missed` and `unproven` are objectives; `unmeasured` are objectives that decide nothing. `leftovers` could not be removed
    at the end. `unsteady` is why the steady state did not hold, `unanswered` why that is not known.
    A run without any executed step proves nothing.
    """
    left = [*leftovers, *(one for ended in state.ended.values() for one in ended.leftovers)]
    left += [
        f"{key} did not succeed: {state.ended[key].detail}" for key in _with(state, *BAD) if _is_cleanup(graph, key)
    ]
    counted = [key for key in _with(state, "failed", "aborted", "blocked") if _counts(graph, key)]
    refused = [key for key in counted if state.status(key) == "aborted"]
    # a step that is blocked only by an unproven precondition has not failed
    in_doubt = any(state.status(task.id) == "unproven" and not task.optional for task in graph.of("preconditions"))
    failed = [
        key
        for key in counted
        if state.status(key) == "failed" or (state.status(key) == "blocked" and not refused and not in_doubt)
    ]
    open_ends = [key for key in _with(state, "unproven") if not key.endswith("]")]
    hard = [f"{key}: {state.ended[key].detail}" for key in open_ends if not _optional(graph, key)]
    hard += [unanswered] if unanswered else []
    steps = [task.id for task in graph.of("steps")]
    if steps and not any(
        state.status(key) in (*BAD, "passed", "tolerated", "unproven") for key in steps if key in state.ended
    ):
        hard.append("no step was executed: all were skipped")
    hard += unproven
    found: list[tuple[int, Verdict, str]] = []
    if state.cancelled is not None:
        found.append((_SIGNALS.get(state.cancelled.cause, FAILED), "aborted", state.cancelled.reason))
    if failed or unsteady:
        found.append((FAILED, "failed", _first(state, failed) or unsteady))
    if refused:
        found.append((FAILED, "aborted", _first(state, refused)))
    found += [(LEFTOVERS, "leftovers", one) for one in left[:1]]
    found += [(UNPROVEN, "unproven", one) for one in hard[:1]]
    found += [(MISSED, "missed", one) for one in list(missed)[:1]]
    code = worst_exit(*(code for code, _, _ in found), 0)
    verdict, reason = found[0][1:] if found else ("passed", "")
    soft = [key for key in state.ended if _optional(graph, key) and state.status(key) in ("failed", "unproven")]
    listed = (*hard, *unmeasured, *(f"{key} (optional): {state.ended[key].detail}" for key in soft))
    return Conclusion(verdict=verdict, exit_code=code, unproven=listed, leftovers=tuple(left), reason=reason)


def _with(state: RunState, *statuses: str) -> list[str]:
    """Return the keys with these statuses, in the order of `statuses`, then of their ends."""
    return [key for status in statuses for key in state.ended if state.status(key) == status]


def _first(state: RunState, keys: list[str]) -> str:
    """Return the first cause: a failed step comes before the steps that it blocked."""
    return f"{keys[0]}: {state.ended[keys[0]].detail}" if keys else ""


def _is_cleanup(graph: Graph, key: str) -> bool:
    if key.startswith(UNDO):
        return True
    return (
        ":" not in key
        and graph.task(key).phase == "always"
        and not key.startswith(STEADY_AFTER)
        and not _optional(graph, key)
    )


def _counts(graph: Graph, key: str) -> bool:
    """Return whether a failure of the key is one of the run. Optional steps, cleanup and resume questions do not count."""
    return ":" not in key and not key.endswith("]") and not _optional(graph, key) and not _is_cleanup(graph, key)


def _optional(graph: Graph, key: str) -> bool:
    return ":" not in key and graph.task(task_id(key)).optional
