"""Changing the manifest's table of key slots: what it says now, what it is to say, and one change that makes it so.

Invariants
    Every change names the epoch that it follows: of two that are made at once, one sees the other or is refused.
    A table without rows, from before slots were written down, begins with the one slot that is known to open: the one in use.
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
    """A target that does not hold what it should, or may still hold what it should not."""

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
    """Finishes what an earlier run left half done, puts slots right, and reads them all."""
    if repository.manifest.settle():
        repository.adopt(repository.manifest.read())
    repository.keyring.seal_under(repository.view.state.keys.generation)
    for message in repository.mend_slots(thorough=True).messages():
        emit(Warned(message=message))
    return read_slots(repository.targets, repository.view.state.targets)


def recorded(repository: Repository, held: SlotsHeld) -> KeyTable:
    """The table to change."""
    table = repository.view.state.keys
    if table.epoch:
        return table
    return replace(table, slots=tuple(row for row in found_slots(held, repository.id) if is_in_use(repository, row)))


def is_in_use(repository: Repository, row: SlotRow) -> bool:
    """Whether this run was opened with that slot."""
    return row.id.hex() == repository.keyring.slot


def change_table(repository: Repository, held: SlotsHeld, change: Callable[[KeyTable], KeyTable]) -> KeyTable:
    """Commits what `change` makes of the table; made again on a newer one when somebody else was faster.

    `Rejected` is final. After any other failure the change may yet be made, and what it names must stay where it is.
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
        if first:  # what was missing before could not be judged, let alone put right
            repository.mend_slots(thorough=True)
        return new
    raise Rejected(CHANGED, "others keep changing the key slots; nothing was done", hint="run the command again")


def new_slot(repository: Repository, masters: dict[int, bytes], password: bytes, label: str) -> NewSlot:
    """A slot with these keys, newest last."""
    keyring = Keyring(repository.id, masters)
    slot = seal_slot(keyring, password, label)
    return NewSlot(slot_row(slot, repository.spec.host, keyring.generation), slot.encode())


def keys_in_force(repository: Repository) -> dict[int, bytes]:
    """The keys up to the one that new objects are sealed under; not those of a rotation that was never finished."""
    keyring = repository.keyring
    return {number: key for number, key in keyring.masters.items() if number <= keyring.generation}


def demand_keepers(held: SlotsHeld) -> None:
    """Refused if there is nowhere to put a slot."""
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
    """Every target that may have a slot: those that are to, and all that can be reached."""
    return sorted({*held.keepers, *repository.targets.online()})
