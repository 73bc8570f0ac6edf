"""Quantities as people write them in files and options: sizes."""

import re

_SIZE = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*([KMGTPE]i?)?B?", re.IGNORECASE)
_POWERS = {letter: power for power, letter in enumerate("KMGTPE", 1)}


def size_bytes(text: object) -> int:
    """`256MiB` is 256 · 2^20, `20 MB` is 20 · 10^6, a plain number is bytes. Raises ValueError."""
    match = _SIZE.fullmatch(str(text).strip()) if isinstance(text, str | int) and not isinstance(text, bool) else None
    if match is None:
        raise ValueError(f"not a size (write 256MiB, 20GB or a number of bytes): {text!r}")
    number, prefix = match.groups()
    base = 1024 if prefix and prefix.lower().endswith("i") else 1000
    return int(float(number) * base ** _POWERS.get((prefix or " ")[0].upper(), 0)) if prefix else int(float(number))
