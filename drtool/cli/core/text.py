"""Formatting of values for people and for JSON: sizes, times, durations, names from foreign file systems."""

import json
import time
from datetime import datetime
from typing import Any

import msgspec

from drtool.model import counted

_UNITS = ("KiB", "MiB", "GiB", "TiB", "PiB", "EiB")
_FIRST_S = -62_135_596_800  # 0001-01-01T00:00:00Z
_END_S = 253_402_300_800  # 10000-01-01T00:00:00Z

count = counted


def size(count_bytes: float) -> str:
    """Return `512 B`, `1.5 KiB`, `20.0 GiB`."""
    if count_bytes < 1024:
        return f"{count_bytes:.0f} B"
    power = 1
    while count_bytes / 1024**power >= 1023.95 and power < len(_UNITS):
        power += 1
    return f"{count_bytes / 1024**power:.1f} {_UNITS[power - 1]}"


def brief(text: str, most: int = 100) -> str:
    """Return as much of `text` as fits. `--json` has all of it."""
    return text if len(text) <= most else text[: most - 1] + "…"


def duration(seconds: float) -> str:
    """Return `0.8 s`, `42 s`, `3 min 05 s`, `2 h 10 min`, `4 d 3 h`."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02} s"
    if whole < 86_400:
        return f"{whole // 3600} h {whole % 3600 // 60:02} min"
    return f"{whole // 86_400} d {whole % 86_400 // 3600} h"


def utc(time_ns: int) -> str:
    """Return RFC 3339 in UTC with nine fractional digits, or `@seconds` for a year that the format cannot express."""
    seconds, fraction = divmod(time_ns, 10**9)
    if not _FIRST_S <= seconds < _END_S:
        return f"@{seconds}.{fraction:09}"
    parts = time.gmtime(seconds)
    return f"{parts.tm_year:04}-{time.strftime('%m-%dT%H:%M:%S', parts)}.{fraction:09}Z"


def local(time_text: str) -> str:
    """Return a document's time for the terminal: local, to the second, with its offset from UTC."""
    if not time_text or time_text.startswith("@"):
        return time_text
    moment = datetime.fromisoformat(f"{time_text[:19]}+00:00")
    try:
        return moment.astimezone().isoformat(" ", "seconds")
    except (OverflowError, OSError, ValueError):  # the first and last day of the calendar have no local time
        return f"{time_text[:19].replace('T', ' ')}+00:00"


Document = dict[str, Any]
"""A result in its JSON form. Its fields are those of docs/cli.md."""


def document_of(result: object) -> Document:
    """Return an operation's result as its JSON document. `time_ns` becomes `time` in RFC 3339, and so does any `…_ns`."""
    document: Document = _with_times(msgspec.to_builtins(result))
    return document


def _with_times(value: Any) -> Any:  # noqa: ANN401 - any JSON value
    if isinstance(value, list | tuple):
        return [_with_times(item) for item in value]
    if not isinstance(value, dict):
        return value
    return {
        key.removesuffix("_ns"): utc(item) if key.endswith("_ns") and isinstance(item, int) else _with_times(item)
        for key, item in value.items()
    }


def as_json(value: object) -> str:
    """Return one line of JSON. Non-ASCII characters are escaped, so lone surrogates survive any pipe."""
    return json.dumps(msgspec.to_builtins(value))


def share_percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.1f}%"


_PLANNED = {"copied": "copy", "moved": "move", "rebuilt": "rebuild", "removed": "remove", "rewritten": "rewrite"}


def act(done: str, document: Document) -> str:
    """Return a verb in the past, or `would` and the verb if the document is of a dry run."""
    return f"would {_PLANNED[done]}" if document["dry_run"] else done


def optional_duration(seconds: float | None) -> str:
    return "-" if seconds is None else duration(seconds)
