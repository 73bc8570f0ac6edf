"""The text form of faults in drills and tests: `offline`, `slow: 2s`, `full: 1MiB`, `{damaged: packs/, share: 10%}`.

Errors name the word, and the nearest known one. Reading gives a value; `stores.FaultyStore` injects it.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any

from drtool.config.document import nearest
from drtool.config.units import size_bytes
from drtool.errors import ConfigError
from drtool.stores import Faults

_SECONDS = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*(ms|s|m)?")
_UNIT_S = {"ms": 0.001, "s": 1.0, "m": 60.0}
_SHARE = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*%")
_SIGNED = re.compile(r"([+-]?)\s*(.+)")


def read_faults(spec: object) -> Faults:
    """Read `offline`, or a mapping of faults to their degree. Raises ConfigError.

    Example: read_faults({"slow": "2s", "full": "1MiB"})
    """
    if isinstance(spec, str):
        return Faults(**_pair(spec, True))
    if not isinstance(spec, Mapping):
        raise ConfigError(f"faults are a word or a mapping, not {spec!r}", hint="write `offline`, or `slow: 2s`")
    fields: dict[str, Any] = {}
    for word, value in spec.items():
        fields |= _pair(word, value)
    return Faults(**fields)


def _pair(word: object, value: object) -> dict[str, Any]:
    known = _WORDS.get(word) if isinstance(word, str) else None
    if known is None:
        raise ConfigError(f"unknown fault {word!r}{nearest(str(word), _WORDS)}")
    field, read, example = known
    try:
        return {field: read(value)}
    except ValueError as error:
        raise ConfigError(f"fault {word}: {error}", hint=f"write `{word}: {example}`") from None


def _flag(value: object) -> bool:
    if value not in (True, False) or not isinstance(value, bool):
        raise ValueError(f"it is only true or false, not {value!r}")
    return value


def _seconds(value: object) -> float:
    match = _SECONDS.fullmatch(str(value).strip()) if _is_word(value) else None
    if match is None:
        raise ValueError(f"not a time: {value!r}")
    return float(match[1]) * _UNIT_S[match[2] or "s"]


def _share(value: object) -> float:
    match = _SHARE.fullmatch(str(value).strip()) if isinstance(value, str) else None
    if match is None or float(match[1]) > 100:
        raise ValueError(f"not a share of 0 % to 100 %: {value!r}")
    return float(match[1]) / 100


def _signed_bytes(value: object) -> int:
    match = _SIGNED.fullmatch(str(value).strip()) if _is_word(value) else None
    if match is None:
        raise ValueError(f"not a number of bytes, more or less: {value!r}")
    return size_bytes(match[2]) * (-1 if match[1] == "-" else 1)


def _names(value: object) -> frozenset[str]:
    """Read names of objects. `packs/` means all below it, and `all` means everything."""
    listed = [value] if isinstance(value, str) else value
    if not isinstance(listed, list | tuple) or not listed or not all(isinstance(name, str) and name for name in listed):
        raise ValueError(f"not an object's name, nor a list of them: {value!r}")
    return frozenset("" if name == "all" else name for name in listed)


def _partial(value: object) -> str:
    if value not in ("failing", "silent"):
        raise ValueError(f"expected failing or silent, not {value!r}")
    return str(value)


def _calls(value: object) -> frozenset[int]:
    listed = value if isinstance(value, list | tuple) else [value]
    if not all(isinstance(number, int) and not isinstance(number, bool) and number > 0 for number in listed):
        raise ValueError(f"not call numbers, counted from 1: {value!r}")
    return frozenset(listed)


def _number(value: object) -> int:
    if not _is_word(value) or not isinstance(value, int):
        raise ValueError(f"not a whole number: {value!r}")
    return value


def _is_word(value: object) -> bool:
    return isinstance(value, str | int | float) and not isinstance(value, bool)


_WORDS: dict[str, tuple[str, Callable[[object], Any], str]] = {
    "offline": ("offline", _flag, "true"),
    "hang": ("hang", _flag, "true"),
    "read-only": ("read_only", _flag, "true"),
    "full": ("full_after_bytes", size_bytes, "1MiB"),
    "slow": ("delay_s", _seconds, "2s"),
    "flaky": ("flaky", _share, "10%"),
    "failing-calls": ("fail_calls", _calls, "[3, 4]"),
    "partial-writes": ("partial_writes", _partial, "failing"),
    "damaged": ("damaged", _names, "packs/"),
    "stale": ("stale", _names, "all"),
    "omitted": ("omitted", _names, "packs/"),
    "invented": ("invented", _names, "packs/00/0000"),
    "wrong-size": ("size_error_bytes", _signed_bytes, "-100"),
    "share": ("share", _share, "10%"),
    "seed": ("seed", _number, "7"),
}
