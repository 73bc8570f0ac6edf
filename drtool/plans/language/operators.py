"""Operators: the kinds they accept, and their results.

Invariants
    Kinds are checked separately from values. An operation that can never work is found before any value is known.
"""

from collections.abc import Callable, Mapping

from drtool.plans.language.parsing import ExpressionError
from drtool.plans.language.values import KIND_NAMES, Bytes, Moment, Seconds, Value, ValueKind

_FIRST_NS, _END_NS = -62_135_596_800 * 10**9, 253_402_300_800 * 10**9

_ORDERED = frozenset({"number", "text", "duration", "size", "timestamp"})
_ADDED: dict[tuple[str, ValueKind, ValueKind], ValueKind] = {
    **{(sign, kind, kind): kind for sign in "+-" for kind in ("number", "duration", "size")},
    ("+", "timestamp", "duration"): "timestamp",
    ("+", "duration", "timestamp"): "timestamp",
    ("-", "timestamp", "duration"): "timestamp",
    ("-", "timestamp", "timestamp"): "duration",
}


def check_kinds(operator: str, left: ValueKind, right: ValueKind, at: int) -> None:
    """Raise ExpressionError if the operator never accepts these kinds. A kind that is not known yet is accepted."""
    told = f"{KIND_NAMES[left]} and {KIND_NAMES[right]}"
    if operator in {"in", "not in"}:
        if right not in {"any", "list", "mapping", "text"} or (
            right in {"mapping", "text"} and left not in {"any", "text"}
        ):
            raise ExpressionError(f"`{operator}` needs a list or a text on its right; this is {told}", at)
        return
    if "any" in {left, right}:
        return
    if operator in {"+", "-"}:
        if (operator, left, right) not in _ADDED:
            raise ExpressionError(f"`{operator}` cannot be applied to {told}", at)
    elif operator in {"==", "!="}:
        if left != right and "nothing" not in {left, right}:
            raise ExpressionError(f"{told} are never equal, because their kinds differ", at)
    elif left != right or left not in _ORDERED:
        raise ExpressionError(f"`{operator}` cannot be applied to {told}", at)


def result_kind(operator: str, left: ValueKind, right: ValueKind) -> ValueKind:
    return _ADDED.get((operator, left, right), "any") if operator in {"+", "-"} else "bool"


_COMPARISONS: dict[str, Callable[[object, object], bool]] = {
    "==": lambda left, right: left == right,
    "!=": lambda left, right: left != right,
    "<": lambda left, right: left < right,  # type: ignore[operator]
    "<=": lambda left, right: left <= right,  # type: ignore[operator]
    ">": lambda left, right: left > right,  # type: ignore[operator]
    ">=": lambda left, right: left >= right,  # type: ignore[operator]
}


def computed(operator: str, left: Value, right: Value, at: int) -> Value:
    if operator in _COMPARISONS:
        return _COMPARISONS[operator](left, right)
    if operator in {"in", "not in"}:
        assert isinstance(right, tuple | str | Mapping)
        return (left in right) == (operator == "in")
    return _sum(left, right if operator == "+" else _negative(right), at)


def _negative(value: Value) -> Value:
    match value:
        case Seconds():
            return Seconds(-value.value_s)
        case Bytes():
            return Bytes(-value.value_bytes)
        case Moment():
            return Moment(-value.value_ns)
        case _:
            assert isinstance(value, int | float)
            return -value


def _sum(left: Value, right: Value, at: int) -> Value:
    match left, right:
        case (Seconds(), Seconds()):
            return Seconds(left.value_s + right.value_s)
        case (Bytes(), Bytes()):
            return Bytes(left.value_bytes + right.value_bytes)
        case (Moment(), Moment()):
            return Seconds((left.value_ns + right.value_ns) / 1e9)
        case (Moment(), Seconds()) | (Seconds(), Moment()):
            return _shifted(left, right, at)
        case _:
            assert isinstance(left, int | float)
            assert isinstance(right, int | float)
            return left + right


def _shifted(left: Value, right: Value, at: int) -> Moment:
    moment, span = (left, right) if isinstance(left, Moment) else (right, left)
    assert isinstance(moment, Moment)
    assert isinstance(span, Seconds)
    time_ns = moment.value_ns + round(span.value_s * 1e9)
    if not _FIRST_NS <= time_ns < _END_NS:
        raise ExpressionError("the resulting time is outside the calendar", at)
    return Moment(time_ns)
