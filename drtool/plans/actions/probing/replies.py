"""What a probe got: an answer, good or bad; or that it could not even ask."""

import math
from typing import Any

from msgspec import Struct

from drtool.errors import DrtoolError


class CannotAsk(DrtoolError):
    """There was no way to ask, so nothing is known: unproven, neither good nor bad."""


class Reply(Struct, frozen=True, kw_only=True):
    good: bool
    """Whether it is as expected."""
    detail: str
    """What was found; if it is not good, what was expected."""
    value: Any = None
    """A plain value: the body, the first cell, the sample."""
    status: int | None = None
    """Of HTTP, or a program's exit code."""


def bad(detail: str, value: Any = None, status: int | None = None) -> Reply:  # noqa: ANN401 - any plain value
    return Reply(good=False, detail=detail, value=value, status=status)


def good(detail: str, value: Any = None, status: int | None = None) -> Reply:  # noqa: ANN401
    return Reply(good=True, detail=detail, value=value, status=status)


def unlike_number(number: float, low: float | None, high: float | None) -> str:
    """Why a number is not between the two; empty if it is. No number is between nothing and nothing."""
    if math.isnan(number):
        return "it is not a number"
    if low is not None and number < low:
        return f"expected at least {low:g}"
    if high is not None and number > high:
        return f"expected at most {high:g}"
    return ""
