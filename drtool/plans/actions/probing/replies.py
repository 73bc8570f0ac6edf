"""The result of a probe: a good or bad answer, or the inability to ask."""

import math
from typing import Any

from msgspec import Struct

from drtool.errors import DrtoolError


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
