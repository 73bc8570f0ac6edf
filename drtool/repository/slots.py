"""The key slots as they lie on the targets, against the manifest's table of them: read, compared, put right.

Invariants
    A slot is copied only if its bytes are those that the manifest names, and deleted only if the manifest says that it went,
    or by whoever has just put it there in vain.
    What the manifest does not name is never counted on: anybody who can write to a target can put such a thing there.
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
    """What lies below `keys/`: bytes by slot id for each target that could be read; why not for the others.

    `keepers`: the targets that are to hold every slot.
    """

    at: dict[TargetName, dict[str, bytes]]
    unread: dict[TargetName, str]
    keepers: list[TargetName]

    def holders(self, slot: SlotRow) -> list[TargetName]:
        """The targets that hold exactly these bytes."""
        return [name for name, texts in self.at.items() if _is_whole(texts.get(slot.id.hex()), slot)]

    def damaged(self, slot: SlotRow) -> list[TargetName]:
        """The targets that hold something else under its name."""
        id_ = slot.id.hex()
        return [name for name, texts in self.at.items() if id_ in texts and not _is_whole(texts[id_], slot)]

    def missing(self, slot: SlotRow) -> list[TargetName]:
        """The targets that could be read and should hold it, and show nothing under its name."""
        return [name for name in self.keepers if name in self.at and slot.id.hex() not in self.at[name]]

    def showing(self, id_: str) -> list[TargetName]:
        return [name for name, texts in self.at.items() if id_ in texts]

    def ids(self) -> list[str]:
        return sorted({id_ for texts in self.at.values() for id_ in texts})


def read_slots(targets: Targets, rows: Iterable[Target]) -> SlotsHeld:
    """Reads every slot on every target that can be reached."""
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
    """The manifest's table; where nobody wrote one down, what most targets show."""
    return table if table.epoch else KeyTable(slots=tuple(found_slots(held, repository)))


def found_slots(held: SlotsHeld, repository: RepositoryId) -> Iterator[SlotRow]:
    """Each slot of this repository that any target shows, in the form that most of them do."""
    for id_ in held.ids():
        texts = Counter(texts[id_] for texts in held.at.values() if id_ in texts)
        for text, _ in texts.most_common():
            slot = parsed_slot(text, repository)
            if slot is not None and slot.id == id_:
                yield SlotRow(bytes.fromhex(id_), slot.label, 1, object_name(text), 0, "")
                break


def problems_with_slots(held: SlotsHeld, recorded: KeyTable, repository: RepositoryId) -> Iterator[str]:
    """What is not as the manifest says, each in a sentence. Targets that could not be read are not judged."""
    table = table_of(recorded, held, repository)
    gone = {id_.hex() for id_ in table.removed}
    for slot in table.slots:
        name = f"key slot {slot.id.hex()} ({slot.label})"
        if not held.holders(slot):
            yield f"{name} lies on no target that can be read"
            continue
        if missing := held.missing(slot):
            yield f"{name} is missing at {', '.join(missing)}: drtool repair writes it again"
        if damaged := held.damaged(slot):
            yield f"{name} is damaged at {', '.join(damaged)}: drtool repair writes it again"
        if unwanted := [target for target in held.holders(slot) if target not in held.keepers]:
            yield f"{name} lies at {', '.join(unwanted)}, which is to keep none (keys: false)"
    known = {slot.id.hex() for slot in table.slots}
    slots = {slot.id.hex(): slot for slot in found_slots(held, repository)}
    for id_ in held.ids():
        where = ", ".join(held.showing(id_))
        if id_ in gone:
            yield f"key slot {id_} was removed and still lies at {where}: drtool repair removes it there"
        elif id_ not in known and id_ in slots:
            yield f"key slot {id_} ({slots[id_].label}) at {where} is not in the manifest"
        elif id_ not in known:
            yield f"{KEYS_PREFIX}{id_} at {where} is no key slot of this repository"


def slot_row(slot: KeySlot, host: str, generation: int = 1) -> SlotRow:
    """A slot, as the manifest names it."""
    return SlotRow(bytes.fromhex(slot.id), slot.label, generation, object_name(slot.encode()), time.time_ns(), host)


def keeps_slots(targets: Targets, rows: Iterable[Target]) -> list[TargetName]:
    """The targets that are to hold every slot, unless the manifest or this host's configuration says `keys: false`."""
    known = {row.name: row.keys for row in rows if row.state != "lost"}
    known |= {name: True for name in targets.online() if name not in known}
    return sorted(
        name for name, keys in known.items() if keys and (name not in targets.specs or targets.specs[name].keys)
    )


class Mended(Struct, frozen=True):
    """What was put right: slots that missed or were damaged, and removed ones that were still there; what failed, and why."""

    put: list[tuple[TargetName, str]]
    removed: list[tuple[TargetName, str]]
    failed: dict[TargetName, str]

    def messages(self) -> Iterator[str]:
        for target, id_ in self.put:
            yield f"key slot {id_} was missing or damaged at {target}: it was written again"
        for target, id_ in self.removed:
            yield f"key slot {id_} was removed while {target} was away; it is gone from there now"
        for target, why in self.failed.items():
            yield f"key slots at {target} cannot be put right: {why}"


def mend_slots(
    targets: Targets, table: KeyTable, rows: Iterable[Target], *, kept: bytes | None = None, thorough: bool = False
) -> Mended:
    """Brings every reachable target to what the manifest says of slots; damage is looked for only if `thorough`.

    `kept`: the slot that this host keeps, for when no target has it whole. Before anything is sealed and stored there: a target
    whose slots are old could not be opened by itself. So a target that has none of them and takes none gets no more writes.
    """
    mended = Mended([], [], {})
    if not table.epoch:  # nobody wrote down which slots there are
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
                targets.fail(name, f"it does not take the key slots: {error.message}")

    def mend_patiently(name: TargetName) -> None:
        wanted = table.slots if name in keepers else ()
        with suppress(StoreError):
            call = partial(_mend, targets.store(name), name, wanted, gone, mended, whole_text, thorough=thorough)
            targets.patiently(name, call)
            targets.failures.pop(name, None)
            mended.failed.pop(name, None)

    with ThreadPoolExecutor(WORKERS, "slots") as threads:  # a few round trips each: no target waits for another
        list(threads.map(mend, targets.online()))
        if silent and not any(map(targets.writable, targets.storing())):
            list(threads.map(mend_patiently, silent))
    return Mended(sorted(mended.put), sorted(mended.removed), mended.failed)


def _holds_any(targets: Targets, name: TargetName, slots: Iterable[SlotRow]) -> bool:
    """Whether one of the slots lies there, by its name."""
    with suppress(StoreError):  # what cannot be listed holds nothing to rely on
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
    for id_ in sorted(gone & listed) if not missing else ():  # else perhaps nothing would be left that opens it
        store.delete(KEYS_PREFIX + id_)
        mended.removed.append((name, id_))


def _whole_text(targets: Targets, slot: SlotRow) -> bytes | None:
    """The slot's bytes from any target that has them as the manifest names them."""
    for name in targets.online():
        with suppress(StoreError):  # the next one may have them; that none has is for `key list` to say
            text = _text(targets.store(name), slot.id.hex())
            if _is_whole(text, slot):
                return text
    return None


def put_slots(targets: Targets, names: Iterable[TargetName], slots: Mapping[str, bytes]) -> dict[TargetName, str]:
    """Stores slots, by id, on each of these targets that can be reached; why not for those that do not hold all now."""
    failed: dict[TargetName, str] = {}
    for name in names:
        try:
            for id_, text in slots.items():
                targets.store(name).put(KEYS_PREFIX + id_, text)
        except StoreError as error:
            failed[name] = targets.failures.get(name, error.message)
    return failed


def delete_slots(targets: Targets, names: Iterable[TargetName], ids: Iterable[str]) -> dict[TargetName, str]:
    """Deletes slots from these targets; why not for those that may still hold one."""
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
    """What lies below `keys/`, by the last part of its name."""
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
    """The repository that each key slot at a place says it belongs to."""
    with suppress(StoreError):  # a place that cannot be read says nothing
        for text in slot_texts(store).values():
            with suppress(FormatError, ValueError):
                yield RepositoryId(bytes.fromhex(KeySlot.decode(text).repository))


def parsed_slot(data: bytes, repository: RepositoryId) -> KeySlot | None:
    with suppress(FormatError):
        slot = KeySlot.decode(data)
        if slot.repository == repository.hex():
            return slot
    return None
