"""`key remove`: removes a password.

Invariants
    The last slot is never removed, nor one without which the remaining slots are at no reachable target.
    A target without another slot keeps this one until it gets another, since it is needed to open that target.
    The manifest records the removal before any target deletes the slot. An absent target deletes it when it comes back.
"""

from msgspec import Struct
from msgspec.structs import replace

from drtool.errors import DrtoolError, Refused
from drtool.events import Emit, Stage
from drtool.manifest.records import KeyTable, SlotRow
from drtool.model import TargetName
from drtool.operations.keys.table import (
    Unheld,
    change_table,
    is_in_use,
    make_ready,
    may_hold,
    recorded,
    removed_with,
    unheld,
)
from drtool.repository import Repository
from drtool.repository.slots import SlotsHeld, delete_slots, found_slots, read_slots

ONLY_ONE = "it accepts no other key slot, and without one its data could not be opened"


class KeyRemoval(Struct, frozen=True, kw_only=True):
    """The slot that goes, and the targets. `left`: how many passwords open the repository afterwards."""

    id: str
    label: str
    in_use: bool
    targets: list[TargetName]
    still_at: list[Unheld]
    left: int
    dry_run: bool


def plan_removal(repository: Repository, prefix: str, *, in_use: bool) -> KeyRemoval:
    """Return the slot that an id prefix means, and the effect of removing it.

    Refused if nothing else would open the repository.
    """
    held = read_slots(repository.targets, repository.view.state.targets)
    row = _meant(repository, held, prefix)
    left = _check_left(recorded(repository, held), held, row)
    if is_in_use(repository, row) and not in_use:
        raise Refused(
            f"key slot {row.id.hex()} ({row.label}) is the one that opened this run",
            hint="open with another password, or add --in-use to remove this one",
        )
    return KeyRemoval(
        id=row.id.hex(),
        label=row.label,
        in_use=is_in_use(repository, row),
        targets=held.showing(row.id.hex()),
        still_at=unheld(held.unread),
        left=left,
        dry_run=True,
    )


def remove_key(repository: Repository, plan: KeyRemoval, emit: Emit) -> KeyRemoval:
    """Record that the slot is removed, then delete it at every reachable target."""
    emit(Stage(name="removing a key slot"))
    held = make_ready(repository, emit)
    gone = bytes.fromhex(plan.id)

    def without_it(table: KeyTable) -> KeyTable:
        rest = tuple(row for row in table.slots if row.id != gone)
        _check_left(table, held, SlotRow(gone, plan.label, 1, b"", 0, ""))
        return replace(table, slots=rest, removed=removed_with(table, [gone]))

    new = change_table(repository, held, without_it)
    names = may_hold(repository, held)
    bare = {name: held.unread.get(name, ONLY_ONE) for name in names if _opens_with_nothing_else(held, new, name)}
    failed = {**bare, **delete_slots(repository.targets, [name for name in names if name not in bare], [plan.id])}
    done = [name for name in plan.targets if name not in failed]
    return replace(plan, targets=done, still_at=unheld(failed), left=len(new.slots), dry_run=False)


def _opens_with_nothing_else(held: SlotsHeld, table: KeyTable, name: TargetName) -> bool:
    """Return whether a target that keeps slots shows none of those that stay."""
    return name in held.keepers and not any(name in held.holders(row) for row in table.slots)


def _meant(repository: Repository, held: SlotsHeld, prefix: str) -> SlotRow:
    rows = {row.id.hex(): row for row in (*found_slots(held, repository.id), *recorded(repository, held).slots)}
    meant = [id_ for id_ in rows if prefix and id_.startswith(prefix.lower())]
    if len(meant) == 1:
        return rows[meant[0]]
    what = f"{len(meant)} key slots begin with" if meant else "no key slot begins with"
    raise DrtoolError(f"{what} {prefix!r}, so nothing was done", hint="`drtool key list` shows their ids")


def _check_left(table: KeyTable, held: SlotsHeld, row: SlotRow) -> int:
    """Return how many slots are left without `row`. Refused if the repository could not be opened any more."""
    rest = [other for other in table.slots if other.id != row.id]
    if not rest:
        raise Refused(
            f"key slot {row.id.hex()} ({row.label}) is the last one: without it the repository could not be opened",
            hint="add another password first: drtool key add",
        )
    if not any(held.holders(other) for other in rest):
        raise Refused(
            f"besides key slot {row.id.hex()} ({row.label}), no reachable target holds another one",
            hint="bring back a target that does, or add another password first: drtool key add",
        )
    return len(rest)
