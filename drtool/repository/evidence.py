"""The stored copies that count, and the number of sites that hold the data, as observed by this run.

Invariants
    A copy counts if a target that was listed in this run has it with its size, unless a read found it damaged. Copies
    at unlisted targets do not count, regardless of the catalogue.
    Every target is listed once per run. Packs that the run stores itself are added to the listing.
    A chunk counts on every site that holds a pack with it. `status` and `backup` use the same functions.
"""

import time
from collections.abc import Collection, Iterable, Mapping
from typing import TYPE_CHECKING

from drtool.errors import DrtoolError
from drtool.manifest.records import SegmentRef
from drtool.model import ChunkId, PackId, SiteName, TargetName, pack_object, segment_object, site_of
from drtool.repository.findings import Copy
from drtool.repository.inventory import Inventory
from drtool.repository.reach import needed_chunks

if TYPE_CHECKING:
    from drtool.repository.index import Index
    from drtool.repository.repository import Repository

Sites = frozenset[SiteName]


class Evidence:
    """One listing of every target, without copies known to be damaged, plus packs stored since."""

    def __init__(self, repository: "Repository", inventory: Inventory) -> None:
        self._repository = repository
        self.inventory = inventory
        self._known = {pack.pack for pack in repository.index.packs()}
        self._written: dict[str, Sites] = {}
        self._listed = [(target, site_of(target), sizes) for target, sizes in inventory.objects.items()]

    def note(self, pack: PackId, size_bytes: int, targets: Collection[TargetName]) -> None:
        """Add a pack that this run made durable."""
        self._known.add(pack)
        self._written[pack_object(pack)] = frozenset(map(site_of, targets))
        self.note_copies(pack_object(pack), size_bytes, targets)

    def note_copies(self, name: str, size_bytes: int, targets: Iterable[TargetName]) -> None:
        """Add copies that this run made durable to the listing."""
        for target in targets:
            if target in self.inventory.objects:
                self.inventory.objects[target][name] = size_bytes

    def covers(self, index: "Index") -> bool:
        """Return whether every pack of the index existed when the targets were listed, or was added since."""
        return all(pack.pack in self._known for pack in index.packs())

    def sites(self, name: str, size_bytes: int, bad: Collection[Copy]) -> Sites:
        """Return the sites with a copy of the object that is not among the bad ones."""
        found = {
            site for target, site, sizes in self._listed if sizes.get(name) == size_bytes and (target, name) not in bad
        }
        written = self._written.get(name)
        return frozenset(found) if written is None else written.union(found)

    def weak_packs(self) -> dict[PackId, Sites]:
        """Return the packs on fewer sites than promised, with their sites. A pack that prune has condemned is on none."""
        repository, bad = self._repository, self._repository.bad_copies()
        weak = dict.fromkeys(repository.going_packs(repository.view, to_read=True), Sites())
        for row in repository.index.packs():
            sites = self.sites(pack_object(row.pack), row.size_bytes, bad) if row.pack not in weak else Sites()
            if len(sites) < repository.view.state.policy.copies:
                weak[row.pack] = sites
        return weak

    def weak_segments(self) -> dict[SegmentRef, Sites]:
        """Return the live, mapped index segments on fewer sites than promised, with their sites."""
        state, mapped = self._repository.view.state, self._repository.index.mapped()
        refs = [ref for ref in state.segments if ref.id in mapped]
        bad = self._repository.bad_copies()
        found = {ref: self.sites(segment_object(ref.id), ref.size_bytes, bad) for ref in refs}
        return {ref: sites for ref, sites in found.items() if len(sites) < state.policy.copies}


def uncovered(index: "Index", packs: Collection[PackId]) -> set[PackId]:
    """Return those of `packs` with a chunk that no other pack of the index holds."""
    found: set[PackId] = set()
    if not packs:
        return found
    for reader in index.readers():
        numbers = {number for number, row in enumerate(reader.packs) if row.pack in packs}
        for row in reader.rows() if numbers else ():
            number = int.from_bytes(row[32:36], "big")
            if number not in numbers or reader.packs[number].pack in found:
                continue
            if all(place.pack.pack in packs for place in index.everywhere(ChunkId(row[:32]))):
                found.add(reader.packs[number].pack)
    return found


def fewest_sites(
    repository: "Repository",
    root: bytes,
    weak: Mapping[PackId, Sites],
    floor: int,
    ends_at: float | None = None,
) -> int:
    """Return on how many sites the scarcest chunk below `root` is, at most the promised copies.

    Without weak packs the tree is not walked. The walk ends early at `floor`, the least of any pack. If it is not
    finished at `ends_at`, or if a tree cannot be read, the result is `floor`.
    """
    fewest = promised = repository.view.state.policy.copies
    if not weak or floor >= promised:
        return fewest
    failed: list[DrtoolError] = []
    for chunk in needed_chunks(repository, [root], failed.append, repository.trees):
        if failed or (ends_at is not None and time.monotonic() >= ends_at):
            return floor
        fewest = min(fewest, sites_of(repository.index, chunk, weak, promised))
        if fewest <= floor:
            break
    return floor if failed else fewest


def sites_of(index: "Index", chunk: ChunkId, weak: Mapping[PackId, Sites], promised: int) -> int:
    """Return on how many sites a chunk is, at most `promised`."""
    held: set[SiteName] = set()
    for place in index.everywhere(chunk):
        sites = weak.get(place.pack.pack)
        if sites is None:
            return promised
        held |= sites
    return min(promised, len(held))
