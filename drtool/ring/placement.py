"""The targets of an object: a weighted consistent-hash ring with virtual nodes and failure domains.

The ring is the numbers below 2**30. A target has virtual nodes on it, in number proportional to its weight. A pack has
eight places on it, and a walker leaves each at the same pace. A target is met when the first walker reaches one of its
nodes. The first `copies` distinct sites met hold the pack, each on the target that was met there.

Eight walkers reduce the effect of uneven gaps: with one walker, 256 nodes leave the worst of fifty equal targets 14 %
off, and with eight 4 % (measured; Appleton & O'Reilly 2015, "Multi-probe consistent hashing").
Reach: a site's nodes are met earlier or later than their positions, by the factor that makes shares follow weights
(`reach.py`).

Invariants
    A pack's targets are on distinct sites. Every active target is in the preference list once, and others never.
    A target's nodes depend only on its name and weight, and a pack's places only on its name, for ever and on every
    host.

Source: Karger et al. 1997 (the ring); DeCandia et al. 2007, sections 4.2-4.3 (virtual nodes, preference lists).
"""

from array import array
from bisect import bisect_left
from collections.abc import Iterator
from heapq import heapify, heappop, heappush, heapreplace
from itertools import islice, repeat
from struct import unpack

from blake3 import blake3

from drtool.model import PackId, TargetName
from drtool.ring.reach import REACH_ONE, reaches
from drtool.ring.ring import Ring, RingTarget

METADATA_SITES = 5
"""Trees and index segments are on every site, up to this many."""

WALKERS = 8
NODES_PER_WEIGHT = 256
MAX_NODES_WEIGHT = 4
"""A heavier target gets no more nodes, but a longer reach, so weights may be in terabytes or gigabytes alike."""

_NODE_CONTEXT = b"drtool/1/ring/node\0"
_PLACE_CONTEXT = b"drtool/1/ring/place\0"
_RING_MASK = (1 << 30) - 1  # thirty bits: integers that CPython sorts and compares fastest


def node_positions(target: TargetName, weight: int) -> tuple[int, ...]:
    """Return the target's virtual nodes: the first 30 bits of successive 32-bit words of BLAKE3(context ‖ name)."""
    count = NODES_PER_WEIGHT * min(weight, MAX_NODES_WEIGHT)
    return _words(_NODE_CONTEXT + target.encode(), count)


def pack_places(pack: bytes) -> tuple[int, ...]:
    """Return the ring places where a pack's eight walkers start. They come from its name as nodes do from a target's."""
    return _words(_PLACE_CONTEXT + pack, WALKERS)


def _words(message: bytes, count: int) -> tuple[int, ...]:
    return tuple([word >> 2 for word in unpack(f">{count}I", blake3(message).digest(length=4 * count))])


class Placement:
    """The ring laid out for lookups. Build it once per ring, and share it between threads."""

    def __init__(self, ring: Ring) -> None:
        self.ring = ring
        self._targets = ring.active
        self._names = [target.name for target in self._targets]
        self._sites = [target.site for target in self._targets]
        owner_at: dict[int, int] = {}
        for owner, target in enumerate(self._targets):
            # of two nodes at one place, that of the last target by name counts
            owner_at.update(zip(node_positions(target.name, target.weight), repeat(owner), strict=False))
        nodes = sorted(owner_at)
        self._positions = array("I", nodes)
        self._owners = array("I", map(owner_at.__getitem__, nodes))
        by_site = dict(
            zip(ring.sites, reaches([ring.weight_of(site) for site in ring.sites], ring.copies), strict=True)
        )
        self._certain = frozenset(site for site, reach in by_site.items() if reach is None)
        self._reaches = [_target_reach(target, by_site[target.site]) for target in self._targets]
        self._longest = max(self._reaches, default=REACH_ONE)

    def preference(self, pack: PackId) -> Iterator[TargetName]:
        """Yield every active target, best first. `pack` belongs on the first `copies` distinct sites."""
        return (self._names[owner] for owner in self._order(pack))

    def desired(self, pack: PackId) -> tuple[TargetName, ...]:
        """Return the `copies` targets, on distinct sites, where `pack` belongs, or fewer if there are fewer sites."""
        return tuple(islice(self._one_a_site(pack), self.ring.copies))

    def metadata(self, name: bytes) -> tuple[TargetName, ...]:
        """Return where a pack of trees or an index segment belongs: one target on every site, of at most five sites."""
        return tuple(islice(self._one_a_site(name), METADATA_SITES))

    def _one_a_site(self, pack: bytes) -> Iterator[TargetName]:
        left = set(self._sites)
        for owner in self._order(pack):
            site = self._sites[owner]
            if site in left:
                left.remove(site)
                yield self._names[owner]
                if not left:
                    return

    def _order(self, pack: bytes) -> Iterator[int]:
        """Yield the active targets as they are met, after one of every certain site."""
        if not self._certain:
            yield from self._met(pack)
            return
        waiting, later = set(self._certain), []
        walk = self._met(pack)
        for owner in walk:
            site = self._sites[owner]
            if site not in waiting:
                later.append(owner)
                continue
            waiting.remove(site)
            yield owner
            if not waiting:
                break
        yield from later
        yield from walk

    def _met(self, pack: bytes) -> Iterator[int]:
        """Yield targets by the distance at which they are met: the position of their nodes divided by their reach."""
        pending: list[tuple[int, int]] = []
        for distance, owner in self._passed(pack):
            # every node passed from here on is met no earlier than this
            horizon = (distance << 32) // self._longest
            while pending and pending[0][0] < horizon:
                yield heappop(pending)[1]
            heappush(pending, ((distance << 32) // self._reaches[owner], owner))
        while pending:
            yield heappop(pending)[1]

    def _passed(self, pack: bytes) -> Iterator[tuple[int, int]]:
        """Yield each target once, with the distance to the first of its nodes that any walker passes, in that order."""
        positions, owners = self._positions, self._owners
        count, unseen = len(positions), set(range(len(self._targets)))
        if not unseen:
            return
        walkers = []
        for place in pack_places(pack):
            index = bisect_left(positions, place) % count
            walkers.append(((positions[index] - place) & _RING_MASK, index, place))
        heapify(walkers)
        while unseen:
            distance, index, place = walkers[0]
            owner = owners[index]
            if owner in unseen:
                unseen.remove(owner)
                yield distance, owner
            index = (index + 1) % count
            heapreplace(walkers, ((positions[index] - place) & _RING_MASK, index, place))


def _target_reach(target: RingTarget, site_reach: int | None) -> int:
    """Return the site's reach, times the part of the target's weight beyond its number of nodes."""
    reach = REACH_ONE if site_reach is None else site_reach
    return reach * target.weight // min(target.weight, MAX_NODES_WEIGHT)
