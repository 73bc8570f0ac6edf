"""What would be left after a loss, by what every target lists now.

Invariants
    Nothing is guessed: a target that cannot be listed counts as lost, and is named. Nothing is changed.
    A snapshot counts as restorable if the catalogue that names it, a key slot that opens it, and everything that it is made of
    are left. A head, of a voter or in a copy, counts only if the sites that are left give back, whole, every object that it
    names. Files' contents are not read; `verify` does that. What it found damaged, or cannot be read while trees are walked,
    does not count as there.
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
    """A register that can be read, or a copy of the catalogue: where it is, how many changes it is behind, and the objects
    that its head needs, and that lie there. Only a register `votes`."""

    target: TargetName
    lag: int
    needs: frozenset[str] | None
    holds: frozenset[str]
    votes: bool = True


class _Walked(Struct, frozen=True):
    """A snapshot, what it needs, and how many packs of that nobody would have after the loss that was named."""

    snapshot: Snapshot
    needs: list[Need]
    missing_packs: int


class _Stock(Struct, frozen=True):
    """All that was looked at, before anything is imagined."""

    repository: Repository
    inventory: Inventory
    bits: Bits
    holders: tuple[_Holder, ...]
    needed_voters: int
    with_slots: frozenset[TargetName]
    segments: tuple[Mask, ...]
    snapshots: tuple[_Walked, ...]


class _Left(Struct, frozen=True):
    """What a loss leaves: voters; holders of a register or a copy of the catalogue; the last change that those know which have
    the catalogue together, -1 if none; key slots."""

    voters: int
    holders: int
    known_up_to: int
    slots: bool
    lost: Mask

    def restores(self, row: _Walked) -> bool:
        return row.snapshot.sequence <= self.known_up_to and self.slots and are_met(row.needs, self.lost)


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


def _counting(repository: Repository, by_site: dict[SiteName, list[TargetName]]) -> list[SiteName]:
    """Return the sites whose loss can change anything: not those that were given up and do not answer."""
    rows = repository.target_rows()
    gone = {name for name, row in rows.items() if row.state == "lost" and not repository.targets.reachable(name)}
    return [site for site, names in by_site.items() if not gone.issuperset(names)]


def _take_stock(repository: Repository, lost: Collection[TargetName], emit: Emit) -> _Stock:
    emit(Stage(name="listing"))
    repository.load_index()
    inventory = take_inventory(repository.targets)
    repository.set_lost_packs_aside(to_look=True)  # what they held may have been stored again elsewhere
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
    """All snapshots; all again if a copy turned out bad meanwhile that counted as there before."""
    ruled_out: frozenset[Copy] = repository.findings.all()
    rows = list(repository.view.state.snapshots)
    while True:
        emit(Stage(name="walking"))
        needs = Needs(repository, inventory, bits, lost, ruled_out)
        walked = []
        for number, row in enumerate(rows, start=1):
            walked.append(_Walked(row, *needs.of(row.root)))
            emit(Progress(processed_bytes=number, total_bytes=len(rows)))
        bad = {copy for copy in repository.objects.bad_copies if copy[1] in inventory.objects.get(copy[0], {})}
        if bad <= ruled_out:
            return walked
        ruled_out |= bad


def _with_slots(repository: Repository) -> frozenset[TargetName]:
    """Targets with a whole copy of a slot that the manifest names; of a repository that names none yet, with any."""
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
    """The copies of the catalogue at targets without a register, of the generation that is in force."""
    for row in repository.manifest.mirrors(repository.view):
        if row.lag is None:
            continue
        try:
            learned = repository.manifest.mirror_at(row.target)
        except DrtoolError:  # its pages are lost
            continue
        if learned is not None:
            yield _Holder(row.target, row.lag, *_pages_at(repository, row.target, learned), votes=False)


def _objects_at(repository: Repository, voter: Voter) -> tuple[frozenset[str] | None, frozenset[str]]:
    """(what the voter's head needs, None if that cannot be read; which objects the voter gives back whole)."""
    try:
        learned = repository.manifest.read_offline(voter.site).learned
    except DrtoolError:
        return None, frozenset()
    return _pages_at(repository, voter.target, learned)


def _pages_at(
    repository: Repository, target: TargetName, learned: Learned
) -> tuple[frozenset[str] | None, frozenset[str]]:
    """(what a head needs, None if the target cannot be read; which objects the target gives back whole)."""
    try:
        store = repository.targets.store(target)
        listed = [info.name for info in store.list(OBJECTS)]
    except DrtoolError:
        return None, frozenset()
    needs = object_names(learned) - {
        row.name for row in lists_of(learned.state)
    }  # no restore needs what prune takes away
    return frozenset(map(object_key, needs)), frozenset(read_pages(store, listed))


def _of_sites(stock: _Stock, sites: Collection[SiteName], by_site: dict[SiteName, list[TargetName]]) -> Scenario:
    lost = frozenset(name for site in sites for name in by_site[site])
    return _imagine(stock, list(sites), lost, _is_promised(stock.repository, lost))


def _is_promised(repository: Repository, lost: Collection[TargetName]) -> bool:
    """Whether so few sites storing copies lose something that the promised copies should cover it."""
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
        yield "no voter is left, and no copy of the catalogue: nothing says what there is"
    elif left.known_up_to < 0:
        yield "the sites that are left have no whole copy of some pages of the catalogue: `drtool repair` brings them there"
    elif left.known_up_to < stock.repository.view.sequence:
        yield "the sites that are left do not have the newest changes of the catalogue: `drtool repair` brings them there"
    if not left.slots:
        yield "no key slot is left: no password opens anything"
    nowhere = sum(not mask & ~left.lost for mask in stock.segments)
    if nowhere and left.known_up_to >= 0 and left.slots:
        yield f"{nowhere} index segments would be nowhere: `drtool repair` rebuilds them from the packs that are left"


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
