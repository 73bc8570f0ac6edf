"""Types of the fields of plans: their form in a file, and the value they are read as.

The field of a struct carries its unit (`timeout_s`); the key in the file does not (`timeout`).
"""

import re
from collections.abc import Callable
from typing import Annotated, Any, Literal, TypeAlias

from msgspec import Meta, Struct

from drtool.config.cron import Cron, parse_cron
from drtool.config.document import read_as
from drtool.config.schema import words, zone_name
from drtool.config.units import rate_bytes_s, size_bytes
from drtool.plans.language.quantities import When, duration_s, positive_s, share, when, window_text
from drtool.plans.language.syntax import Expression
from drtool.plans.language.templates import bare, foreach

_NEED = re.compile(r"([a-z0-9][a-z0-9_-]{0,63})(?::(started|injected))?", re.ASCII)


class Need(Struct, frozen=True):
    """A dependency on another step.

    `ended`: it ended well. `started`: it has begun. `injected`: the fault is active, and stays so until this step ends.
    """

    step: str
    state: Literal["ended", "started", "injected"] = "ended"

    def __str__(self) -> str:
        return self.step if self.state == "ended" else f"{self.step}:{self.state}"


def need(text: object) -> Need:
    """Read one entry of `needs`. Raises ValueError."""
    match = _NEED.fullmatch(text) if isinstance(text, str) else None
    if match is None:
        raise ValueError(f"expected a step's id, ID:started or ID:injected, not {text!r}")
    state: Literal["ended", "started", "injected"] = (
        "started" if match[2] == "started" else "injected" if match[2] == "injected" else "ended"
    )
    return Need(match[1], state)


Schema: TypeAlias = dict[str, Any]


def _read(read: Callable[[Any], Any], schema: Schema) -> tuple[Meta, Meta]:
    """Return a reader, and the schema with which an editor checks its input."""
    return read_as(read), Meta(extra_json_schema=schema)


def or_nothing(read: Callable[[Any], Any]) -> Callable[[Any], Any]:
    return lambda value: value if value is None else read(value)


_DURATION = r"^\s*([0-9]+(\.[0-9]+)?(ms|s|m|h|d|w))+\s*$"
_DURATION_SCHEMA: Schema = {"type": "string", "pattern": _DURATION, "examples": ["90s", "15m", "1h30m"]}
_SIZE_SCHEMA: Schema = {"type": ["string", "integer"], "examples": ["500GiB", "20MB", 4096]}
_SHARE_SCHEMA: Schema = {"type": "string", "pattern": r"^\s*[0-9]+(\.[0-9]+)?\s*%\s*$", "examples": ["2%"]}
_EXPRESSION_SCHEMA: Schema = {"type": ["string", "boolean"], "examples": ["failed('sample')", "vars.in_place"]}
_TIME_SCHEMA: Schema = {"type": "string", "examples": ["now", "now-10m", "2026-01-31T22:30:00Z"]}
_WORDS_SCHEMA: Schema = {"type": ["string", "array"], "items": {"type": "string"}}

Duration = Annotated[float, *_read(duration_s, _DURATION_SCHEMA)]
Span = Annotated[float, *_read(positive_s, _DURATION_SCHEMA)]
"""A duration that is not zero."""
OptionalDuration = Annotated[float | None, *_read(or_nothing(duration_s), _DURATION_SCHEMA)]
OptionalSpan = Annotated[float | None, *_read(or_nothing(positive_s), _DURATION_SCHEMA)]
Size = Annotated[int, *_read(size_bytes, _SIZE_SCHEMA)]
OptionalSize = Annotated[int | None, *_read(or_nothing(size_bytes), _SIZE_SCHEMA)]
OptionalRate = Annotated[
    int | None, *_read(or_nothing(rate_bytes_s), {"type": "string", "pattern": "/s$", "examples": ["2MiB/s"]})
]
Share = Annotated[float, *_read(share, _SHARE_SCHEMA)]
OptionalShare = Annotated[float | None, *_read(or_nothing(share), _SHARE_SCHEMA)]
OptionalWhen = Annotated[When | None, *_read(or_nothing(when), _TIME_SCHEMA)]
Bare = Annotated[Expression, *_read(bare, _EXPRESSION_SCHEMA)]
OptionalBare = Annotated[Expression | None, *_read(or_nothing(bare), _EXPRESSION_SCHEMA)]
ForEach = Annotated[Any, *_read(foreach, {"type": ["string", "array"], "examples": ["vars.names"]})]
NeedField = Annotated[
    Need,
    *_read(need, {"type": "string", "pattern": "^[a-z0-9][a-z0-9_-]{0,63}(:(started|injected))?$"}),
]
Words = Annotated[tuple[str, ...], *_read(words, _WORDS_SCHEMA)]
WindowText = Annotated[str, *_read(window_text, {"type": "string", "examples": ["Tue-Thu 09:00-15:00 Europe/Berlin"]})]
CronField = Annotated[Cron, *_read(parse_cron, {"type": "string", "examples": ["17 3 * * 0"]})]
Zone = Annotated[str, *_read(zone_name, {"type": "string", "examples": ["Europe/Berlin"]})]
Count = Annotated[int, Meta(ge=0, le=10**9)]
Positive = Annotated[int, Meta(ge=1, le=10**9)]
Filled = Annotated[str, Meta(min_length=1)]
"""Text that is not empty."""
Id = Annotated[str, Meta(pattern="^[a-z0-9][a-z0-9_-]{0,63}$")]
VarName = Annotated[str, Meta(pattern="^[a-z_][a-z0-9_]{0,63}$")]
