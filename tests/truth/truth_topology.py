"""Where a history takes place: how many sites, how many copies, whether an arbiter votes. Pure: a seed gives one."""

import random
from dataclasses import dataclass

ARBITER = "arbiter"
"""Its site's name, and the directory's."""


@dataclass(frozen=True)
class Topology:
    sites: tuple[str, ...]
    """The sites that store."""
    copies: int
    arbiter: bool = False

    @property
    def bearable(self) -> int:
        """How many sites may be in trouble at once: neither data nor the quorum is lost with them."""
        return min(self.copies - 1, (len(self.sites) + self.arbiter - 1) // 2)

    @property
    def voters(self) -> tuple[str, ...]:
        return (*self.sites, *([ARBITER] if self.arbiter else []))

    def __str__(self) -> str:
        return f"{len(self.sites)} sites, {self.copies} copies{', an arbiter' if self.arbiter else ''}"


def _of(count: int, copies: int, *, arbiter: bool = False) -> Topology:
    return Topology(tuple("abcde"[:count]), copies, arbiter)


THREE = _of(3, 2)
_WEIGHTS: dict[Topology, int] = {
    THREE: 5,
    _of(2, 2, arbiter=True): 2,
    _of(3, 3): 1,
    _of(4, 2): 2,
    _of(4, 3): 2,
    _of(5, 2): 1,
    _of(5, 3): 2,
}


def topology(seed: int) -> Topology:
    draw = random.Random(f"topology {seed}")
    return draw.choices(list(_WEIGHTS), list(_WEIGHTS.values()))[0]
