"""Shared parts of the actions that run drtool's own commands: a strict judgement of how the command ended.

Invariants
    A command without a document has failed, whatever its exit code. A command that was ended never counts as done.
"""

from collections.abc import Callable, Collection
from typing import Any

from drtool.errors import Refused
from drtool.plans.actions.port import Cause, ChildResult, Outcome, Preview, RunContext, StepContext

Judge = Callable[[dict[str, Any], int], Outcome]
ROWS_MAX = 200


def ended(
    result: ChildResult, document: dict[str, Any], run_context: RunContext, judge: Judge, good: Collection[int]
) -> Outcome:
    """Return the outcome of a command. `judge` reads its document if its exit code is in `good`."""
    if result.ended_by == "cancelled":
        return Outcome(status="aborted", cause="cancelled", detail="the run was cancelled before it had finished")
    if result.ended_by == "timeout":
        return Outcome(
            status="failed", cause="timeout", detail=f"it had not finished after {result.seconds:.0f} s and was ended"
        )
    if "error" in document:
        error = document["error"]
        told = f"{error['message']}; {error['hint']}" if error.get("hint") else error["message"]
        cause: Cause = "refused" if result.exit_code == Refused.exit_code else "error"
        return Outcome(
            status="failed", cause=cause, detail=run_context.redact(str(told)), evidence={"exit_code": result.exit_code}
        )
    if not document or result.exit_code not in good:
        lines = result.stderr.strip().splitlines()[-1:] or [f"it ended with {result.exit_code}"]
        return Outcome(status="failed", cause="error", detail=lines[0], evidence={"exit_code": result.exit_code})
    try:
        return judge(document, result.exit_code)
    except (KeyError, TypeError, IndexError, ValueError) as error:
        return Outcome(
            status="failed",
            cause="error",
            detail=f"its document is invalid: {error!r}",
            evidence={"exit_code": result.exit_code},
        )


def limits(max_objects: int | None, max_bytes: int | None) -> list[str]:
    """Return the limits as options of a command."""
    words = ["--max-objects", str(max_objects)] if max_objects is not None else []
    return [*words, "--max-bytes", str(max_bytes)] if max_bytes is not None else words


def deferred(step_context: StepContext) -> Preview | None:
    """Return a deferred preview if `with` is not fully known yet, else None."""
    if not step_context.missing:
        return None
    return Preview(verdict="deferred", detail=f"needs {', '.join(sorted(step_context.missing))}")


def cannot(why: str) -> Preview:
    return Preview(verdict="cannot run", detail=why)
