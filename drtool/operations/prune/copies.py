"""The number of sites that hold an object, so that no rewrite leaves fewer copies than before.

Invariants
    A target that cannot be listed counts as having the objects written to it, since its copies come back with it.
"""

from collections.abc import Collection, Iterable

from drtool.manifest.records import SegmentRef
from drtool.model import PackId, TargetName, pack_object, segment_object, site_of
from drtool.operations.prune.plan import PackUse
from drtool.repository import Repository
from drtool.repository.copying import is_whole
from drtool.repository.findings import Copy
from drtool.repository.inventory import Inventory
from drtool.repository.placement import distinct_sites


class Copies:
    """The objects that the targets list, and those that were written to targets that cannot be listed."""

    def __init__(self, repository: Repository, inventory: Inventory, damaged: Collection[Copy] = ()) -> None:
        """`damaged`: copies that were found damaged in this run."""
        self._repository, self._inventory, self._damaged = repository, inventory, damaged
        self._packs = {row.pack: row for row in repository.index.packs()}
        self._named_at: dict[PackId, int] = {}
        mapped = set(repository.index.mapped())
        for ref in repository.view.state.segments:
            sites = self._of_segment(ref)
            for row in repository.index.reader(ref.id).packs if ref.id in mapped else ():
                self._named_at[row.pack] = max(sites, self._named_at.get(row.pack, 0))

    def of(self, pack: PackId) -> int:
        """Return how many sites have, or may have, a pack that the index names."""
        return distinct_sites(self.holders(pack))

    def holders(self, pack: PackId) -> list[TargetName]:
        """Return the targets that have, or may have, a pack that the index names."""
        row = self._packs[pack]
        return self._holders(pack_object(pack), row.size_bytes, row.targets)

    def listed(self, pack: PackId) -> list[TargetName]:
        """Return the reachable targets that list a pack whole."""
        row = self._packs[pack]
        return self._listed(pack_object(pack), row.size_bytes)

    def findable(self, pack: PackId) -> int:
        """Return on how many sites both the pack and an index segment that names it are."""
        return min(self.of(pack), self._named_at.get(pack, 0))

    def needed(self, pack: PackId) -> int:
        """Return on how many sites its contents must be before it is removed: the promised number, or fewer if fewer
        have it.
        """
        return min(self._repository.view.state.policy.copies, self.of(pack))

    def needed_of_segment(self, ref: SegmentRef) -> int:
        """Return the same for an index segment."""
        return min(self._repository.view.state.policy.copies, self._of_segment(ref))

    def owed(self, refs: Iterable[SegmentRef]) -> int:
        """Return how many full sites must get index segments later, when removals have freed space."""
        held = {site_of(target) for ref in refs for target in ref.targets}
        return len({site_of(target) for target in self._repository.targets.full} - held)

    @property
    def writable_sites(self) -> int:
        """Return how many sites accept new objects now."""
        targets = self._repository.targets
        ring = {row.name for row in self._repository.view.state.ring.targets if row.state == "active"}
        return distinct_sites(name for name in targets.storing() if name in ring and targets.writable(name))

    def refusal(self, use: PackUse) -> str:
        """Return why a pack cannot be rewritten now without losing copies, or an empty string if it can."""
        needed, writable = self.needed(use.pack), self.writable_sites
        return (
            f"{writable} sites accept packs now, but its live contents must be on {needed}" if writable < needed else ""
        )

    def _of_segment(self, ref: SegmentRef) -> int:
        held = distinct_sites(self._holders(segment_object(ref.id), ref.size_bytes, ref.targets))
        return held or distinct_sites(ref.targets)  # for a segment newer than the listing, nothing else is known

    def _holders(self, name: str, size_bytes: int, written: tuple[TargetName, ...]) -> list[TargetName]:
        unseen = [t for t in written if self._repository.may_hold(t, self._inventory)]
        return [*self._listed(name, size_bytes), *unseen]

    def _listed(self, name: str, size_bytes: int) -> list[TargetName]:
        listed = self._inventory.holders(name, size_bytes)
        return [t for t in listed if (t, name) not in self._damaged and not self._repository.known_bad(t, name)]


def sites_with(repository: Repository, name: str, written: Iterable[TargetName]) -> int:
    """Read back the objects just written, and return on how many sites they are whole."""
    return distinct_sites(target for target in written if is_whole(repository.targets, target, name))
