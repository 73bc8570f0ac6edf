"""The replacement of expressions in a step's `with` by their values.

Invariants
    Filled-in values pass the same readers, limits and errors as written ones.
    A value that is not known yet becomes a `Placeholder`, and is listed in `unknown`. Such an action is never executed.
"""

from typing import Any

from msgspec import Struct

from drtool.config.document import Placeholder, Problem, examine
from drtool.config.yaml import Path
from drtool.plans.language.actions import KINDS, Action
from drtool.plans.language.evaluating import Context, evaluate
from drtool.plans.language.parsing import ExpressionError
from drtool.plans.language.quantities import written
from drtool.plans.language.templates import Hole, has_holes, parse_template
from drtool.plans.language.values import Maybe, Unknown, text_of

BARE = frozenset({("assert", "that"), ("wait", "until")})
"""Keys that hold bare expressions. The action evaluates them; they are not filled in."""


class Filled(Struct, frozen=True, kw_only=True):
    """The result of filling. `action` is None if there are problems, each with its path below `with`."""

    action: Action | None
    problems: tuple[Problem, ...] = ()
    unknown: tuple[tuple[Path, frozenset[str]], ...] = ()
    """The paths of values that are not known yet, and the ids of the steps that would supply them."""

    @property
    def needs(self) -> frozenset[str]:
        """All steps that must run before the action is fully known."""
        return frozenset().union(*(needs for _, needs in self.unknown))


def fill(uses: str, inputs: dict[str, Any], context: Context) -> Filled:
    """Return the action that a step's `with` means in a context."""
    filling = _Filling(context)
    tree = {key: value if (uses, key) in BARE else filling.visit(value, (key,)) for key, value in inputs.items()}
    if filling.problems:
        return Filled(action=None, problems=tuple(filling.problems), unknown=tuple(filling.unknown))
    examined = examine(tree, KINDS[uses])
    return Filled(action=examined.value, problems=examined.problems, unknown=tuple(filling.unknown))


def fill_text(text: str, context: Context) -> Maybe:
    """Return the value of a text with expressions. A single expression keeps its type. Raises ExpressionError."""
    template = parse_template(text)
    if template.whole is not None:
        return _value(template.whole, context)
    values = [part if isinstance(part, str) else _value(part, context) for part in template.parts]
    unknown = [value for value in values if isinstance(value, Unknown)]
    if unknown:
        return Unknown(frozenset().union(*(value.needs for value in unknown)), "text")
    return "".join(text_of(value) for value in values if not isinstance(value, Unknown))


def _value(hole: Hole, context: Context) -> Maybe:
    try:
        return evaluate(hole.expression, context)
    except ExpressionError as error:
        raise ExpressionError(error.message, hole.at + error.at) from None


class _Filling:
    """One walk over one tree of a document."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self.problems: list[Problem] = []
        self.unknown: list[tuple[Path, frozenset[str]]] = []

    def visit(self, value: Any, path: Path) -> Any:  # noqa: ANN401 - any value of a document
        if isinstance(value, dict):
            return {key: self.visit(item, (*path, key)) for key, item in value.items()}
        if isinstance(value, list):
            return [self.visit(item, (*path, index)) for index, item in enumerate(value)]
        return self._text(value, path) if isinstance(value, str) and has_holes(value) else value

    def _text(self, text: str, path: Path) -> Any:  # noqa: ANN401
        try:
            value = fill_text(text, self._context)
        except ExpressionError as error:
            self.problems.append(Problem(path, f"{error.message} (in {text!r})"))
            return text
        if isinstance(value, Unknown):
            self.unknown.append((path, value.needs))
            several = None if value.kind == "any" else value.kind == "list"
            return Placeholder(f"‹{text}›", value.needs, several=several)
        return _as_written(value)


def _as_written(value: Any) -> Any:  # noqa: ANN401
    if isinstance(value, tuple | list):
        return [_as_written(item) for item in value]
    return written(value)
