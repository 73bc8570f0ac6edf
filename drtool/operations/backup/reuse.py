"""The stored data that a backup may reuse: only data with enough copies that count.

Invariants
    A pack on fewer than `minimum` visible sites is set aside: its chunks are not found in the index, so they are stored
    again from the source, and an unchanged file that needs one of them is read again.
    A pack whose every copy failed to be read in this run is also set aside.
"""

from collections.abc import Iterable, Iterator

from msgspec.structs import replace

from drtool.errors import DrtoolError
from drtool.manifest.records import SegmentRef
from drtool.model import counted, pack_object
from drtool.repository import Repository
from drtool.repository.evidence import Sites, fewest_sites, uncovered
from drtool.repository.reach import needed_chunks
from drtool.repository.writing import PackWritten
from drtool.trees import Entry, FileType, read_content


class Reuse:
    """The packs and index segments with too few copies at the start of a run, and the consequences for it."""

    def __init__(self, repository: Repository) -> None:
        self._repository = repository
        self._evidence = repository.evidence()
        policy = repository.view.state.policy
        self._promised, self._minimum = policy.copies, policy.minimum
        self._weak = self._evidence.weak_packs()
        self._weak_segments = self._evidence.weak_segments()
        self._set_aside()

    def _set_aside(self) -> None:
        repository = self._repository
        failed = repository.objects.unreadable
        self._weak |= {row.pack: Sites() for row in repository.index.packs() if pack_object(row.pack) in failed}
        few = frozenset(pack for pack, sites in self._weak.items() if len(sites) < self._minimum)
        repository.index.lost = few
        self._lost = uncovered(repository.index, few - repository.going_packs(repository.view))

    def warnings(self) -> Iterator[str]:
        """Yield what is stored again, and what only has too few copies."""
        away = sorted(self._evidence.inventory.unlisted)
        where = f" (out of reach: {', '.join(away)})" if away else ""
        if self._lost:
            few = "have no good copy" if self._minimum == 1 else f"have fewer than {self._minimum} good copies"
            words = f"{few if len(self._lost) > 1 else few.replace('have', 'has', 1)} at the sites that can be reached{where}"
            yield f"{counted(len(self._lost), 'pack')} {words}: the source's remaining part of it is stored again"

    def checked(self, entry: Entry) -> Entry:
        """Return an entry of the parent snapshot, altered so that no file matches it if its content must be stored
        again.
        """
        if entry.type != FileType.FILE or not self._repository.index.lost:
            return entry
        try:
            stored = all(chunk in self._repository.index for chunk in read_content(entry, self._repository.trees))
        except DrtoolError:  # the list of its chunks cannot be read
            stored = False
        return entry if stored else replace(entry, size_bytes=entry.size_bytes + 1)

    def note(self, packs: Iterable[PackWritten]) -> None:
        """Count the packs that this run stored."""
        for pack in packs:
            self._evidence.note(pack.pack, pack.size_bytes, pack.targets)

    def scarce_segments(self) -> list[SegmentRef]:
        """Return the index segments below the minimum that this host can store again."""
        return [ref for ref, sites in self._weak_segments.items() if len(sites) < self._minimum]

    def copies(self, root: bytes, written: int | None) -> int:
        """Return on how many sites all data of a snapshot is, at most the promised copies.

        `written`: the least of anything that this run stored. The index must hold this run's packs if any pack is weak.
        """
        live = {ref.id for ref in self._repository.view.state.segments}
        counts = [len(sites) for ref, sites in self._weak_segments.items() if ref.id in live]
        used = (len(sites) for pack, sites in self._weak.items() if pack not in self._repository.index.lost)
        counts.append(fewest_sites(self._repository, root, self._weak, min(used, default=self._promised)))
        if written is not None:
            counts.append(written)
        return min(self._promised, *counts)

    @property
    def is_short(self) -> bool:
        """Return whether a pack that may be reused is on fewer sites than promised."""
        return bool(self._weak.keys() - self._repository.index.lost)


def find_damage(repository: Repository, root: bytes) -> None:
    """Read every tree and list below `root`, so that packs with unreadable ones are known."""
    for _ in needed_chunks(repository, [root], lambda _error: None):
        pass
