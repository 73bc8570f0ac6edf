"""`run`: a program of the plan's own, in a process group that ends with its step.

Invariants
    The dry run starts only `check`. Without one, the effect of the program cannot be known, and the report shows that.
    A plan with scope scratch does not run a program that changes production, unless a person approves it first.
    Secrets reach it through `env` and `stdin`, never in arguments.
"""

import os
import pwd
import re
import shutil
import time
from collections.abc import Sequence
from pathlib import Path

from drtool.errors import DrtoolError
from drtool.plans.actions.port import ChildResult, Outcome, Preview, RunContext, StepContext, Work
from drtool.plans.language.actions import RESULTS, Run, RunExpect

OUTPUTS = RESULTS["run"]
STDOUT_CHARACTERS = 64 << 10
_EXCERPT = 4000
_CHECK_S = 60.0
_SHELL = "/bin/sh"


class RunAction:
    """An implementation of `port.Action`."""

    def preview(self, step_context: StepContext, run_context: RunContext) -> Preview:
        action: Run = step_context.action
        if step_context.missing:
            return Preview(
                verdict="deferred", detail=f"needs {', '.join(sorted(step_context.missing))}", provable=False
            )
        problem = _problem(action, run_context)
        if problem:
            return Preview(verdict="cannot run", detail=run_context.redact(problem))
        told = run_context.redact(_told(action))
        if not action.check:
            changes = action.changes != "nothing"
            return Preview(
                verdict="would change" if changes else "ok",
                detail=f"{action.changes} by {told}; it has no `check`, so its effect cannot be known"
                if changes
                else f"{told}; it has no `check`, so whether it would work cannot be known",
                provable=False,
            )
        checked = _start(
            action, action.check, run_context, time.monotonic() + min(_CHECK_S, step_context.step.timeout_s)
        )
        if checked.ended_by != "itself" or checked.exit_code:
            detail = f"its check {action.check[0]} {_end(checked)}{_last(checked)}"
            return Preview(verdict="cannot run", detail=run_context.redact(detail))
        return Preview(verdict="ok" if action.changes == "nothing" else "would change", detail=told)

    def act(self, step_context: StepContext, run_context: RunContext, work: Work) -> Outcome:
        action: Run = step_context.action
        argv = [_SHELL, "-c", action.argv[0]] if action.shell else action.argv
        result = _start(action, argv, run_context, work.ends_at, work)
        return _outcome(action, result, run_context)


def _problem(action: Run, run_context: RunContext) -> str:
    """Return why it could not even be started, or an empty string."""
    for program in [_SHELL if action.shell else action.argv[0], *action.check[:1]]:
        if missing := cannot_start(program, run_context, action):
            return missing
    if action.user is not None and (problem := _user_problem(action.user)):
        return problem
    if action.cwd is not None and not Path(action.cwd).is_dir():
        return f"there is no directory {action.cwd}"
    return ""


def cannot_start(program: str, run_context: RunContext, action: Run | None = None) -> str:
    """Return why a program could not be started, or an empty string. The PATH is the program's own."""
    env = {**run_context.environ, **(action.env if action else {})}
    name = program
    if "/" in program and action is not None and action.cwd is not None:
        name = os.path.join(action.cwd, program)
    if shutil.which(name, path=env.get("PATH", os.defpath)):
        return ""
    return f"there is no program {program}: install it, or give its full path"


def _user_problem(user: str) -> str:
    try:
        entry = pwd.getpwnam(user)
    except KeyError:
        return f"there is no user {user} on this host"
    if os.geteuid() not in (0, entry.pw_uid):
        return f"only root can run programs as {user}"
    return ""


def _start(
    action: Run, argv: Sequence[str], run_context: RunContext, ends_at: float, work: Work | None = None
) -> ChildResult:
    return run_context.program(
        argv,
        ends_at=ends_at,
        cancelled=work.cancelled if work else None,
        env={**run_context.environ, **action.env},
        cwd=Path(action.cwd) if action.cwd is not None else None,
        stdin=action.stdin.encode() if action.stdin is not None else None,
        user=action.user,
    )


def _outcome(action: Run, result: ChildResult, run_context: RunContext) -> Outcome:
    stdout = run_context.redact(result.stdout.decode("utf-8", "backslashreplace"))
    evidence = {
        "argv": [run_context.redact(word) for word in action.argv],
        "exit_code": result.exit_code,
        "seconds": result.seconds,
        "stdout": stdout[-_EXCERPT:],
        "stderr": run_context.redact(result.stderr)[-_EXCERPT:],
        "truncated": result.truncated,
    }
    outputs = {"exit_code": result.exit_code, "stdout": stdout[:STDOUT_CHARACTERS].rstrip("\n")}
    if result.ended_by == "cancelled":
        detail = f"{_told(action)} was ended with all its children: the run was cancelled"
        return Outcome(status="aborted", cause="cancelled", detail=run_context.redact(detail), evidence=evidence)
    if result.ended_by == "timeout":
        detail = f"{_told(action)} did not end in time and was killed with all its children"
        return Outcome(status="failed", cause="timeout", detail=run_context.redact(detail), evidence=evidence)
    problem = unlike(action.expect, result)
    if problem:
        detail = run_context.redact(f"{_told(action)} {problem}{_last(result)}")
        return Outcome(status="failed", cause="error", detail=detail, outputs=outputs, evidence=evidence)
    return Outcome(
        status="passed",
        detail=run_context.redact(f"{_told(action)} {_end(result)}"),
        outputs=outputs,
        evidence=evidence,
    )


def unlike(expect: RunExpect, result: ChildResult) -> str:
    """Return the first unmet expectation, or an empty string. Raises DrtoolError for an invalid pattern."""
    if result.exit_code not in expect.exit_codes:
        wanted = " or ".join(map(str, expect.exit_codes))
        return f"{_end(result)} instead of {wanted}"
    text = result.stdout.decode("utf-8", "replace")
    if expect.stdout_contains is not None and expect.stdout_contains not in text:
        return f"did not print {expect.stdout_contains!r}"
    if expect.stdout_matches is not None and not found(expect.stdout_matches, text):
        return f"printed nothing that matches {expect.stdout_matches!r}"
    return ""


def found(pattern: str, text: str) -> bool:
    """Return whether a pattern is found in a text. Raises DrtoolError."""
    try:
        return re.search(pattern, text, re.MULTILINE) is not None
    except re.error as error:
        raise DrtoolError(f"{pattern!r} is not a regular expression: {error}") from None


def _end(result: ChildResult) -> str:
    if result.ended_by != "itself":
        return "did not end in time" if result.ended_by == "timeout" else "was cancelled"
    return f"was killed by signal {-result.exit_code}" if result.exit_code < 0 else f"ended with {result.exit_code}"


def _last(result: ChildResult) -> str:
    """Return the last line of stderr, with a separator."""
    lines = result.stderr.strip().splitlines()
    return f": {lines[-1][:300]}" if lines else ""


def _told(action: Run) -> str:
    return "a shell line" if action.shell else action.argv[0]
