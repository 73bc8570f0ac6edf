"""The share of each target in a ring, the share it should have, and the moves between two rings.

Shares and moves are measured on a fixed sample of names, since exact sums over eight walkers are infeasible. With the
default sample a share s is off by about sqrt((1 - s) / (16384 s)) of itself, one standard deviation.
"""

from collections import Counter
from collections.abc import Iterator
from functools import lru_cache

from blake3 import blake3
from msgspec import Struct

from drtool.model import PackId, TargetName
from drtool.ring.placement import Placement
from drtool.ring.reach import as_fraction, inclusion
from drtool.ring.ring import Ring

SAMPLE = 16384


class Movement(Struct, frozen=True, kw_only=True):
    """The fraction of all copies of the new ring that has to be written to another target."""

    fraction: float
    minimum_fraction: float


@lru_cache(maxsize=2)
def sample_packs(count: int) -> tuple[PackId, ...]:
    """Return the same `count` names each time, as evenly spread as real ones."""
    return tuple(PackId(blake3(b"drtool/1/ring/sample\0" + i.to_bytes(8, "big")).digest()) for i in range(count))


def expected_shares(ring: Ring) -> dict[TargetName, float]:
    """Return the fraction of all copies that each target is entitled to: by weight, but a site holds a pack only once."""
    places = min(ring.copies, len(ring.sites))
    return {name: held / max(1, places) for name, held in _entitled(ring).items()}


def shares(placement: Placement, sample: int = SAMPLE) -> dict[TargetName, float]:
    """Return the fraction of all copies that each target actually gets."""
    held = Counter(target for pack in sample_packs(sample) for target in placement.desired(pack))
    copies = held.total()
    return {target.name: held[target.name] / copies if copies else 0.0 for target in placement.ring.targets}


def movement(old: Placement, new: Placement, sample: int = SAMPLE) -> Movement:
    """Return the fraction that a change of the ring moves, and the least that any placement must move."""
    arrivals = sum(len(set(after).difference(before)) for before, after in _pairs(old, new, sample))
    places = min(new.ring.copies, len(new.ring.sites))
    if not places:
        return Movement(fraction=0.0, minimum_fraction=0.0)
    return Movement(
        fraction=arrivals / (sample * places), minimum_fraction=_least_arrivals(old.ring, new.ring) / places
    )


def _pairs(
    old: Placement, new: Placement, sample: int
) -> Iterator[tuple[tuple[TargetName, ...], tuple[TargetName, ...]]]:
    return ((old.desired(pack), new.desired(pack)) for pack in sample_packs(sample))


def _least_arrivals(old: Ring, new: Ring) -> float:
    """Return the copies per pack that must be written because their targets' entitlements grew."""
    before, after = _entitled(old), _entitled(new)
    return sum(max(0.0, held - before.get(name, 0.0)) for name, held in after.items())


def _entitled(ring: Ring) -> dict[TargetName, float]:
    """Return the copies per pack that each target is entitled to. They add up to `copies`."""
    weights = {site: ring.weight_of(site) for site in ring.sites}
    held = dict(zip(weights, inclusion(list(weights.values()), ring.copies), strict=True))
    entitled = dict.fromkeys((target.name for target in ring.targets), 0.0)
    for target in ring.active:
        entitled[target.name] = as_fraction(held[target.site]) * target.weight / weights[target.site]
    return entitled
