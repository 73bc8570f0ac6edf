"""What targets are owed: copies of objects that the ring wants there and that others have.

A copy that a target out of sight may have is not made a second time elsewhere: it may be a disk that comes back tomorrow. An
object with enough copies in other places is owed only while the ring has
not changed since everything was in place: after `target add` such copies are the work of `rebalance`.
"""

import time
from collections.abc import Callable, Collection, Iterable, Iterator

from msgspec import Struct

from drtool.model import PackId, TargetName, pack_object, segment_object
from drtool.operations.rebalance.epochs import settled_epoch
from drtool.packing import PackKind
from drtool.repository import Repository
from drtool.repository.copying import Amount
from drtool.repository.expected import Expected
from drtool.repository.inventory import Inventory
from drtool.repository.placement import distinct_sites
from drtool.repository.reconciling import job_for


class OwedCopy(Struct, frozen=True):
    """A copy that `target` lacks, and the targets that list the object."""

    target: TargetName
    name: str
    size_bytes: int
    sources: tuple[TargetName, ...]
    is_short: bool
    """Whether the object has fewer copies than promised."""


class _Object(Struct, frozen=True):
    """An object that the catalogue needs."""

    id: bytes
    name: str
    size_bytes: int
    written: tuple[TargetName, ...]
    is_metadata: bool


def owed_copies(
    repository: Repository,
    inventory: Inventory,
    takes: Callable[[TargetName], bool],
    ends_at: float,
    clock: Callable[[], float] = time.monotonic,
) -> Iterator[OwedCopy]:
    """Yield the copies that are owed to targets for which `takes` holds, by the listing.

    After `ends_at` only objects with fewer copies than promised are looked at, which takes no time to speak of.
    """
    state, bad = repository.view.state, repository.bad_copies()
    copies, placement = state.policy.copies, repository.placement
    on_every_target = len(placement.ring.active) == len(placement.ring.sites) <= copies
    looks_at_all = settled_epoch(state) == state.ring_epoch and not on_every_target
    for item in _objects(repository):
        holders = [t for t in inventory.holders(item.name, item.size_bytes) if (t, item.name) not in bad]
        is_short = distinct_sites(holders) < copies
        if not holders or not (is_short or (looks_at_all and clock() < ends_at)):
            continue
        damaged = [t for t, listed in inventory.objects.items() if item.name in listed and (t, item.name) in bad]
        for target in _lacking(repository, item, holders, damaged, inventory.objects, takes):
            yield OwedCopy(target, item.name, item.size_bytes, tuple(holders), is_short)


def _objects(repository: Repository) -> Iterator[_Object]:
    seen: set[bytes] = set()
    going = repository.going_packs(repository.view, to_read=True)
    for row in repository.index.packs():
        if row.pack not in seen and row.pack not in going:
            seen.add(row.pack)
            yield _Object(row.pack, pack_object(row.pack), row.size_bytes, row.targets, row.kind == PackKind.TREES)
    for ref in repository.view.state.segments:
        yield _Object(ref.id, segment_object(ref.id), ref.size_bytes, ref.targets, is_metadata=True)


def _lacking(
    repository: Repository,
    item: _Object,
    holders: Collection[TargetName],
    damaged: Collection[TargetName],
    listed: Collection[TargetName],
    takes: Callable[[TargetName], bool],
) -> tuple[TargetName, ...]:
    """Return the targets that should get a copy.

    A damaged copy is left to `repair`, which reads before it replaces. So is one that a target had and lost: something deletes
    objects there, and that must not be hidden by copying them again each night.
    """
    placement, copies = repository.placement, repository.view.state.policy.copies
    pack = PackId(item.id)
    if item.is_metadata:
        everywhere = placement.metadata(item.id)
        desired = everywhere[:1] if copies == 1 else everywhere
    else:
        desired = placement.desired(pack)
    perhaps = {*item.written, *desired}.difference(listed, repository.targets.lost)
    expected = Expected(item.name, item.size_bytes, desired, item.written, item.is_metadata)
    job = job_for(expected, sorted(holders), damaged, placement.preference(pack), copies, takes, perhaps)
    return tuple(target for target in job.write if target not in item.written)


def amounts(rows: Iterable[OwedCopy]) -> dict[TargetName, Amount]:
    """Return how much each target is owed."""
    found: dict[TargetName, Amount] = {}
    for row in rows:
        found[row.target] = found.get(row.target, Amount()) + Amount(1, row.size_bytes)
    return found
