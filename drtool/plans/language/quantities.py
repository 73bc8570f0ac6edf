"""Readers of the quantities in plans: durations, shares, times, windows.

Invariants
    Every reader raises ValueError with one sentence that shows the correct form.
    Times relative to now stay as written. Only a run, which has one start, resolves them.
"""

import re
from datetime import datetime
from itertools import pairwise
from zoneinfo import ZoneInfo

from msgspec import Struct

from drtool.plans.faults.windows import parse_window
from drtool.plans.language.values import Bytes, Moment, Seconds

LONGEST_S = 100 * 366 * 86400.0
UNITS_S = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}
_PART = re.compile(r"([0-9]{1,12}(?:\.[0-9]{1,6})?)(ms|[smhdw])", re.ASCII)
_SHARE = re.compile(r"([0-9]{1,3}(?:\.[0-9]{1,6})?)\s*%", re.ASCII)
_WHEN = re.compile(r"now(?:\s*([+-])\s*(\S+))?")
_RFC3339 = re.compile(
    r"([0-9]{4}-[0-9]{2}-[0-9]{2})[Tt ]([0-9]{2}:[0-9]{2}:[0-9]{2})(?:\.([0-9]{1,9}))?([Zz]|[+-][0-9]{2}:[0-9]{2})",
    re.ASCII,
)


class When(Struct, frozen=True):
    """A time as written: absolute, or an offset from the start of the run."""

    time_ns: int | None = None
    offset_s: float = 0.0

    def resolved(self, now: Moment) -> Moment:
        return Moment(self.time_ns if self.time_ns is not None else now.value_ns + round(self.offset_s * 1e9))


def duration_s(text: object) -> float:
    """Return `90s`, `1h30m`, `400ms`, `2w` in seconds. Raises ValueError."""
    word = text.strip() if isinstance(text, str) else ""
    parts = _PART.findall(word)
    if not parts or "".join(number + unit for number, unit in parts) != word or not _falling(parts):
        raise ValueError(f"not a duration (write 90s, 15m, 1h30m, 7d): {_shown(text)}")
    total_s = sum(float(number) * UNITS_S[unit] for number, unit in parts)
    if total_s > LONGEST_S:
        raise ValueError(f"longer than 100 years: {_shown(text)}")
    return total_s


def positive_s(text: object) -> float:
    """Read a duration that is not zero. Raises ValueError."""
    value_s = duration_s(text)
    if not value_s:
        raise ValueError(f"must be longer than zero: {_shown(text)}")
    return value_s


def _falling(parts: list[tuple[str, str]]) -> bool:
    """Return whether units descend: `1h30m`, but not `30m1h` or `1h1h`."""
    units = [UNITS_S[unit] for _, unit in parts]
    return all(first > second for first, second in pairwise(units))


def share(text: object) -> float:
    """Read a percentage: `2%` is 0.02. Raises ValueError."""
    match = _SHARE.fullmatch(text.strip()) if isinstance(text, str) else None
    if match is None or float(match[1]) > 100:
        raise ValueError(f"not a share (write 2%, 0.5%, at most 100%): {_shown(text)}")
    return float(match[1]) / 100


def moment_ns(text: str) -> int:
    """Read an RFC 3339 time with its offset, in nanoseconds since 1970. Raises ValueError."""
    match = _RFC3339.fullmatch(text.strip())
    problem = ValueError(f"not a time (write 2026-01-31T22:30:00Z, with Z or an offset; or now, now-10m): {text!r}")
    if match is None:
        raise problem
    offset = "+00:00" if match[4] in "Zz" else match[4]
    try:
        seconds = int(datetime.fromisoformat(f"{match[1]}T{match[2]}{offset}").timestamp())
    except (ValueError, OverflowError):
        raise problem from None
    return seconds * 10**9 + int((match[3] or "").ljust(9, "0") or 0)


def when(text: object) -> When:
    """Read an RFC 3339 time, `now` or `now-10m`. Raises ValueError."""
    word = text.strip() if isinstance(text, str) else ""
    match = _WHEN.fullmatch(word)
    if match is None:
        return When(time_ns=moment_ns(word))
    return When(offset_s=(duration_s(match[2]) if match[2] else 0.0) * (-1 if match[1] == "-" else 1))


def window_text(text: object) -> str:
    """Check a window such as `Tue-Thu 09:00-15:00 Europe/Berlin`, and return its text. Raises ValueError."""
    return parse_window(text if isinstance(text, str) else str(text), ZoneInfo).text


def written(value: object) -> object:
    """Return a computed quantity as a file would write it, so that the same readers can read it."""
    if isinstance(value, Bytes):
        return value.value_bytes
    return str(value) if isinstance(value, Seconds | Moment) else value


def _shown(value: object) -> str:
    return {True: "true", False: "false"}[value] if isinstance(value, bool) else repr(value)
