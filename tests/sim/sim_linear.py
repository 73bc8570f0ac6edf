"""Is there one order of all operations, consistent with real time, that explains every answer? (Wing & Gong 1993)

Knows nothing of Paxos. The specification is a list that grows by one mark at a commit, and an epoch that moves on
only from the epoch that the caller named. An operation without an answer may have happened at any time, or never.
Memoised on (operations done, state), as Lowe 2017 does. Marks never go, so an order is given up as soon as an answer that is
yet to come contradicts them: otherwise a dozen operations without an answer could keep the search busy for hours.
"""

from dataclasses import dataclass
from typing import Any

NEVER = float("inf")


@dataclass
class Operation:
    """One call of one client: `kind` append | read | epoch; `answer` None while nothing was heard."""

    kind: str
    value: Any
    began: float
    ended: float = NEVER
    answer: Any = None


State = tuple[tuple[str, ...], int]


def step(state: State, operation: Operation) -> State | None:
    """The state after the operation, or None if its answer contradicts the state."""
    marks, epoch = state
    answer = operation.answer
    match operation.kind:
        case "read":
            return state if answer is None or answer == state else None
        case "append":
            after = (*marks, operation.value)
            return (after, epoch) if answer is None or answer == after else None
        case "epoch":
            moved = epoch + 1 == operation.value
            if answer is not None and answer != moved:
                return None
            return (marks, operation.value) if moved else state
    raise ValueError(operation.kind)


def is_linearizable(operations: list[Operation], initial: State = ((), 1)) -> bool:
    """Whether some order explains all answers."""
    history = sorted((op for op in operations if op.kind != "read" or op.answer is not None), key=lambda op: op.began)
    answered = sum(1 << i for i, op in enumerate(history) if op.ended < NEVER)
    told = {i: op.answer if op.kind == "append" else op.answer[0] for i, op in enumerate(history) if _tells_marks(op)}
    seen: set[tuple[int, State]] = set()
    stack: list[tuple[int, State]] = [(0, initial)]
    while stack:
        done, state = stack.pop()
        if done & answered == answered:
            return True
        if (done, state) in seen:
            continue
        seen.add((done, state))
        left = [(i, op) for i, op in enumerate(history) if not done >> i & 1]
        horizon = min(op.ended for _, op in left)
        for i, op in reversed(left):
            if op.began <= horizon and (after := step(state, op)) is not None:
                marks, now_done = after[0], done | 1 << i
                if op.kind != "append" or all(
                    now_done >> j & 1 or known[: len(marks)] == marks for j, known in told.items()
                ):
                    stack.append((now_done, after))
    return False


def _tells_marks(operation: Operation) -> bool:
    return operation.kind in ("append", "read") and operation.answer is not None
