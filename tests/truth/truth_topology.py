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
    voteless: tuple[str, ...] = ()
    """Those of the sites that only store."""

    @property
    def bearable(self) -> int:
        """How many sites may be in trouble at once: neither data nor the quorum is lost with them."""
        return min(self.copies - 1, (len(self.voters) - 1) // 2)

    @property
    def voters(self) -> tuple[str, ...]:
        return (*(site for site in self.sites if site not in self.voteless), *([ARBITER] if self.arbiter else []))

    @property
    def every(self) -> tuple[str, ...]:
        """The sites that store, and the arbiter's."""
        return tuple(dict.fromkeys((*self.sites, *self.voters)))

    def __str__(self) -> str:
        besides = [*(["an arbiter"] if self.arbiter else []), *(["some never vote"] if self.voteless else [])]
        return ", ".join([f"{len(self.sites)} sites", f"{self.copies} copies", *besides])


def _of(count: int, copies: int, *, arbiter: bool = False) -> Topology:
    return Topology(tuple("abcde"[:count]), copies, arbiter)


THREE = _of(3, 2)
MUTE = Topology(tuple("abcd"), 2, True, ("c", "d"))
"""Two sites and an arbiter vote, and two only store."""
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
