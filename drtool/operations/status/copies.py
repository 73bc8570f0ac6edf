"""The number of sites that hold each object, from the targets' listings."""

import time
from collections import Counter

from drtool.manifest.records import Snapshot
from drtool.model import SiteName, pack_object, segment_object, site_of
from drtool.repository import Repository
from drtool.repository.evidence import Evidence, fewest_sites
from drtool.repository.inventory import Inventory
from drtool.repository.losses import packs_nowhere

WALK_S = 5.0
"""Limit on walking the trees of all sources, which is needed where copies are missing."""


class Copies:
    """The number of sites that hold the data, from the listings and without copies known to be damaged."""

    def __init__(self, repository: Repository, inventory: Inventory) -> None:
        evidence = Evidence(repository, inventory)
        self._repository = repository
        self._promised = repository.view.state.policy.copies
        self._segments = [len(sites) for sites in evidence.weak_segments().values()]
        self._weak = evidence.weak_packs()
        self.nowhere = packs_nowhere(repository, evidence)
        """The packs without a good copy."""
        self._used = [len(sites) for pack, sites in self._weak.items() if pack not in self.nowhere.unneeded]
        staying = self._weak.keys() - repository.going_packs(repository.view, to_read=True)
        self._staying = [len(self._weak[pack]) for pack in staying - self.nowhere.unneeded]
        self.below = len(staying - self.nowhere.all)
        """How many packs are on at least one site, but on fewer than promised, without those that prune removes."""
        self._ends_at = time.monotonic() + WALK_S

    @property
    def fewest(self) -> int:
        """Return the smallest number of sites of any remaining pack or index segment, at most the promised copies."""
        return min((self._promised, *self._staying, *self._segments))

    def of(self, snapshot: Snapshot) -> int:
        """Return the smallest number of sites of any part of a snapshot.

        If that takes too long or a tree cannot be read, return that of anything at all.
        """
        floor = min(self._used, default=self._promised)
        found = fewest_sites(self._repository, snapshot.root, self._weak, floor, self._ends_at)
        return min((found, *self._segments))


def alone_at(repository: Repository, inventory: Inventory) -> dict[SiteName, int]:
    """Return how many packs and index segments are only at each site although more copies are promised.

    Damaged ones do not count.
    """
    if repository.view.state.policy.copies < 2:
        return {}
    damaged = repository.findings.all()
    packs = {pack_object(pack.pack): pack.size_bytes for pack in repository.index.packs()}
    segments = {segment_object(ref.id): ref.size_bytes for ref in repository.view.state.segments}
    found: Counter[SiteName] = Counter()
    for name, size_bytes in (packs | segments).items():
        sites = {site_of(target) for target in inventory.holders(name, size_bytes) if (target, name) not in damaged}
        if len(sites) == 1:
            found.update(sites)
    return dict(sorted(found.items()))
