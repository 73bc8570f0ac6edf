"""Evaluation of an expression in a context. The result is a value, `Unknown`, or an ExpressionError.

Invariants
    Pure, and bounded by the length of the expression and the size of the values it names: there are no loops and no
    user-defined functions.
    Comparing different kinds is an error. Any value may be compared with null by == and !=.
    A value that depends on an unknown value is unknown, unless the result is already decided (`false and …`).
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

from msgspec import Struct

from drtool.config import nearest
from drtool.plans.language.operators import check_kinds, computed, result_kind
from drtool.plans.language.parsing import ExpressionError
from drtool.plans.language.quantities import moment_ns
from drtool.plans.language.syntax import (
    Attribute,
    Binary,
    Call,
    Expression,
    Index,
    ListOf,
    Literal,
    Name,
    Node,
    Unary,
)
from drtool.plans.language.values import (
    KIND_NAMES,
    Maybe,
    Moment,
    Seconds,
    Unknown,
    Value,
    ValueKind,
    kind_of,
    text_of,
)

FAILED = frozenset({"failed", "aborted"})
RAN = frozenset({"passed", "failed", "unproven", "tolerated", "aborted"})
GOOD = frozenset({"passed", "tolerated", "skipped", "simulated"})


class Names(dict[str, Any]):
    """A mapping of names that a plan may use. Looking up any other name is an error that suggests the nearest name."""

    def __init__(self, what: str, known: Mapping[str, Any], absent: Mapping[str, str] | None = None) -> None:
        super().__init__(known)
        self.what = what
        self.absent = absent or {}
        """Names that exist but cannot be used here, each with the reason."""

    def missing(self, name: str) -> str:
        return self.absent.get(name) or f"there is no {self.what} {name!r}{nearest(name, self)}"


class Context(Struct, frozen=True, kw_only=True):
    """Everything that an expression may refer to."""

    roots: Mapping[str, Any]
    """`vars`, `steps`, `run`, …"""
    now: Moment | Unknown
    statuses: Mapping[str, tuple[str, ...] | Unknown]
    """By step: its final status, once per item of its `foreach`. Unknown until the step ends."""
    needs: tuple[str, ...] = ()
    """The steps that this one needs. `success()` refers to them."""


def evaluate(expression: Expression, context: Context) -> Maybe:
    """Evaluate an expression. Raises ExpressionError, whose `at` is an offset in the expression's own text."""
    return _Evaluation(context).value(expression.root)


def truth(expression: Expression, context: Context) -> bool | Unknown:
    """Evaluate an expression that must be true or false. Raises ExpressionError."""
    value = evaluate(expression, context)
    if isinstance(value, bool):
        return value
    if isinstance(value, Unknown) and value.kind in {"any", "bool"}:
        return value
    raise ExpressionError(f"expected true or false, but this is {KIND_NAMES[kind_of(value)]}", 0)


class _Evaluation:
    """One walk over one tree."""

    def __init__(self, context: Context) -> None:
        self._context = context

    def value(self, node: Node) -> Maybe:
        match node:
            case Literal():
                return node.value
            case ListOf():
                return self._list(node)
            case Name():
                return self._root(node)
            case Attribute():
                return self._attribute(node)
            case Index():
                return self._index(node)
            case Call():
                return self._call(node)
            case Unary():
                return self._unary(node)
            case Binary():
                return self._binary(node)

    def _list(self, node: ListOf) -> Maybe:
        items = [self.value(item) for item in node.items]
        unknown = _unknown(items, "list")
        return unknown or tuple(item for item in items if not isinstance(item, Unknown))

    def _root(self, node: Name) -> Maybe:
        roots = self._context.roots
        if node.name not in roots:
            message = roots.missing(node.name) if isinstance(roots, Names) else f"unknown name {node.name!r}"
            raise ExpressionError(message, node.at)
        value: Maybe = roots[node.name]
        return value

    def _attribute(self, node: Attribute) -> Maybe:
        of = self.value(node.of)
        if isinstance(of, Unknown):
            return Unknown(of.needs)
        if not isinstance(of, Mapping):
            raise ExpressionError(f".{node.name}: {KIND_NAMES[kind_of(of)]} has no named parts", node.at)
        return _member(of, node.name, node.at)

    def _index(self, node: Index) -> Maybe:
        of, index = self.value(node.of), self.value(node.index)
        unknown = _unknown((of, index), "any")
        if unknown is not None:
            return unknown
        if isinstance(of, Mapping) and isinstance(index, str):
            return _member(of, index, node.at)
        if not isinstance(of, tuple) or not isinstance(index, int) or isinstance(index, bool):
            raise ExpressionError(
                f"{KIND_NAMES[kind_of(of)]} has no item {text_of(_known(index))!r}; a list is indexed by a whole number",
                node.at,
            )
        if not 0 <= index < len(of):
            raise ExpressionError(f"the list has {len(of)} items, counted from 0; there is no item {index}", node.at)
        return of[index]

    def _unary(self, node: Unary) -> Maybe:
        value = self.value(node.of)
        if node.operator == "not":
            known = _flag(value, "not", node.at)
            return known if isinstance(known, Unknown) else not known
        if isinstance(value, Unknown):
            return Unknown(value.needs, value.kind)
        if isinstance(value, Seconds):
            return Seconds(-value.value_s)
        if isinstance(value, int | float) and not isinstance(value, bool):
            return -value
        raise ExpressionError(f"{KIND_NAMES[kind_of(value)]} cannot be made negative", node.at)

    def _binary(self, node: Binary) -> Maybe:
        if node.operator in {"and", "or"}:
            return self._joined(node)
        left, right = self.value(node.left), self.value(node.right)
        check_kinds(node.operator, kind_of(left), kind_of(right), node.at)
        unknown = _unknown((left, right), result_kind(node.operator, kind_of(left), kind_of(right)))
        if unknown is not None:
            return unknown
        return computed(node.operator, _known(left), _known(right), node.at)

    def _joined(self, node: Binary) -> Maybe:
        """Evaluate `and` or `or`. The right side is not evaluated if the left side decides."""
        decides = node.operator == "or"
        left = _flag(self.value(node.left), node.operator, node.at)
        if left is decides:
            return left
        right = _flag(self.value(node.right), node.operator, node.at)
        if right is decides or not isinstance(left, Unknown):
            return right
        return _unknown((left, right), "bool")

    def _call(self, node: Call) -> Maybe:
        found = _FUNCTIONS.get(node.name)
        if found is None:
            raise ExpressionError(f"unknown function {node.name!r}{nearest(node.name, _FUNCTIONS)}", node.at)
        function, parameters = found
        if len(node.arguments) != len(parameters):
            wanted = ", ".join(parameters)
            raise ExpressionError(f"write {node.name}({wanted}); arguments given: {len(node.arguments)}", node.at)
        return function(self._context, [self.value(argument) for argument in node.arguments], node.at)


def _known(value: Maybe) -> Value:
    assert not isinstance(value, Unknown)
    return value


def _unknown(values: Sequence[Maybe], kind: ValueKind) -> Unknown | None:
    """Return the union of the unknown values, or None if all are known."""
    unknown = [value for value in values if isinstance(value, Unknown)]
    return Unknown(frozenset().union(*(value.needs for value in unknown)), kind) if unknown else None


def _member(of: Mapping[str, Maybe], name: str, at: int) -> Maybe:
    if name in of:
        return of[name]
    raise ExpressionError(of.missing(name) if isinstance(of, Names) else f"there is no {name!r}{nearest(name, of)}", at)


def _flag(value: Maybe, operator: str, at: int) -> bool | Unknown:
    if isinstance(value, bool) or (isinstance(value, Unknown) and value.kind in {"any", "bool"}):
        return value
    raise ExpressionError(f"`{operator}` needs true or false, but this is {KIND_NAMES[kind_of(value)]}", at)


Function: TypeAlias = Callable[[Context, list[Maybe], int], Maybe]


def _always(_context: Context, _values: list[Maybe], _at: int) -> Maybe:
    return True


def _now(context: Context, _values: list[Maybe], _at: int) -> Maybe:
    return context.now


def _success(context: Context, _values: list[Maybe], _at: int) -> Maybe:
    ended = [context.statuses.get(step, ()) for step in context.needs]
    if any(isinstance(each, tuple) and not GOOD.issuperset(each) for each in ended):
        return False
    return _all_needs(ended) or True


def _all_needs(ended: Sequence[tuple[str, ...] | Unknown]) -> Unknown | None:
    unknown = [each for each in ended if isinstance(each, Unknown)]
    return _unknown(unknown, "bool")


def _failed(context: Context, values: list[Maybe], at: int) -> Maybe:
    return _has_status(context, "failed", values[0], FAILED, at)


def _ran(context: Context, values: list[Maybe], at: int) -> Maybe:
    return _has_status(context, "ran", values[0], RAN, at)


def _has_status(context: Context, name: str, step: Maybe, wanted: frozenset[str], at: int) -> Maybe:
    if not isinstance(step, str):
        raise ExpressionError(f"{name}('ID') needs the id of a step in quotes", at)
    if step not in context.statuses:
        steps = context.roots.get("steps")
        missing = steps.missing(step) if isinstance(steps, Names) else f"there is no step {step!r}"
        raise ExpressionError(missing, at)
    ended = context.statuses[step]
    return ended if isinstance(ended, Unknown) else any(status in wanted for status in ended)


def _len(_context: Context, values: list[Maybe], at: int) -> Maybe:
    value = values[0]
    if isinstance(value, Unknown) and value.kind in {"any", "list", "mapping", "text"}:
        return Unknown(value.needs, "number")
    if not isinstance(value, tuple | str | Mapping):
        raise ExpressionError(f"len() needs a list or a text, but this is {KIND_NAMES[kind_of(value)]}", at)
    return len(value)


def _age(_context: Context, values: list[Maybe], at: int) -> Maybe:
    moments = [_moment(value, at) for value in values]
    unknown = _unknown(moments, "duration")
    if unknown is not None:
        return unknown
    begins, ends = moments
    assert isinstance(begins, Moment)
    assert isinstance(ends, Moment)
    return Seconds((ends.value_ns - begins.value_ns) / 1e9)


def _moment(value: Maybe, at: int) -> Moment | Unknown:
    if isinstance(value, Moment) or (isinstance(value, Unknown) and value.kind in {"any", "timestamp", "text"}):
        return value
    if isinstance(value, str):
        try:
            return Moment(moment_ns(value))
        except ValueError as error:
            raise ExpressionError(f"age(): {error}", at) from None
    raise ExpressionError(f"age(EARLIER, LATER) needs timestamps, but this is {KIND_NAMES[kind_of(value)]}", at)


def _same_set(_context: Context, values: list[Maybe], at: int) -> Maybe:
    wrong = next((value for value in values if kind_of(value) not in {"any", "list"}), ())
    if wrong != ():
        raise ExpressionError(f"same_set(a, b) needs lists, but this is {KIND_NAMES[kind_of(wrong)]}", at)
    unknown = _unknown(values, "bool")
    if unknown is not None:
        return unknown
    first, second = (sorted(repr(item) for item in _items(value)) for value in values)
    return set(first) == set(second)


def _items(value: Maybe) -> tuple[Value, ...]:
    assert isinstance(value, tuple)
    return value


def _default(_context: Context, values: list[Maybe], _at: int) -> Maybe:
    value, otherwise = values
    return otherwise if value is None else value


_FUNCTIONS: dict[str, tuple[Function, tuple[str, ...]]] = {
    "success": (_success, ()),
    "always": (_always, ()),
    "now": (_now, ()),
    "failed": (_failed, ("'ID'",)),
    "ran": (_ran, ("'ID'",)),
    "len": (_len, ("x",)),
    "age": (_age, ("earlier", "later")),
    "same_set": (_same_set, ("a", "b")),
    "default": (_default, ("x", "y")),
}
LOOKS_AT_OUTCOMES = frozenset({"success", "failed", "ran", "always"})
"""A step whose `if` calls one of these runs even if a step that it needs has failed."""
