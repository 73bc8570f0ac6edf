"""Cron's five fields, and the times that they match.

Invariants
    As in cron(8): if both day fields are restricted, either suffices. Sunday is 0 and 7.
    The search for the next time is bounded, and finds that there is none for impossible dates (30 February).
"""

import re
from datetime import UTC, datetime, timedelta, tzinfo

from msgspec import Struct

_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_DAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_FIELDS: tuple[tuple[str, int, int, dict[str, int]], ...] = (
    ("minute", 0, 59, {}),
    ("hour", 0, 23, {}),
    ("day of the month", 1, 31, {}),
    ("month", 1, 12, {name: number for number, name in enumerate(_MONTHS, 1)}),
    ("day of the week", 0, 7, {name: number for number, name in enumerate(_DAYS)}),
)
_SEARCH_DAYS = 366 * 8 + 2  # 29 February recurs after at most eight years until 2400


class Cron(Struct, frozen=True, kw_only=True):
    text: str
    minutes: frozenset[int]
    hours: frozenset[int]
    days: frozenset[int]
    months: frozenset[int]
    weekdays: frozenset[int]
    """0 is Sunday."""
    any_day: bool
    any_weekday: bool

    def matches_day(self, day: datetime) -> bool:
        if day.month not in self.months:
            return False
        by_date, by_week = day.day in self.days, day.isoweekday() % 7 in self.weekdays
        return by_date and by_week if self.any_day or self.any_weekday else by_date or by_week


def parse_cron(text: object) -> Cron:
    """Parse `17 3 * * 0`: minute, hour, day of the month, month, day of the week. Raises ValueError."""
    words = text.split() if isinstance(text, str) else []
    if len(words) != len(_FIELDS):
        raise ValueError(f"not cron's five fields (minute hour day month weekday, such as '17 3 * * 0'): {text!r}")
    minutes, hours, days, months, weekdays = (_field(word, *field) for word, field in zip(words, _FIELDS, strict=True))
    return Cron(
        text=" ".join(words),
        minutes=minutes,
        hours=hours,
        days=days,
        months=months,
        weekdays=frozenset(day % 7 for day in weekdays),
        any_day=words[2].startswith("*"),
        any_weekday=words[4].startswith("*"),
    )


def next_time(cron: Cron, after: datetime, zone: tzinfo) -> datetime | None:
    """Return the first time after `after`, in UTC, at which the fields match in `zone`, or None.

    A time that the clocks skip in spring runs at the time that replaces it.
    """
    local = after.astimezone(zone)
    for ahead in range(_SEARCH_DAYS):
        day = local.date() + timedelta(days=ahead)
        start = datetime(day.year, day.month, day.day, tzinfo=zone)
        if not cron.matches_day(start):
            continue
        times = (
            start.replace(hour=hour, minute=minute).astimezone(UTC)
            for hour in sorted(cron.hours)
            for minute in sorted(cron.minutes)
        )
        found = min((moment for moment in times if moment > after), default=None)
        if found is not None:
            return found
    return None


def longest_gap_s(cron: Cron, start: datetime, zone: tzinfo) -> float | None:
    """Return the longest wait between two matching times within a year. None if there is at most one."""
    longest: float | None = None
    moment = next_time(cron, start, zone)
    for _ in range(400):
        following = next_time(cron, moment, zone) if moment is not None else None
        if moment is None or following is None:
            return longest
        longest = max(longest or 0.0, (following - moment).total_seconds())
        moment = following
        if moment - start > timedelta(days=366):
            break
    return longest


def _field(word: str, name: str, low: int, high: int, names: dict[str, int]) -> frozenset[int]:
    found: set[int] = set()
    for part in word.split(","):
        span, slash, step = part.partition("/")
        every = _number(step, name, 1, high, {}) if slash else 1
        if span == "*":
            first, last = low, high
        else:
            begins, dash, ends = span.partition("-")
            first = _number(begins, name, low, high, names)
            last = _number(ends, name, low, high, names) if dash else high if slash else first
        if first > last:
            raise ValueError(f"{name}: {span!r} runs backwards")
        found |= set(range(first, last + 1, every))
    return frozenset(found)


def _number(word: str, name: str, low: int, high: int, names: dict[str, int]) -> int:
    if word.lower() in names:
        return names[word.lower()]
    if not (word.isascii() and word.isdigit() and len(word) <= 4 and low <= int(word) <= high):
        raise ValueError(f"{name}: expected {low} to {high}, not {word!r}")
    return int(word)


_WORDS = "write 'hourly', 'daily 02:00', 'weekly sun 03:00', 'monthly 1 04:00', or cron's five fields"
_CLOCK = re.compile("([0-9]{1,2}):([0-9]{2})")


def parse_when(text: object) -> Cron:
    """Parse `hourly`, `daily 02:00`, `weekly sun 03:00`, `monthly 1 04:00`, or cron's fields. Raises ValueError."""
    words = text.split() if isinstance(text, str) else []
    match words:
        case ["hourly"]:
            return parse_cron("0 * * * *")
        case ["daily", clock]:
            return parse_cron(f"{_clock(clock)} * * *")
        case ["weekly", day, clock]:
            return parse_cron(f"{_clock(clock)} * * {day}")
        case ["monthly", day, clock]:
            return parse_cron(f"{_clock(clock)} {day} * *")
        case [_, _, _, _, _]:
            return parse_cron(text)
    raise ValueError(f"not a time to run: {text!r}; {_WORDS}")


def _clock(text: str) -> str:
    found = _CLOCK.fullmatch(text)
    if found is None:
        raise ValueError(f"not a time of day: {text!r}; {_WORDS}")
    return f"{int(found[2])} {int(found[1])}"
