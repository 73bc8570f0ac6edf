"""`ring preview`: the moves of a rebalance, now or after imagined changes of the ring.

Invariants
    The preview counts the plan that a rebalance would carry out: the same inventories and ring give the same moves.
"""

from collections.abc import Callable, Collection

from msgspec.structs import replace

from drtool.errors import UsageError
from drtool.events import Emit, Stage
from drtool.manifest.records import Target
from drtool.manifest.state import State
from drtool.model import TargetName
from drtool.operations.rebalance.epochs import settled_epoch
from drtool.operations.rebalance.plan import totals
from drtool.operations.rebalance.request import Expectation, PreviewRequest, RingPreview
from drtool.operations.rebalance.run import away
from drtool.repository import Repository
from drtool.repository.inventory import Inventory
from drtool.repository.membership import Rows, drained, reweighted, with_row, without
from drtool.repository.moving import Look, jobs_of, look
from drtool.ring import Placement, movement

SAMPLE = 4096
"""Number of imagined packs. It estimates a quarter of them to within a fortieth of itself."""


def preview(repository: Repository, request: PreviewRequest, emit: Emit) -> RingPreview:
    """Return the moves without making any. `UsageError` or `Refused` for changes that could not be made."""
    state = repository.view.state
    placement = repository.placement
    if request.imagines:
        placement = Placement(replace(state, targets=_imagined(state, request), ring_epoch=state.ring_epoch + 1).ring)
    seen = _without(look(repository, emit, placement, workers=request.workers), request.remove)
    arriving = {name for name, _ in request.add}
    counted = totals(jobs_of(repository, seen, placement, leave_to_absent=True, arriving=arriving))
    return RingPreview(
        from_epoch=state.ring_epoch if request.imagines else settled_epoch(state),
        to_epoch=placement.ring.epoch,
        moves=counted.moves,
        minimum_fraction=counted.minimum_fraction,
        removed=counted.removed,
        targets=counted.targets,
        waiting=counted.waiting,
        away=away(repository, seen.inventory),
        expected=_expected(repository.placement, placement, emit) if request.imagines else None,
    )


def _imagined(state: State, request: PreviewRequest) -> Rows:
    """Return the targets after applying the changes in order."""
    copies = state.policy.copies
    changes: list[Callable[[Rows], Rows]] = [
        *(lambda rows, add=add: with_row(rows, _new(rows, *add)) for add in request.add),
        *(lambda rows, name=name, weight=weight: reweighted(rows, name, weight) for name, weight in request.weight),
        *(lambda rows, name=name: drained(rows, name, copies) for name in request.drain),
        *(lambda rows, name=name: without(rows, name, copies) for name in request.remove),
    ]
    rows = state.targets
    for change in changes:
        rows = change(rows)
    return rows


def _new(rows: Rows, name: TargetName, weight: int) -> Target:
    if any(row.name == name and row.state != "lost" for row in rows):
        raise UsageError(f"target {name} already exists", hint=f"for another weight: --weight {name}={weight}")
    return Target(name, weight, "active", "")


def _without(seen: Look, removed: Collection[TargetName]) -> Look:
    """Return the view without the targets to be forgotten, since nothing can be copied from them afterwards."""
    objects = {name: held for name, held in seen.inventory.objects.items() if name not in removed}
    unlisted = {name: why for name, why in seen.inventory.unlisted.items() if name not in removed}
    return replace(seen, inventory=Inventory(objects, unlisted))


def _expected(old: Placement, new: Placement, emit: Emit) -> Expectation:
    emit(Stage(name="placing"))
    moved = movement(old, new, SAMPLE)
    return Expectation(fraction=round(moved.fraction, 6), minimum_fraction=round(moved.minimum_fraction, 6))
