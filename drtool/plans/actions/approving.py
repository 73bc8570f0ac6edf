"""`approve`: approval by a person.

Invariants
    Silence is never a yes: when the time is up, the step fails. A no ends it, and is recorded with its author.
    The dry run checks whether a person can be asked at all. If not, the plan does not begin.
"""

import json
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

from drtool.plans.actions.port import Answer, Outcome, Preview, RunContext, StepContext, Work
from drtool.plans.language.actions import RESULTS, Approve
from drtool.plans.language.values import duration_text

OUTPUTS = RESULTS["approve"]
_LINES, _CHARACTERS = 20, 300


class ApproveAction:
    """An implementation of `port.Action`."""

    def preview(self, step_context: StepContext, run_context: RunContext) -> Preview:
        action: Approve = step_context.action
        if step_context.missing and "‹" in (action.channel or ""):
            return Preview(verdict="deferred", detail=f"needs {', '.join(sorted(step_context.missing))}")
        problem = _nobody(action, run_context)
        if problem:
            return Preview(verdict="cannot run", detail=run_context.redact(problem))
        limit = duration_text(step_context.step.timeout_s)
        detail = f"asks {_where(action, run_context)}, for at most {limit}: {action.prompt}"
        return Preview(verdict="ok", detail=run_context.redact(detail), estimate_s=action.expected_s)

    def act(self, step_context: StepContext, run_context: RunContext, work: Work) -> Outcome:
        action: Approve = step_context.action
        prompt = run_context.redact(action.prompt)
        shown = [run_context.redact(line) for line in _shown(action, run_context)]
        work.progress(f"waits for an answer: drtool plan approve {run_context.run} {step_context.key}")
        answer = run_context.ask(step_context.key, prompt, shown, action.channel, work)
        return _outcome(answer, prompt, shown, step_context, work)


def _nobody(action: Approve, run_context: RunContext) -> str:
    """Return why no person can answer, or an empty string. Any receiver of `approval` can answer from a terminal."""
    problem = run_context.can_ask(action.channel)
    if not problem or action.channel is not None:
        return problem
    told = [run_context.can_ask(channel) for channel in _listeners(run_context)]
    return "" if "" in told else "; ".join([problem, *told])


def _listeners(run_context: RunContext) -> list[str]:
    return [wish.channel for wish in run_context.plan.notify if "approval" in wish.events]


def _where(action: Approve, run_context: RunContext) -> str:
    if action.channel is not None:
        return f"through channel {action.channel}"
    return "at the terminal" if not run_context.can_ask(None) else f"through channel {_listeners(run_context)[0]}"


def _outcome(answer: Answer | None, prompt: str, shown: list[str], step_context: StepContext, work: Work) -> Outcome:
    evidence: dict[str, Any] = {"prompt": prompt, "shown": shown}
    if answer is None and work.cancelled.is_set():
        return Outcome(status="aborted", cause="cancelled", detail="the run was cancelled", evidence=evidence)
    if answer is None:
        detail = f"there was no answer within {duration_text(step_context.step.timeout_s)}"
        return Outcome(
            status="failed", cause="timeout", detail=detail, evidence=evidence, human_s=step_context.step.timeout_s
        )
    at = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    evidence |= {"yes": answer.yes, "by": answer.by, "channel": answer.channel, "at": at}
    outputs = {"by": answer.by, "at": at}
    word = "yes" if answer.yes else "no"
    return Outcome(
        status="passed" if answer.yes else "aborted",
        cause="" if answer.yes else "refused",
        detail=f"{answer.by} said {word} ({answer.channel})",
        outputs=outputs,
        evidence=evidence,
        human_s=answer.waited_s,
    )


def _shown(action: Approve, run_context: RunContext) -> Iterator[str]:
    """Yield what a person should see before answering: some lines of each named step."""
    for step in action.show:
        facts = {**run_context.evidence(step), **run_context.outputs(step)}
        lines = list(_lines(facts)) or ["no results"]
        yield f"{step}:"
        yield from (f"  {line}" for line in lines[:_LINES])
        if len(lines) > _LINES:
            yield f"  … and {len(lines) - _LINES} more"


def _lines(facts: Mapping[str, Any]) -> Iterator[str]:
    for name, value in facts.items():
        if isinstance(value, list) and value:
            yield f"{name}:"
            yield from (f"- {_short(item)}" for item in value)
        elif isinstance(value, str) and "\n" in value.strip():
            yield f"{name}:"
            yield from (f"| {_short(line)}" for line in value.strip().splitlines())
        else:
            yield f"{name}: {_short(value)}"


def _short(value: object) -> str:
    text = value.strip() if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= _CHARACTERS else text[:_CHARACTERS] + "…"
