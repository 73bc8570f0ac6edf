"""What would be left after a loss, by what every target lists now.

Invariants
    Nothing is guessed: a target that cannot be listed counts as lost, and is named. Nothing is changed.
    A snapshot counts as restorable if the catalogue that names it, a key slot that opens it, and everything that it is made of
    are left. Contents are not read; `verify` does that, and what it found damaged does not count as there.
"""

import time
from collections.abc import Collection, Iterable

from msgspec import Struct

from drtool.config import nearest
from drtool.errors import UsageError
from drtool.events import Emit, Progress, Stage
from drtool.manifest.records import Snapshot
from drtool.model import PackId, SiteName, TargetName, pack_object, site_of
from drtool.operations.survive.judging import Bits, Mask, Need, are_met, losses, named_targets
from drtool.operations.survive.needs import Needs
from drtool.operations.survive.request import (
    Away,
    Outlook,
    QuorumLeft,
    Scenario,
    SurviveRequest,
    SurviveResult,
    Tally,
)
from drtool.repository import Repository
from drtool.repository.inventory import Inventory, take_inventory
from drtool.repository.reach import needed_packs
from drtool.repository.slots import read_slots


class _Voter(Struct, frozen=True):
    """A voter that can be read: where its register is, and how many changes it is behind."""

    target: TargetName
    lag: int


class _Stock(Struct, frozen=True):
    """All that was looked at, before anything is imagined."""

    repository: Repository
    inventory: Inventory
    bits: Bits
    voters: tuple[_Voter, ...]
    needed_voters: int
    with_slots: frozenset[TargetName]
    snapshots: tuple[tuple[Snapshot, list[Need]], ...]
    sizes: dict[PackId, int]


def survive(repository: Repository, request: SurviveRequest, emit: Emit) -> SurviveResult:
    """What each snapshot would come to if `request.lose` were gone; with nothing named, if each site and each pair were."""
    started = time.monotonic()
    by_site = _targets_by_site(repository)
    lost, unknown = named_targets(request.lose, by_site)
    if unknown:
        every = [*by_site, *(name for names in by_site.values() for name in names)]
        raise UsageError(
            f"--lose {unknown[0]}: there is no such site or target{nearest(unknown[0], every)}",
            hint=f"there are {', '.join(every)}",
        )
    stock = _take_stock(repository, emit)
    scenario = _imagine(stock, list(request.lose), lost, _is_promised(repository, lost))
    tried = losses(list(by_site)) if not request.lose else []
    return SurviveResult(
        lost=list(request.lose),
        quorum=scenario.quorum,
        snapshots=_outlooks(stock, lost),
        summary=scenario.summary,
        reasons=scenario.reasons,
        scenarios=[_of_sites(stock, sites, by_site) for sites in tried],
        away=[Away(name, why) for name, why in sorted(stock.inventory.unlisted.items())],
        tentative=repository.view.tentative,
        wall_seconds=round(time.monotonic() - started, 3),
    )


def exit_code(result: SurviveResult) -> int:
    """4 if something cannot be restored as things are; 7 if a loss within the promise would cost a snapshot."""
    short = [row for row in result.scenarios if row.promised and row.summary.restorable < row.summary.total]
    if not result.lost and result.summary.restorable < result.summary.total:
        return 4
    return 7 if short else 0


def _targets_by_site(repository: Repository) -> dict[SiteName, list[TargetName]]:
    """Every site's targets: those that the manifest or this host's configuration names and that are not given up."""
    names = {name for name, row in repository.target_rows().items() if row.state != "lost"} | set(
        repository.targets.specs
    )
    sites: dict[SiteName, list[TargetName]] = {}
    for name in sorted(names):
        sites.setdefault(site_of(name), []).append(name)
    return sites


def _take_stock(repository: Repository, emit: Emit) -> _Stock:
    emit(Stage(name="listing"))
    repository.load_index()
    inventory = take_inventory(repository.targets)
    repository.set_lost_packs_aside()  # what they held may have been stored again elsewhere
    bits = Bits(inventory.objects)
    needs = Needs(repository, inventory, bits)
    emit(Stage(name="walking"))
    snapshots = []
    rows = list(repository.view.state.snapshots)
    for number, row in enumerate(rows, start=1):
        snapshots.append((row, needs.of(row.root)))
        emit(Progress(processed_bytes=number, total_bytes=len(rows)))
    return _Stock(
        repository=repository,
        inventory=inventory,
        bits=bits,
        voters=_voters(repository),
        needed_voters=repository.view.config.quorum,
        with_slots=_with_slots(repository),
        snapshots=tuple(snapshots),
        sizes={pack.pack: pack.size_bytes for pack in repository.index.packs()},
    )


def _with_slots(repository: Repository) -> frozenset[TargetName]:
    """Targets with a whole copy of a slot that the manifest names; of a repository that names none yet, with any."""
    held = read_slots(repository.targets, repository.view.state.targets)
    slots = repository.view.state.keys.slots
    if not slots:
        return frozenset(name for name, texts in held.at.items() if texts)
    return frozenset(name for slot in slots for name in held.holders(slot))


def _voters(repository: Repository) -> tuple[_Voter, ...]:
    rows = {row.site: row for row in repository.manifest.status().acceptors}
    voters = []
    for voter in repository.view.config.voters:
        row = rows.get(voter.site)
        if row is not None and row.reachable and row.lag is not None and not row.problem:
            voters.append(_Voter(voter.target, row.lag))
    return tuple(voters)


def _of_sites(stock: _Stock, sites: Collection[SiteName], by_site: dict[SiteName, list[TargetName]]) -> Scenario:
    lost = frozenset(name for site in sites for name in by_site[site])
    return _imagine(stock, list(sites), lost, _is_promised(stock.repository, lost))


def _is_promised(repository: Repository, lost: Collection[TargetName]) -> bool:
    """Whether so few sites storing copies lose something that the promised copies should cover it."""
    storing = set(repository.targets.storing())
    hit = {site_of(name) for name in lost if name in storing}
    return len(hit) < repository.view.state.policy.copies


def _imagine(stock: _Stock, words: list[str], lost: Collection[TargetName], promised: bool) -> Scenario:
    mask = stock.bits.mask(lost)
    restorable = [row for row, needs in stock.snapshots if _is_restorable(stock, row, needs, lost, mask)]
    return Scenario(
        lost=words,
        quorum=QuorumLeft(stock.needed_voters, len(_left(stock, lost))),
        summary=Tally(len(restorable), len(stock.snapshots)),
        newest_restorable_ns=max((row.time_ns for row in restorable), default=None),
        reasons=list(_reasons(stock, lost)),
        promised=promised,
    )


def _left(stock: _Stock, lost: Collection[TargetName]) -> list[_Voter]:
    return [voter for voter in stock.voters if voter.target not in lost]


def _is_restorable(
    stock: _Stock, row: Snapshot, needs: Iterable[Need], lost: Collection[TargetName], mask: Mask
) -> bool:
    known = [voter for voter in _left(stock, lost) if row.sequence <= stock.repository.view.sequence - voter.lag]
    return bool(known) and bool(stock.with_slots - frozenset(lost)) and are_met(needs, mask)


def _reasons(stock: _Stock, lost: Collection[TargetName]) -> Iterable[str]:
    left = _left(stock, lost)
    if not left:
        yield "no voter is left: nothing says what there is"
    elif min(voter.lag for voter in left):
        yield "the voters that are left do not have the newest changes of the catalogue"
    if not stock.with_slots - frozenset(lost):
        yield "no key slot is left: no password opens anything"


def _outlooks(stock: _Stock, lost: Collection[TargetName]) -> list[Outlook]:
    mask = stock.bits.mask(lost)
    return [_outlook(stock, row, _is_restorable(stock, row, needs, lost, mask), mask) for row, needs in stock.snapshots]


def _outlook(stock: _Stock, row: Snapshot, restorable: bool, mask: Mask) -> Outlook:
    return Outlook(
        id=row.id.hex(),
        host=row.host,
        source=row.source,
        time_ns=row.time_ns,
        restorable=restorable,
        missing_packs=0 if restorable else _missing_packs(stock, row, mask),
    )


def _missing_packs(stock: _Stock, row: Snapshot, mask: Mask) -> int:
    """How many packs it needs that nobody would have."""
    damaged = stock.repository.findings.all()
    missing = 0
    for pack in needed_packs(stock.repository, [row.root], lambda _: None):
        name = pack_object(pack)
        holders = stock.inventory.holders(name, stock.sizes.get(pack))
        missing += not stock.bits.mask(t for t in holders if (t, name) not in damaged) & ~mask
    return missing
