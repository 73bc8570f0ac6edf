"""Time windows for faults: `Tue-Thu 09:00-15:00 Europe/Berlin`.

Invariants
    A window opens and closes by the clocks of its time zone, including summer time. A window whose end is before its start
    ends the next day, and belongs to the day on which it opened.
    A fault must end in the window in which it begins.
"""

import re
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta, tzinfo

from msgspec import Struct

DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_WINDOW = re.compile(
    r"(?:(?P<days>[A-Za-z]{3}(?:[-,][A-Za-z]{3})*)\s+)?"
    r"(?P<begins>[0-2][0-9]:[0-5][0-9])-(?P<ends>[0-2][0-9]:[0-5][0-9])"
    r"(?:\s+(?P<zone>[A-Za-z][A-Za-z0-9_+/-]*))?"
)
_DAY_MINUTES = 24 * 60


class Window(Struct, frozen=True, kw_only=True):
    """A window. `days` are 0 (Monday) to 6; times are minutes after midnight."""

    text: str
    days: frozenset[int]
    begins: int
    ends: int
    zone: tzinfo


def parse_window(text: str, zone_of: Callable[[str], tzinfo]) -> Window:
    """Parse `[DAYS] HH:MM-HH:MM [ZONE]`. The default is every day, in UTC. Raises ValueError."""
    match = _WINDOW.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"not a window (write Tue-Thu 09:00-15:00 Europe/Berlin): {text!r}")
    try:
        zone = zone_of(match["zone"]) if match["zone"] else UTC
    except (KeyError, ValueError, OSError):
        raise ValueError(f"unknown time zone {match['zone']!r} in {text!r}") from None
    begins, ends = _minutes(match["begins"]), _minutes(match["ends"])
    if begins in {ends, _DAY_MINUTES}:
        raise ValueError(f"the window {text!r} is never open")
    return Window(text=text.strip(), days=_days(match["days"], text), begins=begins, ends=ends, zone=zone)


def closing_time(window: Window, now: datetime) -> datetime | None:
    """Return when the window that is open now closes, in UTC, or None if it is closed."""
    moment = now.astimezone(UTC)
    today = now.astimezone(window.zone).date()
    ends = (
        ends
        for day in (today - timedelta(days=1), today)
        if day.weekday() in window.days
        for begins, ends in (_opening(window, day),)
        if begins <= moment < ends
    )
    return next(ends, None)


def _opening(window: Window, day: date) -> tuple[datetime, datetime]:
    """Return the start and end of the window that opens on a day."""
    last = day if window.ends > window.begins else day + timedelta(days=1)
    return _at(day, window.begins, window.zone), _at(last, window.ends, window.zone)


def _at(day: date, minutes: int, zone: tzinfo) -> datetime:
    days, rest = divmod(minutes, _DAY_MINUTES)
    after = day + timedelta(days=days)
    return datetime(after.year, after.month, after.day, rest // 60, rest % 60, tzinfo=zone).astimezone(UTC)


def _minutes(text: str) -> int:
    hours, minutes = map(int, text.split(":"))
    if hours * 60 + minutes > _DAY_MINUTES:
        raise ValueError(f"not a time of day: {text}")
    return hours * 60 + minutes


def _days(text: str | None, whole: str) -> frozenset[int]:
    if text is None:
        return frozenset(range(7))
    return frozenset(day for part in text.split(",") for day in _range(part, whole))


def _range(part: str, whole: str) -> Iterator[int]:
    """Read `Tue`, or `Sat-Mon`, which wraps around the end of the week."""
    names = [name.capitalize() for name in part.split("-")]
    if len(names) > 2 or not set(names) <= set(DAYS):
        raise ValueError(f"not days of the week (Mon Tue Wed Thu Fri Sat Sun): {part!r}, in {whole!r}")
    first, last = DAYS.index(names[0]), DAYS.index(names[-1])
    return (day % 7 for day in range(first, last + 1 + (7 if last < first else 0)))
