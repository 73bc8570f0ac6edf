"""How many sites hold what, by the targets' listings."""

import time
from collections import Counter

from drtool.manifest.records import Snapshot
from drtool.model import SiteName, pack_object, segment_object, site_of
from drtool.repository import Repository
from drtool.repository.evidence import Evidence, fewest_sites
from drtool.repository.inventory import Inventory
from drtool.repository.losses import packs_nowhere

WALK_S = 5.0
"""So long all sources together may take to be walked, where copies are missing."""


class Copies:
    """On how many sites the data lies, by the listings and without the copies that are known to be damaged."""

    def __init__(self, repository: Repository, inventory: Inventory) -> None:
        evidence = Evidence(repository, inventory)
        self._repository = repository
        self._promised = repository.view.state.policy.copies
        self._segments = [len(sites) for sites in evidence.weak_segments().values()]
        self._weak = evidence.weak_packs()
        self.nowhere = packs_nowhere(repository, evidence)
        """The packs without a copy that counts."""
        self._used = [len(sites) for pack, sites in self._weak.items() if pack not in self.nowhere.unneeded]
        staying = self._weak.keys() - repository.going_packs(repository.view, to_read=True)
        self._staying = [len(self._weak[pack]) for pack in staying - self.nowhere.unneeded]
        self.below = len(staying - self.nowhere.all)
        """How many packs are on a site, and on fewer than promised; without those that prune takes away."""
        self._ends_at = time.monotonic() + WALK_S

    @property
    def fewest(self) -> int:
        """The fewest sites that hold any pack that stays, or any index segment, at most the promised copies."""
        return min((self._promised, *self._staying, *self._segments))

    def of(self, snapshot: Snapshot) -> int:
        """The fewest sites that hold any part of it. Where that takes too long, or a tree cannot be read: of anything at all."""
        floor = min(self._used, default=self._promised)
        found = fewest_sites(self._repository, snapshot.root, self._weak, floor, self._ends_at)
        return min((found, *self._segments))


def alone_at(repository: Repository, inventory: Inventory) -> dict[SiteName, int]:
    """How many packs and index segments only this site has, where more than one copy is promised; damaged copies do not count."""
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
