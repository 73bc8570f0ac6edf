"""Text forms of quantities in files and options: sizes, calendar spans, numbers to keep."""

import re
from datetime import datetime
from typing import NamedTuple

_SIZE = re.compile(r"([0-9]{1,18}(?:\.[0-9]{1,18})?)\s*([KMGTPE]i?)?B?", re.IGNORECASE)
_POWERS = {letter: power for power, letter in enumerate("KMGTPE", 1)}


def size_bytes(text: object) -> int:
    """Read a size: `256MiB` is 256 · 2^20, `20 MB` is 20 · 10^6, a plain number is bytes. Raises ValueError."""
    match = _SIZE.fullmatch(str(text).strip()) if isinstance(text, str | int) and not isinstance(text, bool) else None
    if match is None:
        raise ValueError(f"not a size (write 256MiB, 20GB or a number of bytes): {text!r}")
    number, prefix = match.groups()
    base = 1024 if prefix and prefix.lower().endswith("i") else 1000
    return int(float(number) * base ** _POWERS.get((prefix or " ")[0].upper(), 0)) if prefix else int(float(number))


def share(text: object) -> float | None:
    """Return a share: `90%` is 0.9, `off` is None. Raises ValueError."""
    if text in ("off", False):
        return None
    match = re.fullmatch(r"(\d{1,3}(?:\.\d+)?) ?%", text.strip()) if isinstance(text, str) else None
    if match is None or not 0 < float(match[1]) <= 100:
        raise ValueError(f"not a share (write 90%, or off): {text!r}")
    return float(match[1]) / 100


def rate_bytes_s(text: object) -> int:
    """Read a rate such as `20MiB/s`, at least 1 KiB/s. Raises ValueError."""
    word = text.strip() if isinstance(text, str) else ""
    if not word.endswith("/s"):
        raise ValueError(f"not a rate (write 20MiB/s, 500kB/s): {text!r}")
    rate = size_bytes(word.removesuffix("/s"))
    if rate < RATE_BYTES_S_MIN:
        raise ValueError(f"a rate must be at least 1KiB/s: {text!r}")
    return rate


RATE_BYTES_S_MIN = 1024
UNLIMITED = -1
_SPAN_PART = re.compile(r"([0-9]{1,6})([ymdh])")
_SPAN_UNITS = "ymdh"


class Span(NamedTuple):
    """A calendar span. The length of a month is that of the month it is counted in."""

    years: int = 0
    months: int = 0
    days: int = 0
    hours: int = 0

    def __str__(self) -> str:
        return "".join(f"{number}{unit}" for number, unit in zip(self, _SPAN_UNITS, strict=True) if number) or "0h"


def span(text: object) -> Span:
    """Read `1y2m3d4h`, or any of its parts, in any order. Raises ValueError."""
    word = text.strip() if isinstance(text, str) else ""
    found = _SPAN_PART.findall(word)
    parts = {unit: int(number) for number, unit in found}
    if not found or len(parts) < len(found) or "".join(number + unit for number, unit in found) != word:
        raise ValueError(f"not a time span (write 1y2m3d4h: years, months, days, hours; a week is 7d): {text!r}")
    return Span(*(parts.get(unit, 0) for unit in _SPAN_UNITS))


def keep_count(text: object) -> int:
    """Read a number to keep: a whole number, or `unlimited` (UNLIMITED). Raises ValueError."""
    word = str(text).strip() if isinstance(text, str | int) and not isinstance(text, bool) else ""
    if word == "unlimited":
        return UNLIMITED
    if not re.fullmatch("[0-9]{1,9}", word):
        raise ValueError(f"not a number to keep (write 7, or unlimited): {text!r}")
    return int(word)


def time_ns_of(text: str) -> int:
    """Convert RFC 3339 with any offset to nanoseconds since 1970. Raises ValueError."""
    moment = datetime.fromisoformat(text.strip())
    if moment.tzinfo is None:
        raise ValueError("the offset is missing; end the time with Z or +02:00")
    whole = moment.replace(microsecond=0)
    fraction = text.partition(".")[2]
    digits = fraction[: len(fraction) - len(fraction.lstrip("0123456789"))]
    return int(whole.timestamp()) * 10**9 + int(digits[:9].ljust(9, "0") or 0)
