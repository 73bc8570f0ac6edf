"""Changes of the manifest's table of key slots, each as one commit.

Invariants
    Every change names the epoch that it follows. Of two concurrent changes, one sees the other or is refused.
    An empty table, from before slots were recorded, starts with the one slot known to open the repository: the one in
    use.
"""

from collections.abc import Callable, Iterable, Sequence

from msgspec import Struct
from msgspec.structs import replace

from drtool.crypto import Keyring, seal_slot
from drtool.errors import Refused, Rejected, UsageError
from drtool.events import Emit, Warned
from drtool.manifest.ops import SetKeys
from drtool.manifest.records import KeyTable, SlotRow
from drtool.model import TargetName
from drtool.repository import Repository
from drtool.repository.slots import SlotsHeld, found_slots, read_slots, slot_row

LABEL_LENGTH_MAX = 200
REMOVED_MAX = 256
TRIES = 8
CHANGED = "keys-changed"


class Unheld(Struct, frozen=True, kw_only=True):
    """A target that does not hold a slot it should hold, or may still hold one that it should not."""

    target: TargetName
    reason: str


class NewSlot(Struct, frozen=True):
    """A slot that was just sealed: its row in the table and its bytes."""

    row: SlotRow
    text: bytes

    @property
    def id(self) -> str:
        return self.row.id.hex()


def make_ready(repository: Repository, emit: Emit) -> SlotsHeld:
    """Finish the work of an interrupted run, repair slots, and read them all."""
    if repository.manifest.settle():
        repository.adopt(repository.manifest.read())
    repository.keyring.seal_under(repository.view.state.keys.generation)
    for message in repository.mend_slots(thorough=True).messages():
        emit(Warned(message=message))
    return read_slots(repository.targets, repository.view.state.targets)


def recorded(repository: Repository, held: SlotsHeld) -> KeyTable:
    """Return the table to change."""
    table = repository.view.state.keys
    if table.epoch:
        return table
    return replace(table, slots=tuple(row for row in found_slots(held, repository.id) if is_in_use(repository, row)))


def is_in_use(repository: Repository, row: SlotRow) -> bool:
    """Return whether this run was opened with that slot."""
    return row.id.hex() == repository.keyring.slot


def change_table(repository: Repository, held: SlotsHeld, change: Callable[[KeyTable], KeyTable]) -> KeyTable:
    """Commit the result of `change` on the table, and recompute it on a newer one if another change came first.

    `Rejected` is final. After any other failure the change may still take effect, so the slots that it names must stay.
    """
    for _ in range(TRIES):
        table = change(recorded(repository, held))
        new = replace(table, epoch=repository.view.state.keys.epoch + 1, removed=table.removed[-REMOVED_MAX:])
        try:
            committed = repository.manifest.commit(SetKeys(new))
        except Rejected as error:
            if error.reason != CHANGED:
                raise
            repository.adopt(repository.manifest.read())
            continue
        first = not repository.view.state.keys.epoch
        repository.adopt(committed.view)
        if first:  # before that, missing slots could not be recognised
            repository.mend_slots(thorough=True)
        return new
    raise Rejected(CHANGED, "others keep changing the key slots, so nothing was done", hint="run the command again")


def new_slot(repository: Repository, masters: dict[int, bytes], password: bytes, label: str) -> NewSlot:
    """Return a slot with these keys, newest last."""
    keyring = Keyring(repository.id, masters)
    slot = seal_slot(keyring, password, label)
    return NewSlot(slot_row(slot, repository.spec.host, keyring.generation), slot.encode())


def keys_in_force(repository: Repository) -> dict[int, bytes]:
    """Return the keys up to the one that seals new objects, without those of an unfinished rotation."""
    keyring = repository.keyring
    return {number: key for number, key in keyring.masters.items() if number <= keyring.generation}


def demand_keepers(held: SlotsHeld) -> None:
    """Raise `Refused` if no target keeps slots."""
    if not held.keepers:
        raise Refused(
            "no target keeps key slots: each has `keys: false`", hint="allow at least one target to keep them"
        )


def check_label(label: str) -> None:
    if not label.isprintable() or not label.strip() or len(label) > LABEL_LENGTH_MAX:
        raise UsageError(
            "a label is one line of text, not empty", hint=f"at most {LABEL_LENGTH_MAX} characters, all printable"
        )


def unheld(failed: dict[TargetName, str]) -> list[Unheld]:
    return [Unheld(target=target, reason=why) for target, why in sorted(failed.items())]


def removed_with(table: KeyTable, ids: Iterable[bytes]) -> tuple[bytes, ...]:
    return tuple(dict.fromkeys((*table.removed, *ids)))


def may_hold(repository: Repository, held: SlotsHeld) -> Sequence[TargetName]:
    """Return every target that may have a slot: those that should, and all reachable ones."""
    return sorted({*held.keepers, *repository.targets.online()})
