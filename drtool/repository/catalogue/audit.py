"""The audit of the catalogue's objects at each target: pages, register, key slots and marker, read from the target
itself.

Invariants
    Nothing comes from a cache or from memory. A target that cannot be read is silent, not faulty.
    A fault counts only if a second look, with the newest head, still shows it, since a fold or a change of voters may
    be in progress.
    A page is missing only if the register accepted a head with this checkpoint, and a list of objects that prune
    removes only if it accepted the newest head. Otherwise it is owed.
"""

from collections.abc import Collection, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import TYPE_CHECKING

from msgspec import Struct, field
from msgspec.structs import replace

from drtool.crypto import object_name
from drtool.errors import FormatError, NoQuorum, ObjectMissing, StoreError
from drtool.manifest.head import Head
from drtool.manifest.library import Learned, lists_of, references
from drtool.manifest.mirroring import mirrored_targets
from drtool.manifest.names import (
    ACCEPTORS,
    MIRRORS,
    OBJECT_READ_BYTES,
    OBJECTS,
    is_catalogue,
    life_of,
    name_in,
    object_key,
)
from drtool.manifest.registers import RegisterReport
from drtool.model import SiteName, TargetName, site_of
from drtool.repository.catalogue.copies import audit_copy
from drtool.repository.catalogue.seals import is_seal, seals_at
from drtool.repository.findings import Copy
from drtool.repository.marker import MARKER_OBJECT, Marker
from drtool.repository.slots import KEYS_PREFIX, read_slots
from drtool.stores import Store

if TYPE_CHECKING:
    from drtool.repository.repository import Repository

WORKERS = 8


class Fault(Struct, frozen=True):
    """An object of the catalogue that is missing or faulty at a target."""

    target: TargetName
    object: str
    reason: str
    missing: bool = False

    @property
    def copy(self) -> Copy:
        return self.target, self.object


class CatalogueAudit(Struct):
    """The inspected objects, and their faults. `owed`: pages that a target has not received since it was away.

    `targets`: the inspected ones. `silent`: those that could not be read, and why. `objects`: the only ones in
    question, or None.
    """

    targets: frozenset[TargetName] = frozenset()
    objects: frozenset[str] | None = None
    looked_at: set[Copy] = field(default_factory=set)
    faults: list[Fault] = field(default_factory=list)
    owed: list[Copy] = field(default_factory=list)
    silent: dict[TargetName, str] = field(default_factory=dict)

    def covers(self, target: TargetName, name: str) -> bool:
        """Return whether this audit covers a copy: its target was read, and the object was in question."""
        return target in self.targets and target not in self.silent and _is_asked(name, self.objects)

    def names(self) -> set[str]:
        """Return the names of every object that it covers."""
        return {name for _, name in (*self.looked_at, *self.owed, *(fault.copy for fault in self.faults))}

    def about(self, objects: frozenset[str] | None) -> "CatalogueAudit":
        """Return the part about these objects, or all with None. Any record stands for the register that replaces it."""
        return replace(
            self,
            objects=objects,
            looked_at={copy for copy in self.looked_at if _is_asked(copy[1], objects)},
            faults=[fault for fault in self.faults if _is_asked(fault.object, objects)],
            owed=[copy for copy in self.owed if _is_asked(copy[1], objects)],
        )


def _is_asked(name: str, objects: frozenset[str] | None) -> bool:
    if objects is None or name in objects:
        return True
    return name.startswith(ACCEPTORS) and any(asked.startswith(ACCEPTORS) for asked in objects)


def is_replaced(name: str) -> bool:
    """Return whether the catalogue may have had an object of this name that was replaced since."""
    return name_in(name) is not None or life_of(name) is not None


def audit_catalogue(repository: "Repository", *, contents: bool, site: SiteName | None = None) -> CatalogueAudit:
    """Inspect every target, or one site's. `contents`: read the pages, instead of comparing names and sizes only."""
    audit = _look(repository, contents, site)
    if not audit.faults:
        return audit
    if not repository.view.tentative:
        with suppress(NoQuorum):  # then it is judged by the known head
            repository.adopt(repository.manifest.read())
    seen = {fault.copy for fault in audit.faults}
    again = _look(repository, contents, site)
    again.faults = [fault for fault in again.faults if fault.copy in seen]
    return again


def _look(repository: "Repository", contents: bool, site: SiteName | None) -> CatalogueAudit:
    given_up = repository.targets.lost
    targets = [name for name in repository.targets.online() if site in (None, site_of(name)) and name not in given_up]
    audit = CatalogueAudit(frozenset(targets))
    reports = repository.manifest.registers()
    _audit_registers(repository, targets, reports, audit)
    _audit_slots(repository, targets, audit)
    keepers = {voter.target: reports.get(voter.site) for voter in repository.view.config.voters}
    with ThreadPoolExecutor(WORKERS, "catalogue") as threads:
        for part in threads.map(lambda name: _at_target(repository, name, keepers, contents), targets):
            audit.looked_at |= part.looked_at
            audit.faults += part.faults
            audit.owed += part.owed
            audit.silent |= part.silent
    audit.faults.sort(key=lambda fault: fault.copy)
    return audit


def _audit_registers(
    repository: "Repository",
    targets: Collection[TargetName],
    reports: Mapping[SiteName, RegisterReport],
    audit: CatalogueAudit,
) -> None:
    """Audit every register. Report every voter that does not answer, arbiters included."""
    for voter in repository.view.config.voters:
        report = reports.get(voter.site, RegisterReport(silent="it is not a voter of the current configuration"))
        if report.silent:
            audit.silent[voter.target] = report.silent
        elif voter.target in targets:
            audit.looked_at |= {(voter.target, name) for name in report.records}
            audit.faults += [Fault(voter.target, row.name, row.reason, row.missing) for row in report.faults]


def _audit_slots(repository: "Repository", targets: Collection[TargetName], audit: CatalogueAudit) -> None:
    """Audit every key slot that the manifest names, at every target that should hold it."""
    held = read_slots(repository.targets, repository.view.state.targets)
    for slot in repository.view.state.keys.slots:
        name = KEYS_PREFIX + slot.id.hex()
        audit.looked_at |= {(target, name) for target in held.keepers if target in held.at and target in targets}
        audit.faults += [
            Fault(target, name, f"the key slot {slot.label} is missing", missing=True)
            for target in held.missing(slot)
            if target in targets
        ]
        audit.faults += [
            Fault(target, name, f"it is not the key slot {slot.label} of the manifest")
            for target in held.damaged(slot)
            if target in targets
        ]


def _at_target(
    repository: "Repository",
    target: TargetName,
    keepers: dict[TargetName, RegisterReport | None],
    contents: bool,
) -> CatalogueAudit:
    def look() -> CatalogueAudit:
        audit, store = CatalogueAudit(), repository.targets.store(target)
        _audit_marker(repository, target, store, audit)
        if target in keepers:
            head = report.head if (report := keepers[target]) is not None else None
            _audit_pages(repository, target, _owed(repository.view.learned, head), contents, audit)
        elif target in mirrored_targets(repository.view.state):
            _audit_copy(repository, target, contents, audit)
        if contents:
            _audit_seals(repository, target, store, audit)
        return audit

    try:
        return repository.targets.patiently(target, look)
    except StoreError as error:
        return CatalogueAudit(silent={target: repository.targets.failures.get(target, error.message)})


def _audit_marker(repository: "Repository", target: TargetName, store: Store, audit: CatalogueAudit) -> None:
    audit.looked_at.add((target, MARKER_OBJECT))
    try:
        marker = Marker.read(store)
    except ObjectMissing:
        audit.faults.append(Fault(target, MARKER_OBJECT, "it is missing", missing=True))
    except FormatError as error:
        audit.faults.append(Fault(target, MARKER_OBJECT, error.message))
    else:
        if marker.target != target or not marker.authentic(repository.keyring):
            audit.faults.append(Fault(target, MARKER_OBJECT, "it was not written by this repository for this target"))


def _audit_copy(repository: "Repository", target: TargetName, contents: bool, audit: CatalogueAudit) -> None:
    """Audit the copy of the catalogue at a target without a register. What it lacks of the newest head is owed."""
    copy = audit_copy(repository, repository.targets.store(target))
    audit.looked_at |= {(target, name) for name in copy.looked_at}
    audit.faults += [Fault(target, name, reason) for name, reason in copy.damaged.items()]
    learned = repository.view.learned
    every = {object_key(row.name) for row in references(learned)}
    _audit_pages(repository, target, every if copy.head is None else _owed(learned, copy.head), contents, audit)


def _audit_pages(
    repository: "Repository", target: TargetName, may_lack: Collection[str], contents: bool, audit: CatalogueAudit
) -> None:
    """Audit every object below `manifest/obj/`, including unneeded ones. A missing one that it `may_lack` is owed."""
    learned, store = repository.view.learned, repository.targets.store(target)
    sizes = {object_key(row.name): row.size_bytes for row in references(learned)}
    listed = {info.name: info.size_bytes for info in store.list(OBJECTS) if name_in(info.name) is not None}
    missing = sizes.keys() - listed.keys()
    for name in sorted(missing):
        if name in may_lack:
            audit.owed.append((target, name))
        else:
            audit.faults.append(Fault(target, name, "it is missing", missing=True))
    for name, size_bytes in sorted(listed.items()):
        audit.looked_at.add((target, name))
        reason = _wrong_size(size_bytes, sizes.get(name)) or (why_bad(store, name) if contents else "")
        if reason:
            audit.faults.append(Fault(target, name, reason))


def _audit_seals(repository: "Repository", target: TargetName, store: Store, audit: CatalogueAudit) -> None:
    """Audit the seals of ended configurations, also at targets that no longer hold a register."""
    for name, reason in seals_at(repository, store):
        audit.looked_at.add((target, name))
        if reason:
            audit.faults.append(Fault(target, name, reason))


def _owed(learned: Learned, head: Head | None) -> set[str]:
    """Return the objects below the newest head that a register has not been given yet."""
    if head is None or head.sequence >= learned.head.sequence:
        return set()
    if head.checkpoint != learned.head.checkpoint:
        return {object_key(row.name) for row in references(learned)}
    return {object_key(row.name) for row in lists_of(learned.state)}


def _wrong_size(size_bytes: int, wanted_bytes: int | None) -> str:
    if wanted_bytes is not None and size_bytes != wanted_bytes:
        return f"it has {size_bytes} bytes instead of {wanted_bytes}"
    return "it is larger than the maximum size of a page" if size_bytes > OBJECT_READ_BYTES else ""


def why_bad(store: Store, name: str) -> str:
    """Return why a page does not match its name, or an empty string if it does or was removed after the listing."""
    try:
        data = store.get(name)
    except ObjectMissing:
        return ""
    return "" if object_name(data) == name_in(name) else "its content does not match its name"


def read_pages(store: Store, names: Collection[str]) -> Iterator[str]:
    """Yield those of the pages that the target holds whole."""
    for name in names:
        with suppress(StoreError):  # a page that cannot be read is not held
            if object_name(store.get(name)) == name_in(name):
                yield name


def remember_faults(repository: "Repository", audit: CatalogueAudit, *, contents: bool, judged: int) -> str:
    """Record damaged objects until they were read whole or are gone. Sizes alone prove no page whole.

    `judged`: the newest change of the manifest when the audit began. Return why this is not recorded for other hosts
    yet.
    """
    lasting = [fault for fault in audit.faults if not fault.object.startswith(MIRRORS)]  # each commit replaces mirrors
    found = {fault.copy for fault in lasting if not fault.missing}
    known = {copy for copy in repository.findings.all() if is_catalogue(copy[1]) and audit.covers(*copy)}
    unread = set() if contents else {copy for copy in known if copy[1].startswith(OBJECTS) or is_seal(copy[1])}
    return repository.findings.update(found, known - found - unread, judged=judged)


def problems_with_pages(repository: "Repository", current: Collection[SiteName]) -> Iterator[str]:
    """Yield the faults that listings show in the pages of voters with the newest head. No page is read."""
    sizes = {object_key(row.name): row.size_bytes for row in references(repository.view.learned)}
    for voter in repository.view.config.voters:
        if voter.site not in current or not repository.targets.reachable(voter.target):
            continue
        try:
            listed = {info.name: info.size_bytes for info in repository.targets.store(voter.target).list(OBJECTS)}
        except StoreError as error:
            yield f"the catalogue at {voter.target} cannot be listed: {error.message}"
            continue
        bad = sum(listed.get(name) != size_bytes for name, size_bytes in sizes.items())
        if bad:
            objects, are, them = ("1 object", "is", "it") if bad == 1 else (f"{bad} objects", "are", "them")
            where = f"of the catalogue at {voter.target}"
            yield f"{objects} {where} {are} missing or cut short: drtool repair restores {them}"
