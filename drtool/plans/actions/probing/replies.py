"""The result of a probe: a good or bad answer, or the inability to ask. For SQL, the judgement of the rows."""

import math
import re
from collections.abc import Sequence
from typing import Any

from msgspec import Struct

from drtool.errors import DrtoolError
from drtool.plans.language.probes import Scalar, SqlExpect


class CannotAsk(DrtoolError):
    """Raised when there is no way to ask. The result is unproven, neither good nor bad."""


class Reply(Struct, frozen=True, kw_only=True):
    good: bool
    """Whether the answer is as expected."""
    detail: str
    """The finding. If it is not good, also what was expected."""
    value: Any = None
    """A plain value: the body, the first cell, the sample."""
    status: int | None = None
    """The HTTP status, or a program's exit code."""


def bad(detail: str, value: Any = None, status: int | None = None) -> Reply:  # noqa: ANN401 - any plain value
    return Reply(good=False, detail=detail, value=value, status=status)


def good(detail: str, value: Any = None, status: int | None = None) -> Reply:  # noqa: ANN401
    return Reply(good=True, detail=detail, value=value, status=status)


def unlike_number(number: float, low: float | None, high: float | None) -> str:
    """Return why a number is out of bounds, or an empty string. NaN is out of any bounds."""
    if math.isnan(number):
        return "it is not a number"
    if low is not None and number < low:
        return f"expected at least {low:g}"
    if high is not None and number > high:
        return f"expected at most {high:g}"
    return ""


_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]{0,17})(\.[0-9]{1,15})?", re.ASCII)
Cell = str | int | float | None
Row = Sequence[Cell]


def judged(expect: SqlExpect, rows: Sequence[Row], more: bool) -> Reply:
    """Judge the rows. `more` says that there are more than these."""
    value = rows[0][0] if rows and rows[0] else None
    if expect.rows is not None and (more or len(rows) != expect.rows):
        return bad(f"{'more than ' if more else ''}{len(rows)} rows; expected {expect.rows}", value)
    wants_value = expect.equals is not None or expect.min is not None or expect.max is not None
    if wants_value and not rows:
        return bad("no row; expected one")
    problem = _unlike(expect, value) if wants_value else ""
    told = f"the first value is {value!r}" if rows else "no row"
    return bad(f"{told}; {problem}", value) if problem else good(f"{told}, of {len(rows)} rows", value)


def _unlike(expect: SqlExpect, value: Cell) -> str:
    if expect.equals is not None and not _equal(expect.equals, value):
        return f"expected {expect.equals!r}"
    if expect.min is None and expect.max is None:
        return ""
    if not isinstance(value, int | float):
        return "expected a number"
    return unlike_number(value, expect.min, expect.max)


def _equal(wanted: Scalar, value: Cell) -> bool:
    """Compare with a printed value. Clients print everything as text (`t`, `1`); numeric text is compared as a number."""
    if isinstance(wanted, bool):
        return value in ((1, "t", "true") if wanted else (0, "f", "false"))
    if isinstance(wanted, str):
        return str(value) == wanted if value is not None else False
    return isinstance(value, int | float) and value == wanted


def cell(text: str) -> Cell:
    """Parse a value as printed by a client program: a number if it is written like one."""
    match = _NUMBER.fullmatch(text)
    if match is None or text == "-0":
        return text
    return float(text) if match[1] else int(text)
