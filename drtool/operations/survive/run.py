"""The effect of a loss, from the current listings of all targets.

Invariants
    Nothing is guessed: a target that cannot be listed counts as lost, and is named. Nothing is changed.
    A snapshot counts as restorable if the catalogue that names it, a key slot that opens it, and all its data remain. A
    head, of a voter or in a copy of the catalogue, counts only if the remaining sites return every object that it
    names, whole.
    File contents are not read, which is the task of `verify`. Copies that verify found damaged, or that cannot be read
    during the walk over trees, do not count.
"""

import time
from collections.abc import Collection, Iterator

from msgspec import Struct

from drtool.config import nearest
from drtool.errors import DrtoolError, UsageError
from drtool.events import Emit, Progress, Stage
from drtool.manifest.library import Learned, lists_of, object_names
from drtool.manifest.names import OBJECTS, object_key
from drtool.manifest.records import Snapshot, Voter
from drtool.model import SiteName, TargetName, segment_object, site_of
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
from drtool.repository.catalogue import read_pages
from drtool.repository.findings import Copy
from drtool.repository.inventory import Inventory, take_inventory
from drtool.repository.slots import read_slots


class _Holder(Struct, frozen=True):
    """A readable register or a copy of the catalogue. Only a register `votes`.

    `lag`: how many changes it is behind. `needs`: the objects that its head needs. `holds`: the objects it has.
    """

    target: TargetName
    lag: int
    needs: frozenset[str] | None
    holds: frozenset[str]
    votes: bool = True


class _Walked(Struct, frozen=True):
    """A snapshot, its needs, and how many of its packs would be missing after the loss that was named."""

    snapshot: Snapshot
    needs: list[Need]
    missing_packs: int


class _Stock(Struct, frozen=True):
    """Everything that was inspected, before any loss is imagined."""

    repository: Repository
    inventory: Inventory
    bits: Bits
    holders: tuple[_Holder, ...]
    needed_voters: int
    with_slots: frozenset[TargetName]
    segments: tuple[Mask, ...]
    snapshots: tuple[_Walked, ...]


class _Left(Struct, frozen=True):
    """The state after a loss. `holders`: registers and copies of the catalogue.

    `known_up_to`: the last change in a head whose objects are all held, or -1. `slots`: whether a key slot remains.
    """

    voters: int
    holders: int
    known_up_to: int
    slots: bool
    lost: Mask

    def restores(self, row: _Walked) -> bool:
        return row.snapshot.sequence <= self.known_up_to and self.slots and are_met(row.needs, self.lost)


def survive(repository: Repository, request: SurviveRequest, emit: Emit) -> SurviveResult:
    """Return the fate of each snapshot if `request.lose` were gone, or if each site and each pair were."""
    started = time.monotonic()
    by_site = _targets_by_site(repository)
    lost, unknown = named_targets(request.lose, by_site)
    if unknown:
        every = [*by_site, *(name for names in by_site.values() for name in names)]
        raise UsageError(
            f"--lose {unknown[0]}: there is no such site or target{nearest(unknown[0], every)}",
            hint=f"there are {', '.join(every)}",
        )
    stock = _take_stock(repository, lost, emit)
    scenario = _imagine(stock, list(request.lose), lost, _is_promised(repository, lost))
    tried = losses(_counting(repository, by_site)) if not request.lose else []
    return SurviveResult(
        lost=list(request.lose),
        quorum=scenario.quorum,
        catalogue_copies=scenario.catalogue_copies,
        snapshots=_outlooks(stock, lost),
        summary=scenario.summary,
        reasons=scenario.reasons,
        scenarios=[_of_sites(stock, sites, by_site) for sites in tried],
        away=[Away(name, why) for name, why in sorted(stock.inventory.unlisted.items())],
        tentative=repository.view.tentative,
        wall_seconds=round(time.monotonic() - started, 3),
    )


def exit_code(result: SurviveResult) -> int:
    """Return 4 if something cannot be restored now, or 7 if a loss within the promise would cost a snapshot, else 0."""
    short = [row for row in result.scenarios if row.promised and row.summary.restorable < row.summary.total]
    if not result.lost and result.summary.restorable < result.summary.total:
        return 4
    return 7 if short else 0


def _targets_by_site(repository: Repository) -> dict[SiteName, list[TargetName]]:
    """Return the targets of every site that the manifest or this host's configuration names and that are not given up."""
    names = {name for name, row in repository.target_rows().items() if row.state != "lost"} | set(
        repository.targets.specs
    )
    sites: dict[SiteName, list[TargetName]] = {}
    for name in sorted(names):
        sites.setdefault(site_of(name), []).append(name)
    return sites


def _counting(repository: Repository, by_site: dict[SiteName, list[TargetName]]) -> list[SiteName]:
    """Return the sites whose loss matters. Sites that were given up and do not answer are left out."""
    rows = repository.target_rows()
    gone = {name for name, row in rows.items() if row.state == "lost" and not repository.targets.reachable(name)}
    return [site for site, names in by_site.items() if not gone.issuperset(names)]


def _take_stock(repository: Repository, lost: Collection[TargetName], emit: Emit) -> _Stock:
    emit(Stage(name="listing"))
    repository.load_index()
    inventory = take_inventory(repository.targets)
    repository.set_lost_packs_aside(to_look=True)  # their contents may have been stored again elsewhere
    bits = Bits(inventory.objects)
    return _Stock(
        repository=repository,
        inventory=inventory,
        bits=bits,
        holders=(*_voters(repository), *_copies(repository)),
        needed_voters=repository.view.config.quorum,
        with_slots=_with_slots(repository),
        segments=tuple(
            bits.mask(inventory.holders(segment_object(ref.id), ref.size_bytes))
            for ref in repository.view.state.segments
        ),
        snapshots=tuple(_walk_all(repository, inventory, bits, bits.mask(lost), emit)),
    )


def _walk_all(repository: Repository, inventory: Inventory, bits: Bits, lost: Mask, emit: Emit) -> list[_Walked]:
    """Walk all snapshots. Start again if a copy that counted turned out bad during the walk."""
    ruled_out: frozenset[Copy] = repository.findings.all()
    rows = list(repository.view.state.snapshots)
    while True:
        emit(Stage(name="walking"))
        needs = Needs(repository, inventory, bits, lost, ruled_out)
        walked = []
        for number, row in enumerate(rows, start=1):
            walked.append(_Walked(row, *needs.of(row.root)))
            emit(Progress(counted="snapshot", files=number, total_files=len(rows)))
        bad = {copy for copy in repository.objects.bad_copies if copy[1] in inventory.objects.get(copy[0], {})}
        if bad <= ruled_out:
            return walked
        ruled_out |= bad


def _with_slots(repository: Repository) -> frozenset[TargetName]:
    """Return the targets with a whole copy of a slot that the manifest names, or of any slot if it names none yet."""
    held = read_slots(repository.targets, repository.view.state.targets)
    slots = repository.view.state.keys.slots
    if not slots:
        return frozenset(name for name, texts in held.at.items() if texts)
    return frozenset(name for slot in slots for name in held.holders(slot))


def _voters(repository: Repository) -> Iterator[_Holder]:
    rows = {row.site: row for row in repository.manifest.status().acceptors}
    for voter in repository.view.config.voters:
        row = rows.get(voter.site)
        if row is not None and row.reachable and row.lag is not None and not row.problem:
            yield _Holder(voter.target, row.lag, *_objects_at(repository, voter))


def _copies(repository: Repository) -> Iterator[_Holder]:
    """Yield the copies of the catalogue, of the current generation, at targets without a register."""
    for row in repository.manifest.mirrors(repository.view):
        if row.lag is None:
            continue
        try:
            learned = repository.manifest.mirror_at(row.target)
        except DrtoolError:  # its pages are missing
            continue
        if learned is not None:
            yield _Holder(row.target, row.lag, *_pages_at(repository, row.target, learned), votes=False)


def _objects_at(repository: Repository, voter: Voter) -> tuple[frozenset[str] | None, frozenset[str]]:
    """Return (the objects that the voter's head needs or None if unreadable, the objects that the voter returns whole)."""
    try:
        learned = repository.manifest.read_offline(voter.site).learned
    except DrtoolError:
        return None, frozenset()
    return _pages_at(repository, voter.target, learned)


def _pages_at(
    repository: Repository, target: TargetName, learned: Learned
) -> tuple[frozenset[str] | None, frozenset[str]]:
    """Return (the objects that a head needs or None if the target cannot be read, the objects that it returns whole)."""
    try:
        store = repository.targets.store(target)
        listed = [info.name for info in store.list(OBJECTS)]
    except DrtoolError:
        return None, frozenset()
    needs = object_names(learned) - {
        row.name for row in lists_of(learned.state)
    }  # no restore needs objects that prune removes
    return frozenset(map(object_key, needs)), frozenset(read_pages(store, listed))


def _of_sites(stock: _Stock, sites: Collection[SiteName], by_site: dict[SiteName, list[TargetName]]) -> Scenario:
    lost = frozenset(name for site in sites for name in by_site[site])
    return _imagine(stock, list(sites), lost, _is_promised(stock.repository, lost))


def _is_promised(repository: Repository, lost: Collection[TargetName]) -> bool:
    """Return whether the loss hits so few storing sites that the promised copies should cover it."""
    storing = set(repository.targets.storing())
    hit = {site_of(name) for name in lost if name in storing}
    return len(hit) < repository.view.state.policy.copies


def _imagine(stock: _Stock, words: list[str], lost: Collection[TargetName], promised: bool) -> Scenario:
    left = _left(stock, lost)
    restorable = [row.snapshot for row in stock.snapshots if left.restores(row)]
    return Scenario(
        lost=words,
        quorum=QuorumLeft(stock.needed_voters, left.voters),
        catalogue_copies=left.holders - left.voters,
        summary=Tally(len(restorable), len(stock.snapshots)),
        newest_restorable_ns=max((row.time_ns for row in restorable), default=None),
        reasons=list(_reasons(stock, left)),
        promised=promised,
    )


def _left(stock: _Stock, lost: Collection[TargetName]) -> _Left:
    holders = [holder for holder in stock.holders if holder.target not in lost]
    held = frozenset[str]().union(*(holder.holds for holder in holders))
    lags = [holder.lag for holder in holders if holder.needs is not None and holder.needs <= held]
    known_up_to = stock.repository.view.sequence - min(lags) if lags else -1
    voters = sum(holder.votes for holder in holders)
    return _Left(voters, len(holders), known_up_to, bool(stock.with_slots - frozenset(lost)), stock.bits.mask(lost))


def _reasons(stock: _Stock, left: _Left) -> Iterator[str]:
    if not left.holders:
        yield "no voter and no copy of the catalogue is left, so nothing could be found"
    elif left.known_up_to < 0:
        yield "the remaining sites have no whole copy of some pages of the catalogue: `drtool repair` copies them there"
    elif left.known_up_to < stock.repository.view.sequence:
        yield "the remaining sites do not have the newest changes of the catalogue: `drtool repair` copies them there"
    if not left.slots:
        yield "no key slot is left, so no password opens the repository"
    nowhere = sum(not mask & ~left.lost for mask in stock.segments)
    if nowhere and left.known_up_to >= 0 and left.slots:
        yield f"{nowhere} index segments would be missing: `drtool repair` rebuilds them from the remaining packs"


def _outlooks(stock: _Stock, lost: Collection[TargetName]) -> list[Outlook]:
    left = _left(stock, lost)
    return [_outlook(row, left.restores(row)) for row in stock.snapshots]


def _outlook(row: _Walked, restorable: bool) -> Outlook:
    return Outlook(
        id=row.snapshot.id.hex(),
        host=row.snapshot.host,
        source=row.snapshot.source,
        time_ns=row.snapshot.time_ns,
        restorable=restorable,
        missing_packs=row.missing_packs,
    )
