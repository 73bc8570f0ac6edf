"""What a step waits for: `other`, `other:started`, `fault:injected`."""

import re
from typing import Literal

from msgspec import Struct

_NEED = re.compile(r"([a-z0-9][a-z0-9_-]{0,63})(?::(started|injected))?", re.ASCII)


class Need(Struct, frozen=True):
    """`ended`: it ended well; `started`: it has begun; `injected`: the fault is in force, and held until we end."""

    step: str
    state: Literal["ended", "started", "injected"] = "ended"

    def __str__(self) -> str:
        return self.step if self.state == "ended" else f"{self.step}:{self.state}"


def need(text: object) -> Need:
    """Raises ValueError."""
    match = _NEED.fullmatch(text) if isinstance(text, str) else None
    if match is None:
        raise ValueError(f"not a step's id, nor ID:started or ID:injected: {text!r}")
    state: Literal["ended", "started", "injected"] = (
        "started" if match[2] == "started" else "injected" if match[2] == "injected" else "ended"
    )
    return Need(match[1], state)
