"""The facts for the guards: the current listing of every target, known damage, and active faults.

Invariants
    A copy counts only if it is listed with its right size and not known to be damaged. Objects that the index does not name
    have no known good copies.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from datetime import datetime

from drtool.model import SiteName, TargetName, pack_object, segment_object, site_of
from drtool.plans.faults.guards import Active, CopyGroup, Facts, ObjectFacts, Victim, Voter
from drtool.repository import Repository
from drtool.repository.inventory import Inventory, take_inventory


class Standing:
    """A repository at one moment. Every target is listed once."""

    def __init__(self, repository: Repository) -> None:
        repository.load_index()
        self._repository = repository
        self.inventory: Inventory = take_inventory(repository.targets)
        self._expected = _expected(repository)
        self._damaged = {(target, name) for target, name in repository.findings.all()}

    def victim(self, target: TargetName, objects: Iterable[str] = ()) -> Victim:
        """Return a target and its chosen objects, as the guards need them."""
        listed = self.inventory.objects.get(target, {})
        return Victim(target=target, objects=tuple(self._object(name, listed) for name in sorted(set(objects))))

    def facts(self, now: datetime, kill_switch: str = "") -> Facts:
        """Return the facts for `judge`. `kill_switch` is the path of one that is on."""
        repository = self._repository
        manifest = repository.manifest.status()
        reachable = {row.site for row in manifest.acceptors if row.reachable and not row.problem}
        return Facts(
            now=now,
            sites=_sites(repository),
            voters=tuple(
                Voter(site=voter.site, target=voter.target, reachable=voter.site in reachable)
                for voter in repository.view.config.voters
            ),
            quorum=manifest.quorum.needed,
            groups=self._groups(),
            active=tuple(
                Active(run=record.run, kind=record.kind, victim=self.victim(record.target, record.objects))
                for record in repository.targets.overlays.in_force()
            ),
            kill_switch=kill_switch,
        )

    def _object(self, name: str, listed: Mapping[str, int]) -> ObjectFacts:
        size_bytes = self._expected.get(name, listed.get(name, 0))
        return ObjectFacts(name=name, size_bytes=size_bytes, copies=self._copies(name))

    def _copies(self, name: str) -> frozenset[TargetName]:
        size_bytes = self._expected.get(name)
        if size_bytes is None:
            return frozenset()
        holders = self.inventory.holders(name, size_bytes)
        return frozenset(target for target in holders if (target, name) not in self._damaged)

    def _groups(self) -> tuple[CopyGroup, ...]:
        groups = Counter(self._copies(name) for name in self._expected)
        return tuple(CopyGroup(copies=copies, objects=count) for copies, count in groups.items())


def _expected(repository: Repository) -> dict[str, int]:
    """Return every object that holds data, with its size, by name."""
    packs = {pack_object(pack.pack): pack.size_bytes for pack in repository.index.packs()}
    return packs | {segment_object(ref.id): ref.size_bytes for ref in repository.view.state.segments}


def _sites(repository: Repository) -> frozenset[SiteName]:
    return frozenset(site_of(name) for name in (*repository.target_rows(), *repository.targets.specs))
