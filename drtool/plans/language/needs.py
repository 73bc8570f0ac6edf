"""Dependencies of a step: `other`, `other:started`, `fault:injected`."""

import re
from typing import Literal

from msgspec import Struct

_NEED = re.compile(r"([a-z0-9][a-z0-9_-]{0,63})(?::(started|injected))?", re.ASCII)


class Need(Struct, frozen=True):
    """A dependency on another step.

    `ended`: it ended well. `started`: it has begun. `injected`: the fault is active, and stays so until this step ends.
    """

    step: str
    state: Literal["ended", "started", "injected"] = "ended"

    def __str__(self) -> str:
        return self.step if self.state == "ended" else f"{self.step}:{self.state}"


def need(text: object) -> Need:
    """Read one entry of `needs`. Raises ValueError."""
    match = _NEED.fullmatch(text) if isinstance(text, str) else None
    if match is None:
        raise ValueError(f"expected a step's id, ID:started or ID:injected, not {text!r}")
    state: Literal["ended", "started", "injected"] = (
        "started" if match[2] == "started" else "injected" if match[2] == "injected" else "ended"
    )
    return Need(match[1], state)
