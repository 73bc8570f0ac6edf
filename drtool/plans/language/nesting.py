"""Plans within plans. The plan that a step names is loaded too, so that its errors are found before a run.

Invariants
    A plan is never among those that it runs. Its files lie below the outer plan's directory and are part of its digest.
    A nested plan changes no more than its outer plan may.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path as FilePath

from drtool.config import nearest
from drtool.errors import ConfigError
from drtool.plans.language.actions import NestedPlan
from drtool.plans.language.approval import is_behind_approval
from drtool.plans.language.model import Digest, Plan
from drtool.plans.language.placed import Complaints, Placed
from drtool.plans.language.reading import leaves_directory
from drtool.plans.language.templates import has_holes

MAX_DEPTH = 4
Load = Callable[[FilePath], Plan]


def nested_plans(
    placed: Sequence[Placed], directory: FilePath, above: Sequence[str], load: Load
) -> Mapping[str, Plan | str]:
    """Return, by the file that steps name, each plan, or the reason why it cannot be nested."""
    files = {each.step.action.file for each in placed if isinstance(each.step.action, NestedPlan)}
    return {file: _loaded(file, directory, above, load) for file in sorted(files)}


def _loaded(file: str, directory: FilePath, above: Sequence[str], load: Load) -> Plan | str:
    path = directory / file
    if has_holes(file):
        return "the file of a nested plan must be written out; expressions are not allowed here"
    if leaves_directory(file):
        return f"{file!r} must be in the plan's directory or below it"
    if os.path.realpath(path) in above:
        return f"{file!r} runs itself, directly or through other plans"
    if len(above) >= MAX_DEPTH:
        return f"plans are nested deeper than {MAX_DEPTH} levels"
    try:
        return load(path)
    except ConfigError as error:
        return f"the plan is invalid: {error.message.splitlines()[0]}"


def nesting_problems(plan: Plan, placed: Sequence[Placed], nested: Mapping[str, Plan | str]) -> Complaints:
    for each in placed:
        action = each.step.action
        if not isinstance(action, NestedPlan):
            continue
        inner = nested[action.file]
        if isinstance(inner, str):
            yield each.wrong(inner, "with", "file")
            continue
        for name in action.vars:
            if name not in inner.vars:
                message = f"the plan {inner.id!r} has no variable {name!r}{nearest(name, inner.vars)}"
                yield each.wrong(message, "with", "vars", name)
        for name, var in inner.vars.items():
            if var.required and name not in action.vars:
                yield each.wrong(f"the plan {inner.id!r} requires the variable {name!r}", "with", "vars")
        if plan.scope == "scratch" and inner.scope == "live" and not is_behind_approval(plan, each.graph_step):
            message = f"this plan has scope: scratch, but the plan {inner.id!r} is live; put an approve step before it"
            yield each.wrong(message)


def nested_digests(nested: Mapping[str, Plan | str], own: Sequence[Digest]) -> tuple[Digest, ...]:
    """Return the files of nested plans, each once, with paths relative to the outer plan's directory."""
    found = {each.file: each for each in own}
    for file, inner in nested.items():
        for each in inner.files if isinstance(inner, Plan) else ():
            name = os.path.normpath(os.path.join(os.path.dirname(file), each.file))
            found.setdefault(name, Digest(file=name, sha256=each.sha256))
    return tuple(found.values())
