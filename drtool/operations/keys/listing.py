"""`key list`: the passwords that open the repository, and the targets that hold their slots."""

from msgspec import Struct

from drtool.manifest.records import SlotRow
from drtool.model import TargetName
from drtool.repository import Repository
from drtool.repository.slots import SlotsHeld, found_slots, problems_with_slots, read_slots, table_of


class SlotReport(Struct, frozen=True, kw_only=True):
    """One slot. `recorded`: it is in the manifest. Only then are `generation` and `created_ns` known."""

    id: str
    label: str
    recorded: bool
    in_use: bool
    generation: int | None
    created_ns: int | None
    host: str | None
    targets: list[TargetName]
    missing: list[TargetName]
    damaged: list[TargetName]


class KeeperReport(Struct, frozen=True, kw_only=True):
    """One target: whether it should keep slots, and whether its slots could be read."""

    target: TargetName
    keeps: bool
    read: bool
    reason: str | None = None


class KeyList(Struct, frozen=True, kw_only=True):
    generation: int
    slots: list[SlotReport]
    targets: list[KeeperReport]
    problems: list[str]


def list_keys(repository: Repository) -> KeyList:
    """Read the slots of every reachable target."""
    state = repository.view.state
    held = read_slots(repository.targets, state.targets)
    table = table_of(state.keys, held, repository.id)
    known = {row.id for row in table.slots}
    others = [row for row in found_slots(held, repository.id) if row.id not in known]
    written_down = bool(state.keys.epoch)
    slots = [_slot(repository, held, row, recorded=written_down) for row in table.slots]
    slots += [_slot(repository, held, row, recorded=False) for row in others]
    return KeyList(
        generation=state.keys.generation,
        slots=slots,
        targets=[_keeper(held, name) for name in sorted({*held.keepers, *held.at, *held.unread})],
        problems=[*problems_with_slots(held, state.keys, repository.id), *_away(held)],
    )


def _slot(repository: Repository, held: SlotsHeld, row: SlotRow, *, recorded: bool) -> SlotReport:
    return SlotReport(
        id=row.id.hex(),
        label=row.label,
        recorded=recorded,
        in_use=row.id.hex() == repository.keyring.slot,
        generation=row.generation if recorded else None,
        created_ns=row.time_ns or None,
        host=row.host or None,
        targets=held.holders(row),
        missing=held.missing(row),
        damaged=held.damaged(row),
    )


def _keeper(held: SlotsHeld, name: TargetName) -> KeeperReport:
    return KeeperReport(target=name, keeps=name in held.keepers, read=name in held.at, reason=held.unread.get(name))


def _away(held: SlotsHeld) -> list[str]:
    return [
        f"target {name} cannot be read, so it is unknown whether it holds the slots: {why}"
        for name, why in held.unread.items()
        if name in held.keepers
    ]
