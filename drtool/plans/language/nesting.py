"""Plans in plans: the one that a step names is loaded too, so that nothing of it is a surprise at run time.

Invariants
    A plan is never among those that it runs. Its files lie below the first plan's directory, and count for its digest.
    What is nested changes no more than what nests it may.
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
    """By what steps name it: each plan, or why it cannot be nested."""
    files = {each.step.action.file for each in placed if isinstance(each.step.action, NestedPlan)}
    return {file: _loaded(file, directory, above, load) for file in sorted(files)}


def _loaded(file: str, directory: FilePath, above: Sequence[str], load: Load) -> Plan | str:
    path = directory / file
    if has_holes(file):
        return "which plan is nested must be written out; no expression may stand here"
    if leaves_directory(file):
        return f"{file!r} must lie in the plan's own directory, or below it"
    if os.path.realpath(path) in above:
        return f"{file!r} runs itself, in a circle"
    if len(above) >= MAX_DEPTH:
        return f"plans are nested deeper than {MAX_DEPTH} levels"
    try:
        return load(path)
    except ConfigError as error:
        return f"it cannot be run: {error.message.splitlines()[0]}"


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
                yield each.wrong(f"the plan {inner.id!r} wants the variable {name!r}", "with", "vars")
        if plan.scope == "scratch" and inner.scope == "live" and not is_behind_approval(plan, each.graph_step):
            yield each.wrong(f"scope: scratch, and the plan {inner.id!r} is live; put an approve step before it")


def nested_digests(nested: Mapping[str, Plan | str], own: Sequence[Digest]) -> tuple[Digest, ...]:
    """The files of nested plans, as seen from the outer plan's directory; none twice."""
    found = {each.file: each for each in own}
    for file, inner in nested.items():
        for each in inner.files if isinstance(inner, Plan) else ():
            name = os.path.normpath(os.path.join(os.path.dirname(file), each.file))
            found.setdefault(name, Digest(file=name, sha256=each.sha256))
    return tuple(found.values())
