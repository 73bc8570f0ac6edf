"""`assert`: statements that must be true, each reported with the values that it was evaluated from.

Invariants
    An unknown statement is unproven, never passed. A false one fails the step, even if others are unknown.
    An empty list proves nothing and is refused.
"""

from typing import Literal, TypeAlias

from msgspec import Struct

from drtool.plans.actions.port import Outcome, Preview, Result, RunContext, StepContext, Work
from drtool.plans.language.actions import RESULTS, Assert
from drtool.plans.language.parsing import ExpressionError
from drtool.plans.language.syntax import Attribute, Binary, Call, Expression, Index, ListOf, Name, Node, Unary, printed
from drtool.plans.language.values import Maybe, Unknown, text_of

OUTPUTS = RESULTS["assert"]
_SHOWN = 200
Judged: TypeAlias = Literal["holds", "fails", "unknown", "senseless"]


class Statement(Struct, frozen=True):
    """One statement of `that`, evaluated."""

    text: str
    judged: Judged
    told: str
    """The values of its parts, or why it cannot be evaluated."""
    needs: frozenset[str] = frozenset()


class AssertAction:
    """An implementation of `port.Action`."""

    def preview(self, step_context: StepContext, run_context: RunContext) -> Preview:
        statements = _judged(step_context)
        if not statements:
            return Preview(verdict="cannot run", detail="`that` is empty, so it would prove nothing")
        bad = [each for each in statements if each.judged in ("fails", "senseless")]
        if bad:
            return Preview(verdict="cannot run", detail=run_context.redact(_detail(step_context, bad)))
        needs = frozenset().union(*(each.needs for each in statements if each.judged == "unknown"))
        if any(each.judged == "unknown" for each in statements):
            return Preview(verdict="deferred", detail=f"needs {', '.join(sorted(needs)) or 'the run'}")
        return Preview(verdict="ok", detail=run_context.redact("; ".join(each.told for each in statements)))

    def act(self, step_context: StepContext, run_context: RunContext, work: Work) -> Outcome:
        statements = _judged(step_context)
        if not statements:
            return Outcome(status="failed", cause="refused", detail="`that` is empty, so it proves nothing")
        evidence = {
            "that": [
                {"text": each.text, "judged": each.judged, "told": run_context.redact(each.told)} for each in statements
            ]
        }
        worst: tuple[tuple[Judged, Result], ...] = (
            ("fails", "failed"),
            ("senseless", "failed"),
            ("unknown", "unproven"),
        )
        for judged, status in worst:
            found = [each for each in statements if each.judged == judged]
            if found:
                return Outcome(
                    status=status, detail=run_context.redact(_detail(step_context, found)), evidence=evidence
                )
        told = "; ".join(each.told for each in statements)
        return Outcome(status="passed", detail=run_context.redact(told), evidence=evidence)


def _detail(step_context: StepContext, statements: list[Statement]) -> str:
    action: Assert = step_context.action
    told = "; ".join(each.told for each in statements)
    return f"{action.message}: {told}" if action.message and not step_context.missing else told


def _judged(step_context: StepContext) -> list[Statement]:
    action: Assert = step_context.action
    return [_statement(step_context, each) for each in action.that]


def _statement(step_context: StepContext, expression: Expression) -> Statement:
    text = expression.text.strip()
    try:
        value = step_context.evaluate(expression)
    except ExpressionError as error:
        return Statement(text, "senseless", f"{text}: {error.message}")
    if isinstance(value, Unknown):
        needs = ", ".join(sorted(value.needs))
        return Statement(text, "unknown", f"{text}: unknown" + (f"; it needs {needs}" if needs else ""), value.needs)
    if not isinstance(value, bool):
        return Statement(text, "senseless", f"{text}: it is {text_of(value)!r}, neither true nor false")
    sides = _sides(step_context, expression.root)
    told = f"{text} ({sides})" if sides else text
    return Statement(text, "holds" if value else "fails", told if value else f"false: {told}")


def _sides(step_context: StepContext, root: Node) -> str:
    """Return the values of the operands of a comparison or call, without those that are literals."""
    match root:
        case Binary():
            nodes: tuple[Node, ...] = (root.left, root.right)
        case Call():
            nodes = root.arguments
        case Unary():
            return _sides(step_context, root.of)
        case _:
            nodes = ()
    shown = [
        _side(step_context, node)
        for node in nodes
        if isinstance(node, Attribute | Name | Index | Call | ListOf | Binary)
    ]
    return ", ".join(each for each in shown if each)


def _side(step_context: StepContext, node: Node) -> str:
    text = printed(node)
    try:
        value: Maybe = step_context.evaluate(Expression(text, node))
    except ExpressionError:
        return ""  # the statement did not depend on it
    known = "unknown" if isinstance(value, Unknown) else "null" if value is None else text_of(value)
    return "" if known == text else f"{text} = {known if len(known) <= _SHOWN else known[:_SHOWN] + '…'}"
