"""`wait`: waits for a duration, or until an expression holds.

Invariants
    It ends by its step's timeout at the latest, and within a second of a cancellation.
    An unknown expression does not hold.
"""

import time

from drtool.plans.actions.port import Outcome, Preview, RunContext, StepContext, Work
from drtool.plans.bounded import pause
from drtool.plans.language.actions import RESULTS, Wait
from drtool.plans.language.parsing import ExpressionError
from drtool.plans.language.values import Unknown, duration_text

OUTPUTS = RESULTS["wait"]
EVERY_S = 5.0


class WaitAction:
    """An implementation of `port.Action`."""

    def preview(self, step_context: StepContext, run_context: RunContext) -> Preview:
        action: Wait = step_context.action
        if action.until is not None:
            return _preview_until(step_context, action)
        if action.duration_s is None:
            return Preview(verdict="deferred", detail=f"needs {', '.join(sorted(step_context.missing))}")
        if action.duration_s > step_context.step.timeout_s:
            limit = duration_text(step_context.step.timeout_s)
            detail = f"it waits for {duration_text(action.duration_s)}, but its timeout is {limit}"
            return Preview(verdict="cannot run", detail=detail)
        return Preview(
            verdict="ok", detail=f"waits for {duration_text(action.duration_s)}", estimate_s=action.duration_s
        )

    def act(self, step_context: StepContext, run_context: RunContext, work: Work) -> Outcome:
        action: Wait = step_context.action
        began_at = time.monotonic()
        if action.until is None:
            return _waited(action.duration_s or 0.0, began_at, work)
        while True:
            problem = _unmet(step_context, action)
            if not problem:
                return Outcome(status="passed", detail=f"{action.until.text} holds", outputs=_outputs(began_at))
            if time.monotonic() >= work.ends_at:
                return Outcome(status="failed", cause="timeout", detail=problem, outputs=_outputs(began_at))
            if not pause(action.every_s or EVERY_S, work.ends_at, work.cancelled):
                return _cancelled(began_at)


def _preview_until(step_context: StepContext, action: Wait) -> Preview:
    assert action.until is not None
    try:
        value = step_context.evaluate(action.until)
    except ExpressionError as error:
        return Preview(verdict="cannot run", detail=f"until {action.until.text}: {error.message}")
    if isinstance(value, Unknown):
        return Preview(verdict="deferred", detail=f"needs {', '.join(sorted(value.needs)) or 'the run'}")
    if not isinstance(value, bool):
        return Preview(verdict="cannot run", detail=f"until {action.until.text}: it is neither true nor false")
    told = "already holds" if value else f"waits for at most {duration_text(step_context.step.timeout_s)}"
    return Preview(verdict="ok", detail=f"{action.until.text}: {told}")


def _waited(duration_s: float, began_at: float, work: Work) -> Outcome:
    if not pause(duration_s, work.ends_at, work.cancelled):
        return _cancelled(began_at)
    if time.monotonic() < began_at + duration_s - 0.001:
        detail = f"the time ran out before {duration_text(duration_s)} had passed"
        return Outcome(status="failed", cause="timeout", detail=detail, outputs=_outputs(began_at))
    return Outcome(status="passed", detail=f"waited for {duration_text(duration_s)}", outputs=_outputs(began_at))


def _unmet(step_context: StepContext, action: Wait) -> str:
    """Return why to keep waiting, or an empty string."""
    assert action.until is not None
    try:
        value = step_context.evaluate(action.until)
    except ExpressionError as error:
        return f"{action.until.text} cannot be evaluated: {error.message}"
    if isinstance(value, Unknown):
        return f"{action.until.text} is unknown; it needs {', '.join(sorted(value.needs))}"
    return "" if value is True else f"{action.until.text} was never true"


def _cancelled(began_at: float) -> Outcome:
    return Outcome(
        status="aborted", cause="cancelled", detail="the run was cancelled while waiting", outputs=_outputs(began_at)
    )


def _outputs(began_at: float) -> dict[str, float]:
    return {"seconds": round(time.monotonic() - began_at, 3)}
