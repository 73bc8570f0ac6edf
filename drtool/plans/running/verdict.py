"""What a run comes to: the verdict in one word, and the exit code. PURE.

Invariants
    `unproven` is never `passed`; what was skipped because of a condition is neither. What is optional and did not come out is
    listed as not proven, and does not keep a run from passing.
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
    """Each with its reason; what is optional too."""
    leftovers: tuple[str, ...] = ()
    reason: str = ""
    """Why it did not pass, in one sentence: the first cause."""


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
    """Of a run all of whose phases are over. `missed`, `unproven`: objectives, and `unmeasured`, which decide nothing;
    `leftovers`: what the run's end could not remove; `unsteady`: why the steady state did not hold; `unanswered`: why nobody
    knows. A run of which no step was carried out proves nothing.
    """
    left = [*leftovers, *(one for ended in state.ended.values() for one in ended.leftovers)]
    left += [
        f"{key} did not come out: {state.ended[key].detail}" for key in _with(state, *BAD) if _is_cleanup(graph, key)
    ]
    counted = [key for key in _with(state, "failed", "aborted", "blocked") if _counts(graph, key)]
    refused = [key for key in counted if state.status(key) == "aborted"]
    # what is only blocked because nobody knows whether a precondition holds has not failed
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
        hard.append("no step was carried out: all were skipped")
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
    """The keys that ended so, the worst status first, then as they ended."""
    return [key for status in statuses for key in state.ended if state.status(key) == status]


def _first(state: RunState, keys: list[str]) -> str:
    """The first cause: what failed before what was blocked by it."""
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
    """Whether its failing is the run's: not of what is optional or cleans up, nor of questions after a resume."""
    return ":" not in key and not key.endswith("]") and not _optional(graph, key) and not _is_cleanup(graph, key)


def _optional(graph: Graph, key: str) -> bool:
    return ":" not in key and graph.task(task_id(key)).optional
