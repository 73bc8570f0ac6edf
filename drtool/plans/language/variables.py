"""The values of a plan's variables for one run: given or default, each of its declared type.

Invariants
    Values from the command line and defaults from the file are read by the same readers.
    Times are resolved here, once, against the start of the run. Afterwards every `now` is the same time.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from drtool.config import nearest
from drtool.config.units import size_bytes
from drtool.config.yaml import Path
from drtool.errors import UsageError
from drtool.plans.language.model import Plan, Var, VarType
from drtool.plans.language.quantities import duration_s, when
from drtool.plans.language.values import Bytes, Moment, Seconds, Value

_TEXTS = frozenset({"string", "path", "list"})


def resolve_vars(plan: Plan, given: Sequence[str], now: Moment) -> dict[str, Value]:
    """Return the value of every variable, from `--var NAME=VALUE` words and defaults. Raises UsageError."""
    words = _pairs(plan, given)
    lacking = [name for name, var in plan.vars.items() if var.required and name not in words]
    if lacking:
        raise _lacking(plan, lacking)
    values: dict[str, Value] = {}
    for name, var in plan.vars.items():
        if name in words:
            values[name] = _given(plan, name, words[name], now)
        else:
            values[name] = None if var.default is None else _checked(var, var.default, now)
    return values


def _lacking(plan: Plan, names: Sequence[str]) -> UsageError:
    """Return the error that names every variable without a value, and the options that give them."""
    options = " ".join(f"--var {name}={_EXAMPLES[plan.vars[name].type]}" for name in names)
    if len(names) == 1:
        (name,) = names
        described = f"{_described(plan.vars[name])}: it is required, {_where(plan, name)}"
        return UsageError(f"the variable {name!r} needs a value{described}", hint=options)
    listed = "; ".join(f"{name!r}{_described(plan.vars[name])}, {_where(plan, name)}" for name in names)
    return UsageError(f"{len(names)} required variables need values: {listed}", hint=options)


def restore_vars(plan: Plan, kept: Mapping[str, Any], now: Moment) -> dict[str, Value]:
    """Return the values that a run was given, as its journal recorded them. Raises UsageError."""
    try:
        return {
            name: None if kept.get(name) is None else _checked(var, kept[name], now) for name, var in plan.vars.items()
        }
    except ValueError as error:
        raise UsageError(f"the journal records a value that the plan's variable does not accept: {error}") from None


def _pairs(plan: Plan, given: Sequence[str]) -> dict[str, str]:
    words: dict[str, str] = {}
    for word in given:
        name, equals, value = word.partition("=")
        if not equals:
            raise UsageError(f"--var {word!r} is not NAME=VALUE")
        if name not in plan.vars:
            raise UsageError(f"the plan {plan.id!r} has no variable {name!r}{nearest(name, plan.vars)}")
        if name in words:
            raise UsageError(f"the variable {name!r} is given twice")
        words[name] = value
    return words


def _given(plan: Plan, name: str, word: str, now: Moment) -> Value:
    var = plan.vars[name]
    try:
        return _checked(var, _from_word(var, word), now)
    except ValueError as error:
        raise UsageError(f"the variable {name!r}: {error} ({_where(plan, name)})") from None


def _where(plan: Plan, name: str) -> str:
    place = plan.var_places.get(name)
    return f"declared at {place}" if place is not None else "declared by the plan"


def _described(var: Var) -> str:
    return f" ({var.description})" if var.description else ""


def declared_problems(name: str, var: Var) -> Iterator[tuple[Path, str]]:
    """Yield the problems of a declaration, with paths relative to the variable."""
    if var.required and var.default is not None:
        yield ("default",), f"{name!r} is required, so its default would never be used"
    if var.pattern is not None:
        if var.type not in _TEXTS:
            yield ("pattern",), f"a pattern is for string, path and list, not for {var.type}"
        try:
            re.compile(var.pattern)
        except re.error as error:
            yield ("pattern",), f"not a regular expression: {error}"
            return
    bare = Var(type=var.type)
    for number, value in enumerate(var.enum):
        yield from _problem(bare, [value] if var.type == "list" else value, ("enum", number))
    if var.default is not None:
        yield from _problem(var, var.default, ("default",))


def _problem(var: Var, value: object, path: Path) -> Iterator[tuple[Path, str]]:
    try:
        _checked(var, value, Moment(0))
    except ValueError as error:
        yield path, str(error)


def _from_word(var: Var, text: str) -> object:
    """Return a command-line word as the value that a file would hold."""
    if var.type == "int":
        return int(text) if re.fullmatch("[+-]?[0-9]{1,18}", text) else text
    if var.type == "bool":
        return {"true": True, "false": False}.get(text, text)
    return [item for item in text.split(",") if item] if var.type == "list" else text


def _checked(var: Var, value: object, now: Moment) -> Value:
    read = _READERS[var.type](value, now)
    allowed = [each if var.type == "list" else _READERS[var.type](each, now) for each in var.enum]
    if allowed and any(item not in allowed for item in (read if isinstance(read, tuple) else (read,))):
        raise ValueError(f"expected one of {', '.join(map(str, var.enum))}, not {_shown(value)}")
    if var.pattern is not None:
        for item in read if isinstance(read, tuple) else (read,):
            if not re.fullmatch(var.pattern, str(item)):
                raise ValueError(f"{_shown(item)} does not match the pattern {var.pattern}")
    return read


def _refusal(expected: str, value: object) -> ValueError:
    return ValueError(f"expected {expected}, not {_shown(value)}")


def _string(value: object, _now: Moment) -> str:
    if isinstance(value, str):
        return value
    raise _refusal("text", value)


def _path(value: object, _now: Moment) -> str:
    if isinstance(value, str) and value.startswith("/") and "\0" not in value and ".." not in value.split("/"):
        return value
    raise _refusal("an absolute path without '..'", value)


def _int(value: object, _now: Moment) -> int:
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    raise _refusal("a whole number", value)


def _bool(value: object, _now: Moment) -> bool:
    if isinstance(value, bool):
        return value
    raise _refusal("true or false", value)


def _list(value: object, _now: Moment) -> tuple[Value, ...]:
    if isinstance(value, list | tuple) and all(isinstance(item, str | int) for item in value):
        return tuple(value)
    raise _refusal("a list of texts or whole numbers", value)


_READERS: Mapping[VarType, Callable[[object, Moment], Value]] = {
    "string": _string,
    "path": _path,
    "int": _int,
    "bool": _bool,
    "duration": lambda value, _now: Seconds(duration_s(value)),
    "size": lambda value, _now: Bytes(size_bytes(value)),
    "list": _list,
    "timestamp": lambda value, now: when(value).resolved(now),
}
_EXAMPLES: Mapping[VarType, str] = {
    "string": "VALUE",
    "path": "/PATH",
    "int": "3",
    "bool": "true",
    "duration": "15m",
    "size": "5GiB",
    "list": "A,B",
    "timestamp": "2026-01-31T22:30:00Z",
}


def _shown(value: Any) -> str:  # noqa: ANN401 - any value
    return str(value).lower() if isinstance(value, bool) else repr(value)
