"""`key add`: adds a password.

Invariants
    The slot is durable on a target before the manifest names it. A slot that the manifest refused is deleted again.
"""

from msgspec import Struct
from msgspec.structs import replace

from drtool.errors import Rejected, StoreError, UsageError
from drtool.events import Emit, Stage
from drtool.manifest.records import KeyTable
from drtool.model import TargetName
from drtool.operations.keys.table import (
    CHANGED,
    Unheld,
    change_table,
    check_label,
    demand_keepers,
    keys_in_force,
    make_ready,
    new_slot,
    unheld,
)
from drtool.repository import Repository
from drtool.repository.slots import delete_slots, put_slots


class KeyAdded(Struct, frozen=True, kw_only=True):
    """`missing`: the targets that should hold the slot but do not."""

    id: str
    label: str
    targets: list[TargetName]
    missing: list[Unheld]


def add_key(repository: Repository, password: bytes, label: str, emit: Emit) -> KeyAdded:
    """Store a slot for `password` on every reachable target, and record it in the manifest."""
    check_label(label)
    if password == repository.spec.password():
        raise UsageError("that is the password that this run was opened with", hint="choose another one")
    emit(Stage(name="adding a key slot"))
    held = make_ready(repository, emit)
    demand_keepers(held)
    slot = new_slot(repository, keys_in_force(repository), password, label)
    failed = put_slots(repository.targets, held.keepers, {slot.id: slot.text})
    if len(failed) == len(held.keepers):
        told = "; ".join(f"{target}: {why}" for target, why in failed.items())
        raise StoreError(f"no target accepted the key slot ({told})", hint="nothing was added; free one of them")

    def with_it(table: KeyTable) -> KeyTable:
        if table.generation != slot.row.generation:
            raise Rejected(
                CHANGED, "the keys were rotated meanwhile, so nothing was added", hint="run the command again"
            )
        return replace(table, slots=(*table.slots, slot.row))

    try:
        change_table(repository, held, with_it)
    except Rejected:
        delete_slots(repository.targets, held.keepers, [slot.id])
        raise
    holding = [name for name in held.keepers if name not in failed]
    return KeyAdded(id=slot.id, label=label, targets=holding, missing=unheld(failed))
