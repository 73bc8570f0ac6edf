"""The key slots at the targets: reading them, comparing them with the manifest's table, and repairing them.

Invariants
    A slot is copied only if its bytes are those in the manifest. It is deleted only if the manifest says that it was
    removed, or by the run that has just stored it in vain.
    A slot that the manifest does not name is never relied on, since anyone with write access to a target can put one
    there.
"""

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from itertools import islice

from msgspec import Struct

from drtool.crypto import KeySlot, object_name
from drtool.crypto.slots import SLOT_BYTES_MAX
from drtool.errors import FormatError, ObjectMissing, StoreError
from drtool.manifest.records import KeyTable, SlotRow, Target
from drtool.model import RepositoryId, TargetName
from drtool.repository.targets import Targets
from drtool.stores import Store

KEYS_PREFIX = "keys/"
SLOTS_MAX = 64
WORKERS = 8


class SlotsHeld(Struct, frozen=True):
    """The slots at the targets: bytes by slot id for each target that could be read, and why the others could not.

    `keepers`: the targets that should hold every slot.
    """

    at: dict[TargetName, dict[str, bytes]]
    unread: dict[TargetName, str]
    keepers: list[TargetName]

    def holders(self, slot: SlotRow) -> list[TargetName]:
        """Return the targets that hold exactly these bytes."""
        return [name for name, texts in self.at.items() if _is_whole(texts.get(slot.id.hex()), slot)]

    def damaged(self, slot: SlotRow) -> list[TargetName]:
        """Return the targets that hold other bytes under its name."""
        id_ = slot.id.hex()
        return [name for name, texts in self.at.items() if id_ in texts and not _is_whole(texts[id_], slot)]

    def missing(self, slot: SlotRow) -> list[TargetName]:
        """Return the readable targets that should hold it but have nothing under its name."""
        return [name for name in self.keepers if name in self.at and slot.id.hex() not in self.at[name]]

    def showing(self, id_: str) -> list[TargetName]:
        return [name for name, texts in self.at.items() if id_ in texts]

    def ids(self) -> list[str]:
        return sorted({id_ for texts in self.at.values() for id_ in texts})


def read_slots(targets: Targets, rows: Iterable[Target]) -> SlotsHeld:
    """Read every slot on every reachable target."""
    at: dict[TargetName, dict[str, bytes]] = {}
    unread: dict[TargetName, str] = {}
    keepers = keeps_slots(targets, rows)
    for name in sorted({*keepers, *targets.online()}):
        try:
            at[name] = slot_texts(targets.store(name))
        except StoreError as error:
            unread[name] = targets.failures.get(name, error.message)
    return SlotsHeld(at, unread, keepers)


def table_of(table: KeyTable, held: SlotsHeld, repository: RepositoryId) -> KeyTable:
    """Return the manifest's table, or if none was ever recorded, the slots that most targets show."""
    return table if table.epoch else KeyTable(slots=tuple(found_slots(held, repository)))


def found_slots(held: SlotsHeld, repository: RepositoryId) -> Iterator[SlotRow]:
    """Yield each slot of this repository at any target, in the form that most of them have."""
    for id_ in held.ids():
        texts = Counter(texts[id_] for texts in held.at.values() if id_ in texts)
        for text, _ in texts.most_common():
            slot = parsed_slot(text, repository)
            if slot is not None and slot.id == id_:
                yield SlotRow(bytes.fromhex(id_), slot.label, 1, object_name(text), 0, "")
                break


def problems_with_slots(held: SlotsHeld, recorded: KeyTable, repository: RepositoryId) -> Iterator[str]:
    """Yield the differences from the manifest, in sentences. Targets that could not be read are not judged."""
    table = table_of(recorded, held, repository)
    gone = {id_.hex() for id_ in table.removed}
    for slot in table.slots:
        name = f"key slot {slot.id.hex()} ({slot.label})"
        if not held.holders(slot):
            yield f"{name} is at no readable target"
            continue
        if missing := held.missing(slot):
            yield f"{name} is missing at {', '.join(missing)}: drtool repair writes it again"
        if damaged := held.damaged(slot):
            yield f"{name} is damaged at {', '.join(damaged)}: drtool repair writes it again"
        if unwanted := [target for target in held.holders(slot) if target not in held.keepers]:
            yield f"{name} is at {', '.join(unwanted)}, which should keep none (keys: false)"
    known = {slot.id.hex() for slot in table.slots}
    slots = {slot.id.hex(): slot for slot in found_slots(held, repository)}
    for id_ in held.ids():
        where = ", ".join(held.showing(id_))
        if id_ in gone:
            yield f"key slot {id_} was removed but is still at {where}: drtool repair removes it there"
        elif id_ not in known and id_ in slots:
            yield f"key slot {id_} ({slots[id_].label}) at {where} is not in the manifest"
        elif id_ not in known:
            yield f"{KEYS_PREFIX}{id_} at {where} is not a key slot of this repository"


def slot_row(slot: KeySlot, host: str, generation: int = 1) -> SlotRow:
    """Return a slot as a row of the manifest."""
    return SlotRow(bytes.fromhex(slot.id), slot.label, generation, object_name(slot.encode()), time.time_ns(), host)


def keeps_slots(targets: Targets, rows: Iterable[Target]) -> list[TargetName]:
    """Return the targets that should hold every slot, except those with `keys: false` in manifest or configuration."""
    known = {row.name: row.keys for row in rows if row.state != "lost"}
    known |= {name: True for name in targets.online() if name not in known}
    return sorted(
        name for name, keys in known.items() if keys and (name not in targets.specs or targets.specs[name].keys)
    )


class Mended(Struct, frozen=True):
    """The repaired slots, the removed ones that were deleted, and the targets where it failed, with reasons."""

    put: list[tuple[TargetName, str]]
    removed: list[tuple[TargetName, str]]
    failed: dict[TargetName, str]

    def messages(self) -> Iterator[str]:
        for target, id_ in self.put:
            yield f"key slot {id_} was missing or damaged at {target}: it was written again"
        for target, id_ in self.removed:
            yield f"key slot {id_} was removed while {target} was away, and is now deleted there"
        for target, why in self.failed.items():
            yield f"key slots at {target} cannot be repaired: {why}"


def mend_slots(
    targets: Targets, table: KeyTable, rows: Iterable[Target], *, kept: bytes | None = None, thorough: bool = False
) -> Mended:
    """Bring the slots of every reachable target to the state in the manifest. Damage is checked only if `thorough`.

    `kept`: the slot that this host keeps, in case no target has it whole. This precedes all sealing and storing there,
    since a target with outdated slots could not be opened on its own. So a target that has and accepts none of them
    gets no more writes.
    """
    mended = Mended([], [], {})
    if not table.epoch:  # no slots were ever recorded
        return mended
    keepers = keeps_slots(targets, rows)
    gone = {id_.hex() for id_ in table.removed}

    def whole_text(slot: SlotRow) -> bytes | None:
        return _whole_text(targets, slot) or (kept if _is_whole(kept, slot) else None)

    silent: list[TargetName] = []

    def mend(name: TargetName) -> None:
        wanted = table.slots if name in keepers else ()
        try:
            _mend(targets.store(name), name, wanted, gone, mended, whole_text, thorough=thorough)
        except StoreError as error:
            mended.failed[name] = error.message
            if wanted and not _holds_any(targets, name, wanted):
                silent.extend([name] if targets.may_return(name, error) else [])
                targets.fail(name, f"it does not accept the key slots: {error.message}")

    def mend_patiently(name: TargetName) -> None:
        wanted = table.slots if name in keepers else ()
        with suppress(StoreError):
            call = partial(_mend, targets.store(name), name, wanted, gone, mended, whole_text, thorough=thorough)
            targets.patiently(name, call)
            targets.failures.pop(name, None)
            mended.failed.pop(name, None)

    with ThreadPoolExecutor(WORKERS, "slots") as threads:  # a few round trips each, so targets run concurrently
        list(threads.map(mend, targets.online()))
        if silent and not any(map(targets.writable, targets.storing())):
            list(threads.map(mend_patiently, silent))
    return Mended(sorted(mended.put), sorted(mended.removed), mended.failed)


def _holds_any(targets: Targets, name: TargetName, slots: Iterable[SlotRow]) -> bool:
    """Return whether one of the slots is there, by its name."""
    with suppress(StoreError):  # an unlisted target cannot be relied on
        listed = {info.name for info in islice(targets.store(name).list(KEYS_PREFIX), 4 * SLOTS_MAX)}
        return any(KEYS_PREFIX + slot.id.hex() in listed for slot in slots)
    return False


def _mend(
    store: Store,
    name: TargetName,
    slots: Iterable[SlotRow],
    gone: set[str],
    mended: Mended,
    whole_text: Callable[[SlotRow], bytes | None],
    *,
    thorough: bool,
) -> None:
    listed = {info.name.removeprefix(KEYS_PREFIX) for info in islice(store.list(KEYS_PREFIX), 4 * SLOTS_MAX)}
    missing = False
    for slot in slots:
        id_ = slot.id.hex()
        if id_ in listed and not (thorough and not _is_whole(_text(store, id_), slot)):
            continue
        text = whole_text(slot)
        if text is None:
            missing = True
            continue
        store.put(KEYS_PREFIX + id_, text)
        mended.put.append((name, id_))
    for id_ in sorted(gone & listed) if not missing else ():  # otherwise no slot might be left that opens it
        store.delete(KEYS_PREFIX + id_)
        mended.removed.append((name, id_))


def _whole_text(targets: Targets, slot: SlotRow) -> bytes | None:
    """Return the slot's bytes from any target that has them with the hash in the manifest."""
    for name in targets.online():
        with suppress(StoreError):  # the next one may have them, and `key list` reports if none has
            text = _text(targets.store(name), slot.id.hex())
            if _is_whole(text, slot):
                return text
    return None


def put_slots(targets: Targets, names: Iterable[TargetName], slots: Mapping[str, bytes]) -> dict[TargetName, str]:
    """Store slots, by id, on each reachable one of these targets. Return why others do not hold all of them now."""
    failed: dict[TargetName, str] = {}
    for name in names:
        try:
            for id_, text in slots.items():
                targets.store(name).put(KEYS_PREFIX + id_, text)
        except StoreError as error:
            failed[name] = targets.failures.get(name, error.message)
    return failed


def delete_slots(targets: Targets, names: Iterable[TargetName], ids: Iterable[str]) -> dict[TargetName, str]:
    """Delete slots from these targets. Return why some may still hold one."""
    failed: dict[TargetName, str] = {}
    wanted = list(ids)
    for name in names:
        try:
            for id_ in wanted:
                targets.store(name).delete(KEYS_PREFIX + id_)
        except StoreError as error:
            failed[name] = targets.failures.get(name, error.message)
    return failed


def slot_texts(store: Store) -> dict[str, bytes]:
    """Return the objects below `keys/`, by the last part of the name."""
    names = [info.name for info in islice(store.list(KEYS_PREFIX), SLOTS_MAX)]
    ids = [name.removeprefix(KEYS_PREFIX) for name in names]
    return {id_: text for id_ in ids if (text := _text(store, id_)) is not None}  # None: removed since it was listed


def _text(store: Store, id_: str) -> bytes | None:
    try:
        return store.get(KEYS_PREFIX + id_, 0, SLOT_BYTES_MAX + 1)
    except ObjectMissing:
        return None


def _is_whole(text: bytes | None, slot: SlotRow) -> bool:
    return text is not None and object_name(text) == slot.hash


def slot_repositories(store: Store) -> Iterator[RepositoryId]:
    """Yield the repository named in each key slot at a place."""
    with suppress(StoreError):  # an unreadable place yields nothing
        for text in slot_texts(store).values():
            with suppress(FormatError, ValueError):
                yield RepositoryId(bytes.fromhex(KeySlot.decode(text).repository))


def parsed_slot(data: bytes, repository: RepositoryId) -> KeySlot | None:
    with suppress(FormatError):
        slot = KeySlot.decode(data)
        if slot.repository == repository.hex():
            return slot
    return None
