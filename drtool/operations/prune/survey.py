"""The stored objects and the live part of them: the basis of a prune, read once from one view of the manifest.

Invariants
    If anything that a snapshot needs cannot be read, no pack is known to be unused, so nothing is removed.
    A pack that a target may hold, though it cannot be listed now, is not lost.
"""

from collections.abc import Callable, Collection, Iterator

from msgspec import Struct

from drtool.errors import DrtoolError, Refused
from drtool.manifest.facade import View
from drtool.manifest.pages import NameList
from drtool.manifest.records import Condemned, Removal
from drtool.model import ChunkId, PackId, SegmentId, pack_object, segment_object
from drtool.operations.prune.copies import Copies
from drtool.operations.prune.grace import Grace
from drtool.operations.prune.plan import PackUse
from drtool.repository import Repository
from drtool.repository.findings import Copy
from drtool.repository.inventory import Inventory, take_inventory
from drtool.repository.marking import Marks

NAME_BYTES = 32


class Names(Struct, frozen=True):
    """Packs and index segments by name."""

    packs: frozenset[PackId] = frozenset()
    segments: frozenset[SegmentId] = frozenset()

    def listed(self) -> NameList:
        return NameList(b"".join(sorted(self.packs)), b"".join(sorted(self.segments)))

    def objects(self) -> Iterator[str]:
        yield from map(pack_object, sorted(self.packs))
        yield from map(segment_object, sorted(self.segments))

    def __bool__(self) -> bool:
        return bool(self.packs or self.segments)


def names_of(listed: NameList) -> Names:
    """Return the names in a list of the manifest."""
    return Names(
        frozenset(map(PackId, _split(listed.packs))),
        frozenset(map(SegmentId, _split(listed.segments))),
    )


def _split(joined: bytes) -> Iterator[bytes]:
    return (joined[at : at + NAME_BYTES] for at in range(0, len(joined), NAME_BYTES))


def unasked() -> None:
    """Do nothing: the default where no sign of life is needed."""


class Survey(Struct, frozen=True):
    """One survey: the view, the listings, the live data, the use of each pack, and objects that no index names."""

    view: View
    inventory: Inventory
    marks: Marks
    uses: tuple[PackUse, ...]
    orphans: Names
    orphan_bytes: int
    lost: frozenset[PackId]
    grace: Grace
    copies: Copies
    condemned: Names

    def without_copy(self) -> set[PackId]:
        """Return the packs with live data that have no good copy, and none that may be at an unreachable target."""
        return {use.pack for use in self.uses if use.live_bytes and not self.copies.holders(use.pack)}


def listed_names(repository: Repository, *rows: Condemned | Removal | None) -> Names:
    """Return the union of the names that these rows of the manifest list."""
    packs, segments = Names().packs, Names().segments
    for row in rows:
        if row is not None:
            listed = names_of(repository.manifest.names_in(row.objects))
            packs |= listed.packs
            segments |= listed.segments
    return Names(packs, segments)


def survey(
    repository: Repository,
    view: View,
    grace: Grace,
    alive: Callable[[], None] = unasked,
    damaged: Collection[Copy] = (),
) -> Survey:
    """Survey everything. `Refused` if something needed cannot be read. `alive` is called repeatedly.

    `damaged`: copies that were found damaged in this run, which do not count.
    """
    repository.adopt(view)
    condemned = listed_names(repository, view.state.condemned)
    removing = listed_names(repository, *view.state.removing)
    demand_index(repository)
    inventory = take_inventory(repository.targets)
    lost = repository.lost_packs(inventory)
    repository.index.lost = lost
    copies = Copies(repository, inventory, damaged)
    marks = Marks(repository.index.readers(), condemned.packs | removing.packs | lost, copies.findable)
    going = grace.going(view.state.forgotten)
    waiting = (row.snapshot for row in view.state.forgotten if row.snapshot.id not in going)
    roots = [row.root for row in (*view.state.snapshots, *waiting)]

    def fetch(chunk: ChunkId) -> bytes:
        alive()
        return repository.trees(chunk)

    try:
        marks.mark_trees(reversed(roots), fetch)
    except KeyError as error:
        raise _unknown(f"chunk {error.args[0].hex()[:16]}… is in no index segment") from None
    except DrtoolError as error:
        raise _unknown(error.message) from error
    uses = tuple(_uses(repository, marks, condemned.packs | removing.packs))
    orphans = _orphans(repository, inventory, condemned, removing)
    size_bytes = sum(_sizes(inventory).get(name, 0) for name in orphans.objects())
    return Survey(view, inventory, marks, uses, orphans, size_bytes, lost, grace, copies, condemned)


def demand_index(repository: Repository) -> None:
    """Raise `Refused` unless every index segment of the view can be read."""
    for segment, why in repository.load_index().items():
        raise _unknown(f"index segment {segment.hex()[:16]}… cannot be read: {why}")


def _unknown(why: str) -> Refused:
    return Refused(
        f"the data that snapshots need cannot be determined, so nothing was removed: {why}",
        hint="bring missing targets back, then run `drtool repair`, which also rebuilds the index (see also `drtool verify`)",
    )


def _uses(repository: Repository, marks: Marks, elsewhere: frozenset[PackId]) -> Iterator[PackUse]:
    """Yield each pack that the index names once, except those that are already being removed."""
    seen: set[PackId] = set()
    for row in repository.index.packs():
        if row.pack not in seen and row.pack not in elsewhere:
            seen.add(row.pack)
            yield PackUse(row.pack, row.size_bytes, row.text_bytes, marks.live_bytes.get(row.pack, 0))


def _orphans(repository: Repository, inventory: Inventory, condemned: Names, removing: Names) -> Names:
    """Return the listed objects that neither the index nor the manifest names, left by dead runs or merged segments."""
    packs = {row.pack for row in repository.index.packs()} | condemned.packs | removing.packs
    segments = {ref.id for ref in repository.view.state.segments} | condemned.segments | removing.segments
    listed = {name for objects in inventory.objects.values() for name in objects}
    found_packs = (PackId(name) for name in map(_hash_in, (n for n in listed if n.startswith("packs/"))) if name)
    found_segments = (SegmentId(name) for name in map(_hash_in, (n for n in listed if n.startswith("index/"))) if name)
    return Names(frozenset(found_packs) - packs, frozenset(found_segments) - segments)


def _hash_in(name: str) -> bytes | None:
    digits = name.rpartition("/")[2]
    try:
        return bytes.fromhex(digits) if len(digits) == 2 * NAME_BYTES else None
    except ValueError:
        return None


def _sizes(inventory: Inventory) -> dict[str, int]:
    sizes: dict[str, int] = {}
    for objects in inventory.objects.values():
        sizes.update(objects)
    return sizes
