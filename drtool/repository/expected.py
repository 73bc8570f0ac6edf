"""Comparison of the expected objects with the observed ones. Pure.

An object is complete if `copies` distinct sites hold it. Otherwise it is missing from each reachable target where the
ring places it. A tree that a target held when it was written, and no longer does, is missing there regardless of other
copies. One that it never got is owed. Complete copies in other places are misplaced, not missing. An object written to
a target that cannot be listed now is unknown there: it counts neither as present nor as missing.
"""

from collections.abc import Collection, Iterable, Iterator

from msgspec import Struct

from drtool.manifest.records import SegmentRef
from drtool.model import TargetName, pack_object, segment_object
from drtool.packing import PackKind, SegmentPack
from drtool.repository.inventory import Inventory
from drtool.repository.placement import distinct_sites
from drtool.ring import Placement


class Expected(Struct, frozen=True):
    """An object that the catalogue needs, its desired places, and the places where it was written."""

    name: str
    size_bytes: int
    desired: tuple[TargetName, ...]
    written: tuple[TargetName, ...]
    metadata: bool


class Standing(Struct, frozen=True):
    """The state of one object. `holders` list it with its size."""

    expected: Expected
    holders: tuple[TargetName, ...]
    missing: tuple[TargetName, ...]
    misplaced: bool
    owed: int
    below_copies: bool


def expected_objects(
    packs: Iterable[SegmentPack], segments: Iterable[SegmentRef], placement: Placement, copies: int
) -> Iterator[Expected]:
    """Yield every object that the catalogue needs, once."""
    seen: set[bytes] = set()
    for pack in packs:
        if pack.pack not in seen:
            seen.add(pack.pack)
            metadata = pack.kind == PackKind.TREES
            desired = _metadata(placement, pack.pack, copies) if metadata else placement.desired(pack.pack)
            yield Expected(pack_object(pack.pack), pack.size_bytes, desired, pack.targets, metadata)
    for ref in segments:
        desired = _metadata(placement, ref.id, copies)
        yield Expected(segment_object(ref.id), ref.size_bytes, desired, ref.targets, metadata=True)


def _metadata(placement: Placement, name: bytes, copies: int) -> tuple[TargetName, ...]:
    desired = placement.metadata(name)
    return desired[:1] if copies == 1 else desired


def standing(expected: Expected, inventory: Inventory, copies: int, ruled_out: Collection[TargetName] = ()) -> Standing:
    """Compare one object with the inventory. `ruled_out` targets hold a damaged copy."""
    holders = tuple(t for t in inventory.holders(expected.name, expected.size_bytes) if t not in ruled_out)
    absent = tuple(t for t in expected.desired if t in inventory.objects and t not in holders and t not in ruled_out)
    enough = distinct_sites(holders) >= copies
    unknown = [t for t in (expected.written or expected.desired) if t in inventory.unlisted]
    perhaps = distinct_sites((*holders, *unknown)) >= copies
    lost = () if perhaps else absent
    if enough and expected.metadata:
        lost = tuple(t for t in absent if t in expected.written)
    promised = expected.desired[:copies] if not expected.metadata else expected.desired
    return Standing(
        expected=expected,
        holders=holders,
        missing=lost,
        misplaced=enough and not expected.metadata and not set(promised) <= set(holders),
        owed=len([t for t in expected.desired if t not in holders and t not in lost])
        if enough and expected.metadata
        else 0,
        below_copies=not enough,
    )
