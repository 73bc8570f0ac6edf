"""Repair of the catalogue's objects, each from any remaining copy whose content was checked.

Invariants
    Bytes are written only if their hash is the page's name, or is the one that the manifest names for the slot.
    A damaged seal is replaced by one that leads to the current configuration.
    A record of a register is never restored, because the voter's later promises are unknown. Instead the voter is
    readmitted under a new incarnation before this begins (`Manifest.refresh`).
    A damaged page that no head can need is deleted only with proof: it is retired, or `manifest compact` decides so.
"""

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from msgspec import Struct, field
from msgspec.structs import replace

from drtool.crypto import object_name
from drtool.errors import DrtoolError, StoreError
from drtool.manifest.library import object_names
from drtool.manifest.mirroring import mirrored_targets
from drtool.manifest.names import ACCEPTORS, MIRRORS, OBJECTS, name_in, object_key
from drtool.model import TargetName
from drtool.repository.catalogue.audit import CatalogueAudit, Fault, audit_catalogue
from drtool.repository.catalogue.copies import is_unneeded_page, mend_copies
from drtool.repository.catalogue.seals import is_seal, new_seal
from drtool.repository.copying import Amount
from drtool.repository.slots import KEYS_PREFIX

if TYPE_CHECKING:
    from drtool.repository.repository import Repository


class MendedCatalogue(Struct):
    """The restored objects, the remaining faults, and the targets that did not accept their objects, with reasons."""

    rebuilt: Amount = Amount()
    words: list[str] = field(default_factory=list)
    put: dict[TargetName, int] = field(default_factory=dict)
    left: list[Fault] = field(default_factory=list)
    failed: dict[TargetName, str] = field(default_factory=dict)

    def messages(self) -> Iterator[str]:
        """Yield what was done, in sentences."""
        for target, number in sorted(self.put.items()):
            pages = "1 page of the catalogue was" if number == 1 else f"{number} pages of the catalogue were"
            yield f"{target}: {pages} missing or damaged, and was restored"
        yield from self.words
        for target, why in sorted(self.failed.items()):
            yield f"{target} did not accept its missing objects of the catalogue: {why}"

    def lost(self) -> list[str]:
        """Return the objects that are still faulty at a target that accepts writes, since no good copy was found."""
        return sorted({fault.object for fault in self.left if fault.target not in self.failed})


def mend_catalogue(repository: "Repository", audit: CatalogueAudit) -> MendedCatalogue:
    """Replace the faulty objects, then audit everything again. Remaining faults are in `left`."""
    mended = MendedCatalogue()
    _mend_copies(repository, audit, mended)
    if not (audit.faults or audit.owed):
        return mended
    for name, targets in _pages(audit).items():
        _mend_page(repository, name, targets, mended)
    if any(fault.object.startswith(KEYS_PREFIX) for fault in audit.faults):
        slots = repository.mend_slots(thorough=True)
        mended.words += replace(slots, failed={}).messages()
        mended.failed |= slots.failed
    for fault in audit.faults:
        if is_seal(fault.object):
            _mend_seal(repository, fault, mended)
    mended.left = _still_there(repository, audit)
    if any(_is_left_over(repository, fault) for fault in mended.left):
        repository.manifest.compact()
        mended.left = _still_there(repository, audit)
    return mended


def _mend_copies(repository: "Repository", audit: CatalogueAudit, mended: MendedCatalogue) -> None:
    """Bring the copies of the catalogue at targets without a register up to date."""
    damaged: dict[TargetName, list[str]] = {}
    for fault in audit.faults:
        if fault.object.startswith(MIRRORS):
            damaged.setdefault(fault.target, []).append(fault.object)
    failed = mend_copies(repository, damaged)
    mended.failed |= failed
    mended.words += [
        f"{target}: its copy of the catalogue was damaged, and was replaced"
        for target in sorted(damaged.keys() - failed.keys())
    ]


def preview_mending(repository: "Repository", faults: Iterable[Fault]) -> MendedCatalogue:
    """Return the effect of mending. Nothing is written."""
    pages = [fault for fault in faults if fault.object.startswith(OBJECTS)]
    good = [data for fault in pages if (data := good_page(repository, fault.object)) is not None]
    return MendedCatalogue(Amount(len(good), sum(map(len, good))))


def _still_there(repository: "Repository", audit: CatalogueAudit) -> list[Fault]:
    again = audit_catalogue(repository, contents=True).about(audit.objects)
    return [fault for fault in again.faults if fault.target in audit.targets]


def _pages(audit: CatalogueAudit) -> dict[str, list[TargetName]]:
    """Return, for each page by name, the targets that lack it."""
    pages: dict[str, list[TargetName]] = {}
    for target, name in sorted((*(fault.copy for fault in audit.faults), *audit.owed)):
        if name.startswith(OBJECTS):
            pages.setdefault(name, []).append(target)
    return pages


def _mend_page(repository: "Repository", name: str, targets: Iterable[TargetName], mended: MendedCatalogue) -> None:
    data = good_page(repository, name)
    if data is None:
        if name in _retired(repository):
            _delete(repository, name, targets, mended)
        elif is_unneeded_page(repository, name):  # without a register nothing else deletes it
            without = set(mirrored_targets(repository.view.state))
            _delete(repository, name, without.intersection(targets), mended)
        return
    for target in targets:
        why = _put(repository, target, name, data)
        if why:
            mended.failed[target] = why
        else:
            mended.rebuilt += Amount(1, len(data))
            mended.put[target] = mended.put.get(target, 0) + 1


def _mend_seal(repository: "Repository", fault: Fault, mended: MendedCatalogue) -> None:
    data = new_seal(repository, fault.object)
    if data is None:
        return
    why = _put(repository, fault.target, fault.object, data)
    if why:
        mended.failed[fault.target] = why
    else:
        mended.rebuilt += Amount(1, len(data))
        mended.words.append(f"{fault.target}: the seal of an ended configuration was damaged, and was written again")


def good_page(repository: "Repository", name: str) -> bytes | None:
    """Return the page's bytes from any target, with or without a voter, or from this host's cache."""
    wanted = name_in(name)
    for data in _copies(repository, name):
        if data is not None and object_name(data) == wanted:
            return data
    return None


def _copies(repository: "Repository", name: str) -> Iterator[bytes | None]:
    yield repository.cache.pages.get(name_in(name) or b"")
    for target in repository.targets.online():
        try:
            yield repository.targets.store(target).get(name)
        except StoreError:
            yield None


def _put(repository: "Repository", target: TargetName, name: str, data: bytes) -> str:
    """Store the bytes, and return why the target does not hold them now, or an empty string."""
    try:
        store = repository.targets.store(target)
        store.put(name, data)
        return "" if store.get(name) == data else f"{target} returns other bytes than were written"
    except DrtoolError as error:
        return error.message


def _delete(repository: "Repository", name: str, targets: Iterable[TargetName], mended: MendedCatalogue) -> None:
    for target in targets:
        try:
            repository.targets.store(target).delete(name)
        except StoreError as error:
            mended.failed[target] = error.message
        else:
            mended.words.append(f"{target}: {name}, which was damaged and is no longer needed, was removed")


def _retired(repository: "Repository") -> set[str]:
    checkpoint = repository.view.learned.checkpoint
    return {object_key(row.name) for row in checkpoint.retired} if checkpoint else set()


def _needed(repository: "Repository") -> set[str]:
    return {object_key(name) for name in object_names(repository.view.learned)}


def _is_left_over(repository: "Repository", fault: Fault) -> bool:
    """Return whether it is an old record of a chain or an unnamed page, which compaction deletes under its own proof."""
    known = _needed(repository) | _retired(repository)
    return fault.object.startswith(ACCEPTORS) or (fault.object.startswith(OBJECTS) and fault.object not in known)
