"""One verification: inventories against the catalogue, then every byte of every copy, or of a sample.

Invariants
    A finding never stops the run. Only what a listing or a read showed is reported, and unreachable targets are named.
    Nothing is written except the record of the coverage, and one small object at each target as a write test.
"""

import time
from collections.abc import Collection, Iterable, Iterator

from drtool.errors import DrtoolError, UsageError
from drtool.events import Emit, Stage, Warned
from drtool.manifest.names import is_catalogue
from drtool.model import SiteName, TargetName, site_of
from drtool.operations.verify.bound import upper_bound
from drtool.operations.verify.covering import Covered, cover, draw, record
from drtool.operations.verify.losses import Found, judged
from drtool.operations.verify.request import (
    Checked,
    ChosenCopy,
    Damaged,
    LookedAt,
    Missing,
    OfflineTarget,
    Prospect,
    UnableVoter,
    VerifyRequest,
    VerifyResult,
)
from drtool.operations.verify.rounds import Copy
from drtool.packing import SegmentPack
from drtool.repository import Repository
from drtool.repository.catalogue import CatalogueAudit, audit_catalogue, is_replaced, remember_faults
from drtool.repository.expected import Expected, Standing, expected_objects, standing
from drtool.repository.findings import Copy as Finding
from drtool.repository.inventory import Inventory, take_inventory
from drtool.repository.reach import needed_packs
from drtool.repository.readiness import readiness, reason_of


def verify(repository: Repository, request: VerifyRequest, emit: Emit) -> VerifyResult:
    """Check everything that the catalogue, or one snapshot, needs, on every reachable target or those of one site."""
    started, began = time.monotonic(), repository.view.sequence
    _check_site(repository, request.site)
    emit(Stage(name="listing"))
    repository.load_index()
    for segment, why in repository.index.unavailable.items():
        emit(Warned(message=f"index segment {segment.hex()[:16]}… cannot be read: {why}"))
    for problem in repository.slot_problems():
        emit(Warned(message=problem))
    ready = readiness(repository, site=request.site)
    for message in ready.messages():
        emit(Warned(message=message))
    inventory = _of_site(take_inventory(repository.targets), request.site)
    catalogue = _look_at_catalogue(repository, request, began)
    before = frozenset(copy for copy in repository.findings.all() if not is_catalogue(copy[1]))
    wanted = list(_expected(repository, request, inventory, emit))
    _check_objects(request, wanted, catalogue)
    damaged = _wrong_sizes(wanted, inventory)
    covered = cover(repository, wanted, inventory, request, emit)
    damaged += covered.damaged
    damaged += _bad_segments(repository, wanted, inventory, damaged)
    found = list(damaged)
    damaged += _known(wanted, inventory, before - covered.whole, damaged)
    read_in_vain = {(row.target, row.object) for row in damaged}
    copies = 1 if request.site else repository.view.state.policy.copies  # one site alone can have one copy at most
    standings = _standings(wanted, inventory, copies, damaged)
    missing, nowhere = _missing(standings), {s.expected.name for s in standings if not s.holders}
    if missing or damaged:
        wanted, inventory = _look_again(repository, request, emit)
        damaged = _still_there(damaged, wanted, inventory)
        standings = _standings(wanted, inventory, copies, damaged)
        missing = [row for row in _missing(standings) if row in missing or (row.target, row.object) in read_in_vain]
        nowhere &= {s.expected.name for s in standings if not s.holders}
    _remember(repository, request, covered, inventory, [row for row in found if row in damaged], before, began, emit)
    verdict = judged(repository, request, Found(standings, missing, damaged, nowhere), inventory)
    standings, missing, damaged = verdict.standings, verdict.missing, verdict.damaged
    missing += [Missing(fault.target, fault.object) for fault in catalogue.faults if fault.missing]
    damaged += [Damaged(fault.target, fault.object, fault.reason) for fault in catalogue.faults if not fault.missing]
    unsound = {site_of(row.target) for row in missing} | {site_of(row.target) for row in damaged}
    recorded = not repository.index.unavailable and record(repository, request, covered, inventory, unsound, emit)
    return VerifyResult(
        level=request.level,
        checked=_checked(repository, standings, catalogue),
        missing=missing,
        damaged=damaged,
        affected=verdict.affected,
        lost=verdict.report,
        unrepairable=[
            Missing(s.expected.desired[0], s.expected.name) for s in standings if s.expected.name in verdict.lost
        ],
        bound_95=covered.bound,
        wall_seconds=round(time.monotonic() - started, 3),
        offline=[
            OfflineTarget(target, why) for target, why in sorted({**catalogue.silent, **inventory.unlisted}.items())
        ],
        refusing=[OfflineTarget(target, reason_of(error)) for target, error in sorted(ready.refusals.items())],
        voters=[UnableVoter(site, why) for site, why in sorted(ready.voters.items())],
        misplaced=sum(s.misplaced for s in standings),
        owed=sum(s.owed for s in standings) + len(catalogue.owed),
        unreferenced=Checked(0, 0) if request.partial else _unreferenced(inventory, wanted),
        degraded=any(s.below_copies for s in standings),
        rounds=covered.rounds_after(repository),
        recorded=recorded,
        tentative=repository.view.tentative,
    )


def healed(
    repository: Repository, found: VerifyResult, emit: Emit
) -> tuple[list[Missing], list[Missing], VerifyResult]:
    """Return, after a repair, (findings that are corrected, those that are not, the new result)."""
    now = verify(repository, VerifyRequest(), emit)
    left = {(row.target, row.object) for row in now.missing} | {(row.target, row.object) for row in now.damaged}
    left |= repository.findings.all()
    rows = [*found.missing, *(Missing(row.target, row.object) for row in found.damaged)]
    unseen = {row.target for row in now.offline}
    good = [row for row in rows if (row.target, row.object) not in left and row.target not in unseen]
    return good, [row for row in rows if row not in good], now


def _remember(
    repository: Repository,
    request: VerifyRequest,
    covered: Covered,
    inventory: Inventory,
    damaged: list[Damaged],
    before: frozenset[Finding],
    began: int,
    emit: Emit,
) -> None:
    """Record what was found damaged. A finding stands until the copy was read again and is whole, or is gone."""
    found = {(row.target, row.object) for row in damaged}
    listed = {(target, name) for target, objects in inventory.objects.items() for name in objects}
    sound = {copy for copy in before if copy[0] in inventory.objects and (copy not in listed or copy in covered.whole)}
    unread = {target for (target, _), problem in covered.outcomes.items() if problem is None}
    whole = inventory.objects.keys() - unread if request.level == "full" and not request.partial else ()
    untold = repository.findings.update(found, sound - found, judged=began, read_whole=whole)
    if untold:
        emit(Warned(message=f"the findings are not recorded for other hosts yet: {untold}"))


def _known(
    wanted: list[Expected], inventory: Inventory, known: Collection[Finding], found: list[Damaged]
) -> list[Damaged]:
    """Return copies that an earlier read, by any host, found damaged and that this run did not read again."""
    sizes = {e.name: e.size_bytes for e in wanted}
    told = {(row.target, row.object) for row in found}
    return [
        Damaged(target, name, "an earlier read found it damaged, and it was not read again")
        for target, name in sorted(known)
        if (target, name) not in told and inventory.objects.get(target, {}).get(name) == sizes.get(name, -1)
    ]


def _check_site(repository: Repository, site: str | None) -> None:
    known = repository.targets.sites()
    if site is not None and SiteName(site) not in known:
        raise UsageError(f"--site {site}: there is no such site", hint=f"there are {', '.join(known)}")


def _look_at_catalogue(repository: Repository, request: VerifyRequest, began: int) -> CatalogueAudit:
    """Return the audit of the catalogue, and record damage there. `_remember` reports if it could not be recorded."""
    contents = request.level != "structure"
    site = SiteName(request.site) if request.site is not None else None
    audit = audit_catalogue(repository, contents=contents, site=site).about(request.objects)
    remember_faults(repository, audit, contents=contents, judged=began)
    return audit


def _check_objects(request: VerifyRequest, wanted: list[Expected], catalogue: CatalogueAudit) -> None:
    """Refuse unknown object names: no output must not be mistaken for a verdict."""
    names = {expected.name for expected in wanted} | catalogue.names()
    unknown = sorted(name for name in (request.objects or frozenset()) - names if not is_replaced(name))
    if unknown:
        where = f" at site {request.site}" if request.site else ""
        raise DrtoolError(
            f"{unknown[0]} is not an object of this repository{where}",
            hint="name objects as `verify` does: packs/…, index/…, manifest/…, keys/… (prune may have removed it)",
        )


def prospect(repository: Repository, request: VerifyRequest, emit: Emit) -> Prospect:
    """Return what a verification would read, drawn in the same way. Only listings are read."""
    _check_site(repository, request.site)
    repository.load_index()
    inventory = _of_site(take_inventory(repository.targets), request.site)
    wanted = list(_expected(repository, request, inventory, emit))
    catalogue = audit_catalogue(repository, contents=False) if any(map(is_catalogue, request.objects or ())) else None
    _check_objects(request, wanted, catalogue or CatalogueAudit())
    copies = [Copy(target, e) for e in wanted for target in inventory.holders(e.name, e.size_bytes)]
    chosen: list[Copy] = []
    population = 0
    if request.level != "structure":
        covered, chosen = draw(repository, wanted, inventory, request)
        population = sum(covered.population.values())
    return Prospect(
        copies=len(copies),
        read=[ChosenCopy(copy.target, copy.expected.name) for copy in chosen],
        read_bytes=sum(copy.expected.size_bytes for copy in chosen),
        bound_if_clean=upper_bound(len(chosen), 0, population),
        offline=[OfflineTarget(target, why) for target, why in sorted(inventory.unlisted.items())],
    )


def _look_again(repository: Repository, request: VerifyRequest, emit: Emit) -> tuple[list[Expected], Inventory]:
    """Look again a moment later: while other runs remove and move objects, a single look may fall between two steps."""
    try:
        if not repository.view.tentative:
            repository.adopt(repository.manifest.read())
    except DrtoolError as error:
        emit(Warned(message=f"the findings are judged by the catalogue as of the start: {error.message}"))
    inventory = _of_site(take_inventory(repository.targets), request.site)
    return list(_expected(repository, request, inventory, emit)), inventory


def _still_there(damaged: list[Damaged], wanted: list[Expected], inventory: Inventory) -> list[Damaged]:
    """Return the damaged copies that are still needed and still exist. Needed ones that are gone are missing."""
    names = {e.name for e in wanted}
    return [
        row
        for row in damaged
        if row.object in names and (row.target not in inventory.objects or row.object in inventory.objects[row.target])
    ]


def _standings(wanted: list[Expected], inventory: Inventory, copies: int, damaged: list[Damaged]) -> list[Standing]:
    bad: dict[str, set[TargetName]] = {}
    for row in damaged:
        bad.setdefault(row.object, set()).add(row.target)
    return [standing(e, inventory, copies, bad.get(e.name, ())) for e in wanted]


def _missing(standings: list[Standing]) -> list[Missing]:
    return [Missing(target, s.expected.name) for s in standings for target in s.missing]


def _of_site(inventory: Inventory, site: str | None) -> Inventory:
    if site is None:
        return inventory
    return Inventory(
        {target: objects for target, objects in inventory.objects.items() if site_of(target) == site},
        {target: why for target, why in inventory.unlisted.items() if site_of(target) == site},
    )


def _expected(repository: Repository, request: VerifyRequest, inventory: Inventory, emit: Emit) -> Iterator[Expected]:
    """Yield every expected object. For one site: those it should have, and any others of them that it has."""
    state = repository.view.state
    packs: Iterable[SegmentPack] = repository.index.packs()
    if request.snapshot is not None:
        needed = needed_packs(repository, [request.snapshot.root], lambda error: emit(Warned(message=error.message)))
        packs = (pack for pack in packs if pack.pack in needed)
    for expected in expected_objects(packs, state.segments, repository.placement, state.policy.copies):
        if request.objects is not None and expected.name not in request.objects:
            continue
        if request.site is None:
            yield expected
            continue
        here = tuple(target for target in expected.desired if site_of(target) == request.site)
        if here or any(expected.name in objects for objects in inventory.objects.values()):
            yield Expected(expected.name, expected.size_bytes, here, (), expected.metadata)


def _wrong_sizes(wanted: list[Expected], inventory: Inventory) -> list[Damaged]:
    return [
        Damaged(target, e.name, f"it has {inventory.objects[target][e.name]} bytes instead of {e.size_bytes}")
        for e in wanted
        for target in inventory.holders(e.name, None)
        if inventory.objects[target][e.name] != e.size_bytes
    ]


def _bad_segments(
    repository: Repository, wanted: list[Expected], inventory: Inventory, found: list[Damaged]
) -> list[Damaged]:
    """Return the copies of index segments that were unusable just now.

    Without a good one, the packs that it names are unknown.
    """
    sizes = {e.name: e.size_bytes for e in wanted if e.name.startswith("index/")}
    known = {(row.target, row.object) for row in found}
    return [
        Damaged(bad.target, bad.object, bad.reason)
        for bad in repository.objects.bad_copies.values()
        if inventory.objects.get(bad.target, {}).get(bad.object) == sizes.get(bad.object, -1)
        and (bad.target, bad.object) not in known
    ]


def _checked(repository: Repository, standings: list[Standing], catalogue: CatalogueAudit) -> LookedAt:
    segments = len(repository.view.state.segments)
    return LookedAt(
        packs=sum(s.expected.name.startswith("packs/") for s in standings),
        bytes=sum(s.expected.size_bytes * len(s.holders) for s in standings),
        catalogue=len(catalogue.looked_at),
        segments=segments,
        segments_read=segments - len(repository.index.unavailable),
    )


def _unreferenced(inventory: Inventory, wanted: list[Expected]) -> Checked:
    known = {expected.name for expected in wanted}
    sizes = {
        name: size
        for objects in inventory.objects.values()
        for name, size in objects.items()
        if name not in known and name.startswith("packs/")
    }
    return Checked(len(sizes), sum(sizes.values()))
