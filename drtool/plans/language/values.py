"""The values of expressions: plain values, typed quantities, and values that are not known yet.

Invariants
    A quantity is compared only with its own kind: `24h` equals neither 86400 nor "24h".
    `Unknown` is not a value. Anything computed from it is unknown too, and names the steps that would supply it.
"""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Literal, TypeAlias

from msgspec import Struct

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_UNITS_S = (("d", 86400.0), ("h", 3600.0), ("m", 60.0), ("s", 1.0), ("ms", 0.001))


class Seconds(Struct, frozen=True, order=True):
    """A duration: `90s`, `1h30m`."""

    value_s: float

    def __str__(self) -> str:
        return duration_text(self.value_s)


class Bytes(Struct, frozen=True, order=True):
    """A size: `500GiB`."""

    value_bytes: int

    def __str__(self) -> str:
        return str(self.value_bytes)


class Moment(Struct, frozen=True, order=True):
    """A point in time, in nanoseconds since 1970."""

    value_ns: int

    def __str__(self) -> str:
        return moment_text(self.value_ns)


class Unknown(Struct, frozen=True):
    """A value that is known only after some step has run. `kind` is its expected kind."""

    needs: frozenset[str]
    """Ids of steps, or `steady_state`."""
    kind: "ValueKind" = "any"


ValueKind: TypeAlias = Literal[
    "any", "nothing", "bool", "number", "text", "duration", "size", "timestamp", "list", "mapping"
]
Value: TypeAlias = (
    bool | int | float | str | Seconds | Bytes | Moment | tuple["Value", ...] | Mapping[str, "Value"] | None
)
Maybe: TypeAlias = Value | Unknown

KINDS: dict[type, ValueKind] = {
    type(None): "nothing",
    bool: "bool",
    int: "number",
    float: "number",
    str: "text",
    Seconds: "duration",
    Bytes: "size",
    Moment: "timestamp",
    tuple: "list",
    list: "list",
    Unknown: "any",
}
KIND_NAMES: dict[ValueKind, str] = {
    "any": "a value",
    "nothing": "null",
    "bool": "true or false",
    "number": "a number",
    "text": "text",
    "duration": "a duration",
    "size": "a size",
    "timestamp": "a timestamp",
    "list": "a list",
    "mapping": "a mapping",
}
"""Kinds as shown in messages."""


def kind_of(value: Maybe) -> ValueKind:
    if isinstance(value, Unknown):
        return value.kind
    if isinstance(value, bool):
        return "bool"
    return next((kind for known, kind in KINDS.items() if isinstance(value, known)), "mapping")


def text_of(value: Value) -> str:
    """Return a value as text, as a plan would write it."""
    if value is None or isinstance(value, bool):
        return {None: "", True: "true", False: "false"}[value]
    if isinstance(value, tuple | list):
        return ", ".join(text_of(item) for item in value)
    return str(value)


def duration_text(value_s: float) -> str:
    """Return a duration as plans write it: `1h30m`. Reading it gives the same value, to the millisecond."""
    left_ms, sign = round(abs(value_s) * 1000), "-" if value_s < 0 else ""
    parts = []
    for unit, unit_s in _UNITS_S:
        number, left_ms = divmod(left_ms, round(unit_s * 1000))
        parts += [f"{number}{unit}"] if number else []
    return sign + ("".join(parts) or "0s")


def moment_text(time_ns: int) -> str:
    """Return an RFC 3339 time in UTC, with a fraction only if it has one."""
    seconds, fraction = divmod(time_ns, 10**9)
    moment = (_EPOCH + timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%S")
    return f"{moment.zfill(19)}{f'.{fraction:09}'.rstrip('0') if fraction else ''}Z"
