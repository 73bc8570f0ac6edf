"""The grammar of snapshot names: a prefix of an id, `latest`, `latest~N` or `latest@TIME`, each optionally with
`:PATH`.

Pure, except that a TIME without an offset is in this host's time zone.
"""

import re
from datetime import datetime, timedelta

from msgspec import Struct

from drtool.config.units import time_ns_of
from drtool.errors import UsageError

LATEST = "latest"
_ONE_DAY = timedelta(days=1)
_DATE = r"\d{4}-\d\d-\d\d"
_CLOCK = r"\d\d:\d\d(?::\d\d(?:\.\d{1,9})?)?"
_TIME = rf"{_DATE}(?:[Tt ]{_CLOCK}(?:[Zz]|[+-]\d\d:?\d\d)?)?"
_DATED = re.compile(rf"({LATEST}@{_TIME})(?::(.*))?", re.DOTALL)
_TIME_HINT = "write latest@2026-01-31, latest@2026-01-31T22:30 or latest@2026-01-31T22:30:00Z"


class Latest(Struct, frozen=True):
    """`latest`: the newest snapshot or an older one. `back`: that many before it. `until_ns`: not later than this."""

    back: int = 0
    until_ns: int | None = None


def split_name(text: str) -> tuple[str, str | None]:
    """Split `SNAPSHOT:PATH` at the first colon that is not part of a TIME. The path is None if there is no colon."""
    dated = _DATED.fullmatch(text)
    if dated is not None:
        return dated.group(1), dated.group(2)
    name, colon, path = text.partition(":")
    return name, path if colon else None


def parse_latest(name: str) -> Latest | None:
    """Return the meaning of a name that begins with `latest`, or None for an id prefix. UsageError if it is malformed."""
    if name == LATEST:
        return Latest()
    if name.startswith(f"{LATEST}~"):
        count = name.removeprefix(f"{LATEST}~")
        if not re.fullmatch(r"[0-9]{1,9}", count):
            raise UsageError(f"{name!r}: {count!r} is not a number of snapshots", hint="write latest~1, latest~2, …")
        return Latest(back=int(count))
    if name.startswith(f"{LATEST}@"):
        return Latest(until_ns=_until_ns(name))
    return None


def _until_ns(name: str) -> int:
    text = name.removeprefix(f"{LATEST}@")
    try:
        moment = datetime.fromisoformat(text)
        if re.fullmatch(_DATE, text):  # all of that day
            return int((moment + _ONE_DAY).timestamp()) * 10**9 - 1
        if moment.tzinfo is None:
            text += moment.astimezone().strftime("%z")
        return time_ns_of(text)
    except (ValueError, OverflowError):
        raise UsageError(f"{name!r}: {text!r} is not a time", hint=_TIME_HINT) from None
