"""`key rotate`: a new master key for new objects. Old objects stay readable with every password that is kept.

A run that dies between two of these steps leaves a repository that each remaining password opens completely:
    1. A number is drawn for the new key, in the manifest. No number ever stands for two keys.
    2. New slots with all keys are stored for each kept password, at most targets that keep slots. The old ones stay.
    3. The manifest names the new slots and the new key, which seals new objects from then on.
    4. The old slots are deleted, at absent targets when they come back.

Invariants
    A target that accepted no new slot keeps its old ones, which are needed to open it.
    Nothing is sealed under a key before a majority of the targets that keep slots hold it for every kept password.
    A password that is not kept opens older objects, and its user gets a message about why it does not open newer ones.
"""

import os
from collections.abc import Sequence

from msgspec import Struct
from msgspec.structs import replace

from drtool.crypto import KeySlot, open_slot
from drtool.crypto.keyring import MASTER_KEY_BYTES, RECOVERY_SHIFT
from drtool.errors import FormatError, NoQuorum, Refused, Rejected, WrongPassword
from drtool.events import Emit, Stage
from drtool.manifest.records import KeyTable, SlotRow
from drtool.model import TargetName
from drtool.operations.keys.table import (
    CHANGED,
    NewSlot,
    Unheld,
    change_table,
    demand_keepers,
    is_in_use,
    keys_in_force,
    make_ready,
    may_hold,
    new_slot,
    removed_with,
    unheld,
)
from drtool.repository import Repository
from drtool.repository.slots import SlotsHeld, delete_slots, found_slots, put_slots, read_slots

AGAIN = "run the command again"


class KeptSlot(Struct, frozen=True, kw_only=True):
    """A kept password: its old slots, and the new one (empty in a dry run)."""

    label: str
    replaces: list[str]
    id: str = ""


class DroppedSlot(Struct, frozen=True, kw_only=True):
    id: str
    label: str


class Rotation(Struct, frozen=True, kw_only=True):
    """The effect of a rotation.

    `missing`: targets that should hold the new slots but do not. `still_at`: targets that still have old ones.
    """

    previous_generation: int
    generation: int | None
    kept: list[KeptSlot]
    dropped: list[DroppedSlot]
    targets: list[TargetName]
    missing: list[Unheld]
    still_at: list[Unheld]
    dry_run: bool


class RotationPlan(Struct, frozen=True):
    """The passwords with the old slots that they open, and the slots of all others."""

    passwords: list[tuple[bytes, list[SlotRow]]]
    dropped: list[SlotRow]


def plan_rotation(repository: Repository, others: Sequence[tuple[str, bytes]], *, drop_others: bool) -> RotationPlan:
    """Return the passwords to keep: the one in use, and `others` (each with the name of its file).

    Refused if a slot is left that none of them opens, unless `drop_others`. WrongPassword for one that opens nothing.
    """
    held = read_slots(repository.targets, repository.view.state.targets)
    demand_keepers(held)
    rows = {row.id: row for row in _slots_that_count(repository, held)}
    in_use = repository.spec.password()
    # Try all slots, not only the one in use: a slot left by a dead rotation may have opened first.
    own = [row for row in rows.values() if is_in_use(repository, row) or _opens(held, row, in_use)]
    passwords = [(in_use, own)]
    for origin, password in others:
        opened = [row for row in rows.values() if row not in own and _opens(held, row, password)]
        if not opened and password != in_use:
            raise WrongPassword(
                f"the password in {origin} opens no key slot", hint="`drtool key list` shows what there is"
            )
        if opened:
            passwords.append((password, opened))
    covered = {row.id for _, opened in passwords for row in opened}
    dropped = [row for row in rows.values() if row.id not in covered]
    if dropped and not drop_others:
        names = ", ".join(f"{row.id.hex()} ({row.label})" for row in dropped)
        raise Refused(
            f"these passwords would not open what is stored from now on: {names}",
            hint="name a file with each (--also-password-file F), or give them up (--drop-others)",
        )
    return RotationPlan(passwords, dropped)


def _slots_that_count(repository: Repository, held: SlotsHeld) -> list[SlotRow]:
    """Return the slots of the manifest and the slot in use. Others count only if the manifest never recorded any slots."""
    found = list(found_slots(held, repository.id))
    table = repository.view.state.keys
    others = [row for row in found if is_in_use(repository, row) or not table.epoch]
    return [*table.slots, *(row for row in others if row.id not in {known.id for known in table.slots})]


def preview(repository: Repository, plan: RotationPlan) -> Rotation:
    """Return the effect of the rotation."""
    held = read_slots(repository.targets, repository.view.state.targets)
    return Rotation(
        previous_generation=repository.view.state.keys.generation,
        generation=None,
        kept=[_kept(opened) for _, opened in plan.passwords],
        dropped=_dropped(plan),
        targets=[name for name in held.keepers if name in held.at],
        missing=unheld({name: why for name, why in held.unread.items() if name in held.keepers}),
        still_at=unheld(held.unread),
        dry_run=True,
    )


def rotate_keys(repository: Repository, plan: RotationPlan, emit: Emit) -> Rotation:
    """Carry out a plan."""
    emit(Stage(name="rotating keys"))
    held = make_ready(repository, emit)
    previous = repository.view.state.keys.generation
    number = _draw_number(repository, held)
    base = repository.view.state.keys.epoch
    masters = {**keys_in_force(repository), number: os.urandom(MASTER_KEY_BYTES)}
    slots = [new_slot(repository, masters, password, _label(opened)) for password, opened in plan.passwords]
    failed = _store(repository, held, slots)
    _commit(repository, held, plan, slots, number, base)
    old = [row.id.hex() for row in (*(row for _, opened in plan.passwords for row in opened), *plan.dropped)]
    renewed = [name for name in may_hold(repository, held) if name not in failed]
    left_over = {
        **failed,
        **delete_slots(repository.targets, renewed, old),
    }  # a target without a new slot keeps its old ones
    return Rotation(
        previous_generation=previous,
        generation=number,
        kept=[_kept(opened, slot.id) for slot, (_, opened) in zip(slots, plan.passwords, strict=True)],
        dropped=_dropped(plan),
        targets=[name for name in held.keepers if name not in failed],
        missing=unheld(failed),
        still_at=unheld(left_over),
        dry_run=False,
    )


def _draw_number(repository: Repository, held: SlotsHeld) -> int:
    """Return the new key's number, which the manifest has never given to a key, in any recovery generation."""
    first = (repository.view.config.generation - 1) << RECOVERY_SHIFT

    def drawn(table: KeyTable) -> KeyTable:
        return replace(table, drawn=max(table.drawn, first) + 1)

    return change_table(repository, held, drawn).drawn


def _store(repository: Repository, held: SlotsHeld, slots: Sequence[NewSlot]) -> dict[TargetName, str]:
    """Store the new slots. Refused, with none left behind, unless most targets that keep slots hold them."""
    failed = put_slots(repository.targets, held.keepers, {slot.id: slot.text for slot in slots})
    if 2 * (len(held.keepers) - len(failed)) > len(held.keepers):
        return failed
    delete_slots(repository.targets, held.keepers, [slot.id for slot in slots])
    told = "; ".join(f"{target}: {why}" for target, why in failed.items())
    raise Refused(
        f"{len(failed)} of {len(held.keepers)} targets that keep key slots did not accept the new ones ({told}), "
        "so nothing was changed",
        hint="a key at few places is easily lost with them: bring the others back, then rotate",
    )


def _commit(
    repository: Repository, held: SlotsHeld, plan: RotationPlan, slots: Sequence[NewSlot], number: int, base: int
) -> None:
    gone = [row.id for row in (*(row for _, opened in plan.passwords for row in opened), *plan.dropped)]

    def rotated(table: KeyTable) -> KeyTable:
        if repository.view.state.keys.epoch != base:
            raise Rejected(
                CHANGED, "the key slots were changed by another run meanwhile, so nothing was rotated", hint=AGAIN
            )
        rows = tuple(slot.row for slot in slots)
        return replace(table, generation=number, slots=rows, removed=removed_with(table, gone))

    try:
        change_table(repository, held, rotated)
    except NoQuorum as error:
        raise NoQuorum(
            f"it is not decided whether the keys are rotated: {error.message}",
            hint="old and new key slots are both in place, so every password still works: run the command again later",
        ) from None
    except Rejected:
        delete_slots(repository.targets, held.keepers, [slot.id for slot in slots])
        raise


def _opens(held: SlotsHeld, row: SlotRow, password: bytes) -> bool:
    for name in held.holders(row):
        try:
            open_slot(KeySlot.decode(held.at[name][row.id.hex()]), password)
        except (WrongPassword, FormatError):
            return False
        return True
    return False


def _label(opened: Sequence[SlotRow]) -> str:
    return opened[0].label if opened else "rotated"


def _kept(opened: Sequence[SlotRow], id_: str = "") -> KeptSlot:
    return KeptSlot(label=_label(opened), replaces=[row.id.hex() for row in opened], id=id_)


def _dropped(plan: RotationPlan) -> list[DroppedSlot]:
    return [DroppedSlot(id=row.id.hex(), label=row.label) for row in plan.dropped]
