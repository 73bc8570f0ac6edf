"""How many sites hold what, by the targets' listings."""

import time
from collections import Counter

from drtool.errors import DrtoolError
from drtool.manifest.records import Snapshot
from drtool.model import SiteName, pack_object, segment_object, site_of
from drtool.repository import Repository
from drtool.repository.inventory import Inventory
from drtool.repository.placement import distinct_sites
from drtool.repository.reach import needed_chunks

WALK_S = 5.0
"""So long all sources together may take to be walked, where copies are missing."""


class Copies:
    """On how many sites things are, by the listings."""

    def __init__(self, repository: Repository, inventory: Inventory) -> None:
        self._repository = repository
        self._sites = {
            pack.pack: distinct_sites(inventory.holders(pack_object(pack.pack), pack.size_bytes))
            for pack in repository.index.packs()
        }
        promised = repository.view.state.policy.copies
        self.fewest = min(self._sites.values(), default=None)
        self.below = sum(sites < promised for sites in self._sites.values())
        """How many packs are on fewer than promised."""
        self._ends_at = time.monotonic() + WALK_S

    def of(self, snapshot: Snapshot) -> int | None:
        """The fewest sites that hold any pack of it. Where that takes too long, or a tree cannot be read: of any pack at all."""
        if not self.below:
            return self.fewest
        found: int | None = None
        try:
            for chunk in needed_chunks(self._repository, [snapshot.root]):
                location = self._repository.index.locate(chunk)
                if location is None or time.monotonic() >= self._ends_at:
                    return self.fewest
                sites = self._sites[location.pack.pack]
                found = sites if found is None else min(found, sites)
                if found == self.fewest:
                    return found
        except DrtoolError:  # verify says which; what it lies in may be gone everywhere
            return self.fewest
        return found


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
