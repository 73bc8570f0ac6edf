"""`plan`: another plan, executed as a run of its own. Its verdict becomes this step's.

Invariants
    The dry run is the nested plan's own dry run. The run uses the copy stored at the start of this run, if there is one.
    Only the nested verdict `passed` passes this step. Anything that the nested run could not prove is unproven here too.
"""

import os
import threading
import time
from pathlib import Path
from typing import Any

from drtool.plans.actions.port import ChildResult, Outcome, Preview, Result, RunContext, StepContext, Work
from drtool.plans.language.actions import RESULTS, NestedPlan
from drtool.plans.running.resumption import FOLDER

OUTPUTS = RESULTS["plan"]
PREVIEW_S = 600.0
_UNPROVEN_EXIT, _BUSY_EXIT = 9, 75
_INTERRUPTED = (129, 130, 143)


class PlanAction:
    """An implementation of `port.Action`."""

    def preview(self, step_context: StepContext, run_context: RunContext) -> Preview:
        action: NestedPlan = step_context.action
        if step_context.missing:
            return Preview(verdict="deferred", detail=f"needs {', '.join(sorted(step_context.missing))}")
        path = _directory(step_context, run_context) / action.file
        if not path.is_file():
            return Preview(verdict="cannot run", detail=f"there is no plan {path}")
        result, document = run_context.drtool(_words(path, action, run_context, "--dry-run"), _watching(step_context))
        if result.ended_by != "itself":
            return Preview(verdict="cannot run", detail="its dry run did not end in time")
        steps = list(document.get("steps", ()))
        bad = [f"{row['id']}: {row['status']}" for row in steps if str(row["status"]).startswith("cannot run")]
        if result.exit_code or not document:
            detail = "; ".join(bad) or _last(result)
            return Preview(verdict="cannot run", detail=run_context.redact(f"{action.file}: {detail}"))
        changes = any(str(row["status"]).startswith("would change") for row in steps)
        return Preview(
            verdict="would change" if changes else "ok",
            detail=f"what its {len(steps)} steps change" if changes else f"{len(steps)} steps of {action.file}",
            provable=not document.get("unproven"),
            pins={"file": str(path)},
            evidence={"steps": [f"{row['id']}: {row['status']}" for row in steps][:200]},
        )

    def act(self, step_context: StepContext, run_context: RunContext, work: Work) -> Outcome:
        action: NestedPlan = step_context.action
        kept = run_context.folder / FOLDER / os.path.normpath(action.file)
        path = (
            kept
            if kept.is_file()
            else Path(step_context.pins.get("file", _directory(step_context, run_context) / action.file))
        )
        result, document = run_context.drtool(_words(path, action, run_context), work)
        return _outcome(action, result, document, run_context)


def _words(path: Path, action: NestedPlan, run_context: RunContext, *more: str) -> list[str]:
    variables = [word for name, value in action.vars.items() for word in ("--var", f"{name}={value}")]
    incident = ["--incident-at", str(run_context.incident)] if run_context.incident is not None else []
    live = ["--live"] if run_context.live else []
    return ["plan", "run", *variables, *incident, *live, *more, "--", str(path)]


def _directory(step_context: StepContext, run_context: RunContext) -> Path:
    """Return the directory of the plan's main file. The step may be in an included file."""
    place = Path(step_context.step.place.file)
    for row in run_context.plan.files:
        parts = Path(row.file).parts
        if place.parts[-len(parts) :] == parts:
            return Path(*place.parts[: -len(parts)]) if len(place.parts) > len(parts) else Path()
    return place.parent


def _watching(step_context: StepContext) -> Work:
    """Return a `Work` for a dry run: only a deadline, without scratch."""

    def none(*_: object) -> Any:  # noqa: ANN401 - never called when starting a program
        raise AssertionError("not available in a dry run")

    return Work(
        attempt=1,
        ends_at=time.monotonic() + min(step_context.step.timeout_s, PREVIEW_S),
        cancelled=threading.Event(),
        released=threading.Event(),
        injected=none,
        scratch=none,
        at_end=none,
        progress=none,
    )


def _outcome(action: NestedPlan, result: ChildResult, document: dict[str, Any], run_context: RunContext) -> Outcome:
    verdict, run = document.get("verdict"), document.get("run_id")
    left = tuple(str(each) for each in document.get("leftovers", ()))
    evidence = {
        "verdict": verdict,
        "run_id": run,
        "exit_code": result.exit_code,
        "steps": [f"{row['id']}: {row['status']}" for row in document.get("steps", ())][:200],
    }
    told = document.get("reason") or ("" if verdict == "passed" else _last(result))
    detail = run_context.redact(f"{action.file}: {verdict or 'no verdict'}" + (f", {told}" if told else ""))
    outputs = {"run_id": run, "verdict": verdict} if document else {}
    if result.ended_by != "itself":
        cause: Any = result.ended_by
        word = "the time ran out" if cause == "timeout" else "the run was cancelled"
        status: Result = "failed" if cause == "timeout" else "aborted"
        detail = f"{action.file} was ended: {word}; see its own run in drtool plan history"
        return Outcome(status=status, cause=cause, detail=detail, outputs=outputs, evidence=evidence, leftovers=left)
    if result.exit_code == 0 and verdict == "passed":
        return Outcome(status="passed", detail=detail, outputs=outputs, evidence=evidence)
    status = "failed"
    if result.exit_code == _UNPROVEN_EXIT or not result.exit_code:
        status = "unproven"
    elif result.exit_code in _INTERRUPTED:
        status = "aborted"
    cause = "error" if result.exit_code == _BUSY_EXIT else ""
    return Outcome(status=status, cause=cause, detail=detail, outputs=outputs, evidence=evidence, leftovers=left)


def _last(result: ChildResult) -> str:
    return (result.stderr.strip().splitlines()[-1:] or [f"it ended with {result.exit_code}"])[0]
