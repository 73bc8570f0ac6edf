"""What is left of what is needed after a loss: pure.

Targets are bits. A chunk is needed from any of the places that hold it: a pack, and an index segment that names it there. A
snapshot's need is the set of the needs of its chunks; there are few distinct ones, since few sets of targets hold packs.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import combinations
from typing import TypeAlias

from drtool.model import SiteName, TargetName

Mask: TypeAlias = int
"""One bit for each target."""

Need: TypeAlias = frozenset[tuple[Mask, Mask]]
"""Places to have something from, each as the targets with the pack and the targets with its index segment. Empty: nowhere."""

NOWHERE: Need = frozenset()


class Bits:
    """Which bit stands for which target."""

    def __init__(self, targets: Iterable[TargetName]) -> None:
        self._bits = {name: 1 << number for number, name in enumerate(sorted(targets))}

    def mask(self, targets: Iterable[TargetName]) -> Mask:
        """The bits of those among the targets that are known."""
        mask = 0
        for name in targets:
            mask |= self._bits.get(name, 0)
        return mask


def is_met(need: Need, lost: Mask) -> bool:
    """Whether some place is left whole."""
    return any(pack & ~lost and segment & ~lost for pack, segment in need)


def are_met(needs: Iterable[Need], lost: Mask) -> bool:
    """Whether everything is left somewhere."""
    return all(is_met(need, lost) for need in needs)


def losses(sites: Sequence[SiteName]) -> list[tuple[SiteName, ...]]:
    """Each site, and each pair of sites, if there is a third."""
    pairs = combinations(sites, 2) if len(sites) > 2 else ()
    return [*((site,) for site in sites), *pairs]


def sites_that_suffice(
    storing: Collection[SiteName],
    opening: Collection[SiteName],
    copies: int,
    segments: int,
) -> int | None:
    """Return the smallest number such that any so many of the storing sites restore everything; None if not even all do.

    A pack lies on `copies` of them and what names it on `segments`; the worst of all placements is judged. Each site
    that stores holds the catalogue, and a key slot if it is among those that are `opening`.
    """
    order = sorted(storing)
    bits = Bits([TargetName(site) for site in order])
    worst: Need = frozenset(
        {(bits.mask(map(TargetName, order[:copies])), bits.mask(map(TargetName, order[:segments])))}
    )
    for number in range(1, len(order) + 1):
        lost = bits.mask(map(TargetName, order[: len(order) - number]))
        if number > len(set(order) - set(opening)) and is_met(worst, lost):
            return number
    return None


def named_targets(
    words: Collection[str], by_site: Mapping[SiteName, Collection[TargetName]]
) -> tuple[frozenset[TargetName], list[str]]:
    """The targets that sites' and targets' names mean, and the words that mean nothing."""
    every = {name for names in by_site.values() for name in names}
    meant: set[TargetName] = set()
    unknown = []
    for word in words:
        if SiteName(word) in by_site:
            meant |= set(by_site[SiteName(word)])
        elif TargetName(word) in every:
            meant.add(TargetName(word))
        else:
            unknown.append(word)
    return frozenset(meant), unknown
