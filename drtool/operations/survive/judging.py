"""Assessment of a loss: which needs are still met. Pure.

Targets are bits. A chunk can come from any place that holds it: a pack together with an index segment that names the
chunk there. A snapshot's need is the set of the needs of its chunks. Few of them are distinct, since few sets of
targets hold packs.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import combinations
from typing import TypeAlias

from drtool.model import SiteName, TargetName

Mask: TypeAlias = int
"""One bit for each target."""

Need: TypeAlias = frozenset[tuple[Mask, Mask]]
"""The places of a chunk, each as the targets with the pack and the targets with its index segment. Empty: no place."""

NOWHERE: Need = frozenset()


class Bits:
    """The bit of each target."""

    def __init__(self, targets: Iterable[TargetName]) -> None:
        self._bits = {name: 1 << number for number, name in enumerate(sorted(targets))}

    def mask(self, targets: Iterable[TargetName]) -> Mask:
        """Return the bits of the known ones among the targets."""
        mask = 0
        for name in targets:
            mask |= self._bits.get(name, 0)
        return mask


def is_met(need: Need, lost: Mask) -> bool:
    """Return whether some place survives the loss."""
    return any(pack & ~lost and segment & ~lost for pack, segment in need)


def are_met(needs: Iterable[Need], lost: Mask) -> bool:
    """Return whether every need is met after the loss."""
    return all(is_met(need, lost) for need in needs)


def losses(sites: Sequence[SiteName]) -> list[tuple[SiteName, ...]]:
    """Return each site, and each pair of sites if there are more than two."""
    pairs = combinations(sites, 2) if len(sites) > 2 else ()
    return [*((site,) for site in sites), *pairs]


def sites_that_suffice(
    storing: Collection[SiteName],
    opening: Collection[SiteName],
    copies: int,
    segments: int,
) -> int | None:
    """Return the smallest number such that any so many of the storing sites restore everything, or None if all do not.

    A pack is on `copies` of them and its index segment on `segments`. The worst of all placements counts. Each storing
    site holds the catalogue, and a key slot if it is in `opening`.
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
    """Return the targets that the names of sites and targets mean, and the names without a meaning."""
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
