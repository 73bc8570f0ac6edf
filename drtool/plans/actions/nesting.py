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

from drtool.plans.actions.port import Around, Asked, ChildResult, Foresight, Outcome, Result, Work
from drtool.plans.language.actions import NestedPlan
from drtool.plans.language.results import RESULTS
from drtool.plans.running.kept_plan import FOLDER

OUTPUTS = RESULTS["plan"]
FORESEE_S = 600.0
_UNPROVEN_EXIT, _BUSY_EXIT = 9, 75
_INTERRUPTED = (129, 130, 143)


class PlanAction:
    """An implementation of `port.Action`."""

    def foresee(self, asked: Asked, around: Around) -> Foresight:
        action: NestedPlan = asked.action
        if asked.missing:
            return Foresight(verdict="deferred", detail=f"needs {', '.join(sorted(asked.missing))}")
        path = _directory(asked, around) / action.file
        if not path.is_file():
            return Foresight(verdict="cannot run", detail=f"there is no plan {path}")
        result, document = around.drtool(_words(path, action, around, "--dry-run"), _watching(asked))
        if result.ended_by != "itself":
            return Foresight(verdict="cannot run", detail="its dry run did not end in time")
        steps = list(document.get("steps", ()))
        bad = [f"{row['id']}: {row['status']}" for row in steps if str(row["status"]).startswith("cannot run")]
        if result.exit_code or not document:
            detail = "; ".join(bad) or _last(result)
            return Foresight(verdict="cannot run", detail=around.redact(f"{action.file}: {detail}"))
        changes = any(str(row["status"]).startswith("would change") for row in steps)
        return Foresight(
            verdict="would change" if changes else "ok",
            detail=f"what its {len(steps)} steps change" if changes else f"{len(steps)} steps of {action.file}",
            provable=not document.get("unproven"),
            pins={"file": str(path)},
            evidence={"steps": [f"{row['id']}: {row['status']}" for row in steps][:200]},
        )

    def act(self, asked: Asked, around: Around, work: Work) -> Outcome:
        action: NestedPlan = asked.action
        kept = around.folder / FOLDER / os.path.normpath(action.file)
        path = kept if kept.is_file() else Path(asked.pins.get("file", _directory(asked, around) / action.file))
        result, document = around.drtool(_words(path, action, around), work)
        return _outcome(action, result, document, around)


def _words(path: Path, action: NestedPlan, around: Around, *more: str) -> list[str]:
    variables = [word for name, value in action.vars.items() for word in ("--var", f"{name}={value}")]
    incident = ["--incident-at", str(around.incident)] if around.incident is not None else []
    live = ["--live"] if around.live else []
    return ["plan", "run", *variables, *incident, *live, *more, "--", str(path)]


def _directory(asked: Asked, around: Around) -> Path:
    """Return the directory of the plan's main file. The step may be in an included file."""
    place = Path(asked.step.place.file)
    for row in around.plan.files:
        parts = Path(row.file).parts
        if place.parts[-len(parts) :] == parts:
            return Path(*place.parts[: -len(parts)]) if len(place.parts) > len(parts) else Path()
    return place.parent


def _watching(asked: Asked) -> Work:
    """Return a `Work` for a dry run: only a deadline, without scratch."""

    def none(*_: object) -> Any:  # noqa: ANN401 - never called when starting a program
        raise AssertionError("not available in a dry run")

    return Work(
        attempt=1,
        ends_at=time.monotonic() + min(asked.step.timeout_s, FORESEE_S),
        cancelled=threading.Event(),
        released=threading.Event(),
        injected=none,
        scratch=none,
        at_end=none,
        progress=none,
    )


def _outcome(action: NestedPlan, result: ChildResult, document: dict[str, Any], around: Around) -> Outcome:
    verdict, run = document.get("verdict"), document.get("run_id")
    left = tuple(str(each) for each in document.get("leftovers", ()))
    evidence = {
        "verdict": verdict,
        "run_id": run,
        "exit_code": result.exit_code,
        "steps": [f"{row['id']}: {row['status']}" for row in document.get("steps", ())][:200],
    }
    told = document.get("reason") or ("" if verdict == "passed" else _last(result))
    detail = around.redact(f"{action.file}: {verdict or 'no verdict'}" + (f", {told}" if told else ""))
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
