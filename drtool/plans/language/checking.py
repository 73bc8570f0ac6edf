"""Checks that every expression of a plan can be evaluated. Each is evaluated over values of known kind only.

Invariants
    Every wrong name or kind in an expression is found before a run. Only values can still be wrong.
    Secrets may appear only where they are passed on unseen: `env`, `headers`, `dsn`, `stdin`.
"""

from collections.abc import Iterator, Sequence
from typing import Any

from drtool.config import nearest
from drtool.config.yaml import Parsed, Path
from drtool.plans.language.actions import RESULTS
from drtool.plans.language.context import context_of, undo_context_of
from drtool.plans.language.evaluating import Context, evaluate, truth
from drtool.plans.language.filling import BARE, Filled, fill, fill_text
from drtool.plans.language.model import Plan
from drtool.plans.language.parsing import ExpressionError
from drtool.plans.language.reading import NOT_FILLED
from drtool.plans.language.syntax import Expression, Name, walk
from drtool.plans.language.templates import bare, has_holes, parse_template
from drtool.plans.language.validation import Complaints, Placed
from drtool.plans.language.values import KIND_NAMES, kind_of

SECRET_PLACES = frozenset({"env", "headers", "dsn", "stdin"})
_WHERE = "secrets may be used only in env, headers, dsn and stdin, which are never shown"


def static_context(plan: Plan, placed: Placed) -> Context:
    if placed.role == "compensate" and placed.owner is not None:
        return undo_context_of(plan, placed.owner)
    return context_of(plan, placed.graph_step)


def static_fill(plan: Plan, placed: Placed) -> Filled:
    """Return the action as far as it is known without a run."""
    return fill(placed.step.uses, placed.step.inputs, static_context(plan, placed))


def check_names(plan: Plan, own: Parsed, placed: Sequence[Placed]) -> Complaints:
    """Yield problems of the expressions outside actions, and of names that refer to others."""
    yield from _plan_wide(plan, own)
    for each in placed:
        context = static_context(plan, each)
        yield from _condition(each, context)
        for key, text in (("name", each.step.name), ("reason", each.step.reason)):
            if text and has_holes(text):
                yield each.wrong(NOT_FILLED, key)
        yield from _foreach(each, context)
        yield from _bare_inputs(each, context)
        yield from _outputs(each)
        yield from _secrets(each)
        yield from _shown(each, context)


def _plan_wide(plan: Plan, own: Parsed) -> Complaints:
    context = context_of(plan, None)
    yield from _plain_texts(plan, own)
    for number, expression in enumerate(plan.guards.abort_if):
        for message in _problems(expression, context, flag=True):
            yield own, ("guards", "abort_if", number), message
    texts: list[tuple[Path, str]] = [(("guards", "never_sites", i), t) for i, t in enumerate(plan.guards.never_sites)]
    texts += [(("guards", "only_sites", i), t) for i, t in enumerate(plan.guards.only_sites or ())]
    texts += [(("concurrency", "group"), plan.concurrency.group)] if plan.concurrency.group else []
    for path, text in texts:
        try:
            fill_text(text, context)
        except ExpressionError as error:
            yield own, path, f"{error.message} (in {text!r})"
            continue
        if _names_secret(text):
            yield own, path, _WHERE


def _plain_texts(plan: Plan, own: Parsed) -> Complaints:
    texts: list[tuple[Path, str | None]] = [
        (("title",), plan.title),
        (("guards", "kill_switch"), plan.guards.kill_switch),
    ]
    texts += [(("notify", number, "channel"), each.channel) for number, each in enumerate(plan.notify)]
    return ((own, path, NOT_FILLED) for path, text in texts if text and has_holes(text))


def _condition(each: Placed, context: Context) -> Complaints:
    if each.step.condition is None:
        return
    if each.role != "step":
        yield each.wrong(f"{each.role_name} cannot have `if`, because it always runs", "if")
        return
    for message in _problems(each.step.condition, context, flag=True):
        yield each.wrong(message, "if")


def _foreach(each: Placed, context: Context) -> Complaints:
    items = each.step.foreach
    if items is not None and each.role != "step":
        yield each.wrong(f"{each.role_name} runs once; foreach is for the plan's `steps`", "foreach")
    elif isinstance(items, Expression):
        try:
            value = evaluate(items, context)
        except ExpressionError as error:
            yield each.wrong(error.message, "foreach")
            return
        if kind_of(value) not in {"any", "list"}:
            yield each.wrong(f"expected a list, but this is {KIND_NAMES[kind_of(value)]}", "foreach")


def _bare_inputs(each: Placed, context: Context) -> Complaints:
    for uses, key in BARE:
        if each.step.uses != uses or key not in each.step.inputs:
            continue
        value = each.step.inputs[key]
        for number, text in enumerate(value if isinstance(value, list) else [value]):
            below = (number,) if isinstance(value, list) else ()
            for message in _problems(bare(text), context, flag=True):
                yield each.wrong(f"{message} (in {text!r})", "with", key, *below)


def _problems(expression: Expression, context: Context, *, flag: bool) -> Iterator[str]:
    try:
        _ = truth(expression, context) if flag else evaluate(expression, context)
    except ExpressionError as error:
        yield error.message
    if _uses_secrets(expression):
        yield _WHERE


def _outputs(each: Placed) -> Complaints:
    known = RESULTS[each.step.uses]
    for name, result in each.step.outputs.items():
        if result not in known:
            yield each.wrong(
                f"a {each.step.uses} step has no result {result!r}{nearest(result, known)}", "outputs", name
            )


def _shown(each: Placed, context: Context) -> Complaints:
    if each.step.uses != "approve":
        return
    shown = each.step.inputs.get("show", ())
    for number, name in enumerate(shown if isinstance(shown, list) else ()):
        if isinstance(name, str) and not has_holes(name) and name not in context.statuses:
            yield each.wrong(context.roots["steps"].missing(name), "with", "show", number)


def _secrets(each: Placed) -> Complaints:
    for path, text in _texts(each.step.inputs, ()):
        if path[0] not in SECRET_PLACES and path != ("to", "dsn") and _names_secret(text):
            yield each.wrong(_WHERE, "with", *path)


def _texts(value: Any, path: Path) -> Iterator[tuple[Path, str]]:  # noqa: ANN401 - any value of a document
    if isinstance(value, str):
        yield path, value
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from _texts(item, (*path, key))
    elif isinstance(value, list):
        for number, item in enumerate(value):
            yield from _texts(item, (*path, number))


def _names_secret(text: str) -> bool:
    return has_holes(text) and any(_uses_secrets(hole.expression) for hole in parse_template(text).holes)


def _uses_secrets(expression: Expression) -> bool:
    return any(isinstance(node, Name) and node.name == "secrets" for node in walk(expression.root))
