"""`key rotate`: a new master key for new objects. Old objects stay readable, by every password that is kept.

The steps; a run that dies between any two of them leaves a repository that each remaining password opens completely:
    1. a number is drawn for the new key, in the manifest: no number ever stands for two keys;
    2. new slots, with all keys, for each password that is kept, at most targets that keep slots; the old ones stay;
    3. the manifest names the new slots and the new key: from here on it seals what is new;
    4. the old slots are deleted; from absent targets when they come back.

Invariants
    A target that took no new slot keeps its old ones: what lies there opens with them.
    Nothing is sealed under a key before a majority of the targets that keep slots hold it for every password that is kept.
    A password that is not kept opens what is older, and is told why it does not open the rest.
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
    """A password that is kept: its old slots, and the new one (empty in a dry run)."""

    label: str
    replaces: list[str]
    id: str = ""


class DroppedSlot(Struct, frozen=True, kw_only=True):
    id: str
    label: str


class Rotation(Struct, frozen=True, kw_only=True):
    """What goes and what comes. `missing`: targets that should hold the new slots and do not; `still_at`: old ones lie there."""

    previous_generation: int
    generation: int | None
    kept: list[KeptSlot]
    dropped: list[DroppedSlot]
    targets: list[TargetName]
    missing: list[Unheld]
    still_at: list[Unheld]
    dry_run: bool


class RotationPlan(Struct, frozen=True):
    """Passwords with the old slots that they open, and the slots of all others."""

    passwords: list[tuple[bytes, list[SlotRow]]]
    dropped: list[SlotRow]


def plan_rotation(repository: Repository, others: Sequence[tuple[str, bytes]], *, drop_others: bool) -> RotationPlan:
    """Which passwords are kept: the one in use, and `others` (each with the name of its file).

    Refused if a slot is left that none of them opens, unless `drop_others`; WrongPassword for one that opens nothing.
    """
    held = read_slots(repository.targets, repository.view.state.targets)
    demand_keepers(held)
    rows = {row.id: row for row in _slots_that_count(repository, held)}
    in_use = repository.spec.password()
    # Not only the slot in use: one left by a rotation that died may have opened before the one of the manifest.
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
            hint="name a file with each: --also-password-file F; or give them up: --drop-others",
        )
    return RotationPlan(passwords, dropped)


def _slots_that_count(repository: Repository, held: SlotsHeld) -> list[SlotRow]:
    """What the manifest names, and the slot in use. What else lies there counts only where nobody wrote down any slots."""
    found = list(found_slots(held, repository.id))
    table = repository.view.state.keys
    others = [row for row in found if is_in_use(repository, row) or not table.epoch]
    return [*table.slots, *(row for row in others if row.id not in {known.id for known in table.slots})]


def preview(repository: Repository, plan: RotationPlan) -> Rotation:
    """What the rotation would do."""
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
    """Carries out a plan."""
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
    }  # what took no new slot keeps what opens it
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
    """The new key's number, which the manifest has not given to any key before, in whatever generation of its own."""
    first = (repository.view.config.generation - 1) << RECOVERY_SHIFT

    def drawn(table: KeyTable) -> KeyTable:
        return replace(table, drawn=max(table.drawn, first) + 1)

    return change_table(repository, held, drawn).drawn


def _store(repository: Repository, held: SlotsHeld, slots: Sequence[NewSlot]) -> dict[TargetName, str]:
    """Puts the new slots; Refused, and none is left, unless most targets that keep slots hold them."""
    failed = put_slots(repository.targets, held.keepers, {slot.id: slot.text for slot in slots})
    if 2 * (len(held.keepers) - len(failed)) > len(held.keepers):
        return failed
    delete_slots(repository.targets, held.keepers, [slot.id for slot in slots])
    told = "; ".join(f"{target}: {why}" for target, why in failed.items())
    raise Refused(
        f"{len(failed)} of {len(held.keepers)} targets that keep key slots did not take the new ones ({told}); "
        "nothing was changed",
        hint="a key that few places hold is easily lost with them: bring them back, then rotate",
    )


def _commit(
    repository: Repository, held: SlotsHeld, plan: RotationPlan, slots: Sequence[NewSlot], number: int, base: int
) -> None:
    gone = [row.id for row in (*(row for _, opened in plan.passwords for row in opened), *plan.dropped)]

    def rotated(table: KeyTable) -> KeyTable:
        if repository.view.state.keys.epoch != base:
            raise Rejected(CHANGED, "somebody else changed the key slots meanwhile; nothing was rotated", hint=AGAIN)
        rows = tuple(slot.row for slot in slots)
        return replace(table, generation=number, slots=rows, removed=removed_with(table, gone))

    try:
        change_table(repository, held, rotated)
    except NoQuorum as error:
        raise NoQuorum(
            f"whether the keys are rotated is not decided: {error.message}",
            hint="old and new key slots are both in place, and every password goes on; run the command again later",
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
