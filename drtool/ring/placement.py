"""Which targets hold an object: a weighted consistent-hash ring with failure domains."""

from bisect import bisect
from collections.abc import Iterator
from itertools import islice

from blake3 import blake3

from drtool.model import PackId, SiteName, TargetName, site_of
from drtool.ring.ring import Ring

METADATA_SITES = 5
_POINTS = 256


class Placement:
    """The ring laid out for lookups; build it once per ring."""

    def __init__(self, ring: Ring) -> None:
        self.ring = ring
        points: list[tuple[int, TargetName]] = []
        for target in ring.active:
            count = _POINTS * target.weight
            stream = blake3(b"drtool/1/ring" + target.name.encode()).digest(length=8 * count)
            points += ((int.from_bytes(stream[i : i + 8], "big"), target.name) for i in range(0, 8 * count, 8))
        points.sort()
        self._positions = [position for position, _ in points]
        self._owners = [owner for _, owner in points]

    def preference(self, pack: PackId) -> Iterator[TargetName]:
        """Every active target, best first; the first `copies` distinct sites met are where `pack` belongs."""
        start = bisect(self._positions, int.from_bytes(pack[:8], "big"))
        count = len(self._owners)
        return iter(dict.fromkeys(self._owners[(start + step) % count] for step in range(count)))

    def desired(self, pack: PackId) -> tuple[TargetName, ...]:
        """The `copies` targets, on distinct sites, where `pack` belongs; fewer if there are fewer sites."""
        return self._first_sites(pack, self.ring.copies)

    def metadata(self, name: bytes) -> tuple[TargetName, ...]:
        """Where a tree pack or an index segment belongs: one target on every site, of at most five sites."""
        return self._first_sites(PackId(name), METADATA_SITES)

    def _first_sites(self, pack: PackId, count: int) -> tuple[TargetName, ...]:
        return tuple(islice(self._one_a_site(pack), count))

    def _one_a_site(self, pack: PackId) -> Iterator[TargetName]:
        met: set[SiteName] = set()
        for target in self.preference(pack):
            if site_of(target) not in met:
                met.add(site_of(target))
                yield target
