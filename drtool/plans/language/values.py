"""What expressions compute with: plain values, quantities that know their kind, and values that are not known yet.

Invariants
    A quantity is only compared with its own kind: `24h` is neither 86400 nor "24h".
    `Unknown` is no value: whatever is computed from it is unknown too, and says from which steps it would come.
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
    """A value that some step has to run for; `kind` is what it will be."""

    needs: frozenset[str]
    """Ids of steps; or `steady_state`."""
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
TOLD: dict[ValueKind, str] = {
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
"""Kinds in a person's words."""


def kind_of(value: Maybe) -> ValueKind:
    if isinstance(value, Unknown):
        return value.kind
    if isinstance(value, bool):
        return "bool"
    return next((kind for known, kind in KINDS.items() if isinstance(value, known)), "mapping")


def text_of(value: Value) -> str:
    """A value inside text: as a person would write it in a plan."""
    if value is None or isinstance(value, bool):
        return {None: "", True: "true", False: "false"}[value]
    if isinstance(value, tuple | list):
        return ", ".join(text_of(item) for item in value)
    return str(value)


def duration_text(value_s: float) -> str:
    """`1h30m`, as plans write it: read again it is the same, to the millisecond."""
    left_ms, sign = round(abs(value_s) * 1000), "-" if value_s < 0 else ""
    parts = []
    for unit, unit_s in _UNITS_S:
        number, left_ms = divmod(left_ms, round(unit_s * 1000))
        parts += [f"{number}{unit}"] if number else []
    return sign + ("".join(parts) or "0s")


def moment_text(time_ns: int) -> str:
    """RFC 3339 in UTC; fractions only where there are some."""
    seconds, fraction = divmod(time_ns, 10**9)
    moment = (_EPOCH + timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%S")
    return f"{moment.zfill(19)}{f'.{fraction:09}'.rstrip('0') if fraction else ''}Z"
