"""One attempt of one step, in a thread of its own. Its messages go through a queue to the main loop of the run.

Invariants
    Exactly one outcome arrives for each attempt. An unexpected exception is an outcome too, with its traceback in the
    evidence: it is a bug in drtool, but the run still cleans up.
"""

import queue
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from typing import Any, TypeAlias

from drtool.errors import DrtoolError, Refused
from drtool.plans.actions.port import Action, Outcome, RunContext, StepContext, Work

GRACE_S = 30.0
"""How long an action may take to stop after its timeout."""


@dataclass(frozen=True)
class HasEnded:
    key: str
    attempt: int
    outcome: Outcome
    seconds: float


@dataclass(frozen=True)
class IsInjected:
    key: str
    outputs: dict[str, Any]


@dataclass(frozen=True)
class Says:
    key: str
    text: str


Message: TypeAlias = HasEnded | IsInjected | Says


class Attempt:
    """A thread that executes an action."""

    def __init__(
        self,
        key: str,
        number: int,
        timeout_s: float,
        messages: "queue.Queue[Message]",
        scratch: Callable[[int, int], Path],
        at_end: Callable[[Callable[[], Sequence[str]]], None],
    ) -> None:
        self.key, self.number = key, number
        self.began_at = time.monotonic()
        self._messages = messages
        self.work = Work(
            attempt=number,
            ends_at=self.began_at + timeout_s,
            cancelled=Event(),
            released=Event(),
            injected=lambda outputs: messages.put(IsInjected(key, outputs)),
            scratch=scratch,
            at_end=at_end,
            progress=lambda text: messages.put(Says(key, text)),
        )
        self._thread: threading.Thread | None = None

    def begin(self, action: Action, step_context: StepContext, run_context: RunContext) -> None:
        def carry_out() -> None:
            outcome = _outcome(action, step_context, run_context, self.work)
            self._messages.put(HasEnded(self.key, self.number, outcome, time.monotonic() - self.began_at))

        self._thread = threading.Thread(target=carry_out, name=f"plan-{self.key}", daemon=True)
        self._thread.start()

    @property
    def overdue(self) -> bool:
        """Whether the attempt should have ended long ago."""
        return time.monotonic() > self.work.ends_at + GRACE_S

    def given_up(self) -> HasEnded:
        """Return the outcome of an attempt that does not end."""
        outcome = Outcome(
            status="failed",
            cause="timeout",
            detail="it did not end after its timeout and was left running",
            leftovers=(f"{self.key}: still running in this process",),
        )
        return HasEnded(self.key, self.number, outcome, time.monotonic() - self.began_at)


def _outcome(action: Action, step_context: StepContext, run_context: RunContext, work: Work) -> Outcome:
    try:
        outcome = action.act(step_context, run_context, work)
    except DrtoolError as error:
        detail = f"{error.message}; {error.hint}" if error.hint else error.message
        cause: Any = "refused" if isinstance(error, Refused) else "error"
        outcome = Outcome(status="failed", detail=detail, cause=cause)
    except Exception as error:  # noqa: BLE001 - an action that breaks must not keep the run from undoing and cleaning up
        evidence = {"traceback": traceback.format_exc(limit=12)}
        outcome = Outcome(
            status="failed",
            detail=f"a bug in drtool: {type(error).__name__}: {error}",
            cause="error",
            evidence=evidence,
        )
    if work.cancelled.is_set() and outcome.status == "failed":
        return Outcome(
            status="aborted",
            detail=outcome.detail,
            outputs=outcome.outputs,
            evidence=outcome.evidence,
            cause="cancelled",
            human_s=outcome.human_s,
            leftovers=outcome.leftovers,
        )
    return outcome
