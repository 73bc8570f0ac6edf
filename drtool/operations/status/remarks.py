"""The remarks of `status` on the repository: problems and notices.

There is one function per subject, listed in `SUBJECTS`. docs/status.md has a row for every line.
"""

from collections.abc import Callable, Collection, Iterable, Mapping

from msgspec import Struct

from drtool.manifest.mirroring import MirrorStatus
from drtool.manifest.names import is_catalogue
from drtool.model import SiteName, TargetName, counted, pack_object, segment_object
from drtool.operations.status.result import QuorumStatus, Remark, notice, problem
from drtool.operations.status.room import Need, mib
from drtool.repository import Repository
from drtool.repository.catalogue import problems_with_pages
from drtool.repository.copying import Amount
from drtool.repository.ending import open_mover
from drtool.repository.exposure import REMEDY, exposures, own_targets, voters_of
from drtool.repository.inventory import Inventory
from drtool.repository.losses import LossReport, Nowhere
from drtool.repository.mirrors import faults_of, lags_of
from drtool.repository.readiness import Readiness, reason_of
from drtool.repository.targets import UNNAMED


class Seen(Struct, frozen=True, kw_only=True):
    """The facts behind the remarks."""

    repository: Repository
    inventory: Inventory
    quorum: QuorumStatus
    ready: Readiness
    needs: Mapping[TargetName, Need]
    free_bytes: Mapping[TargetName, int]
    below: int
    """The number of packs on at least one site but on fewer than promised."""
    nowhere: Nowhere
    """The packs on no site."""
    loss: LossReport
    alone: dict[SiteName, int]
    """The number of objects that only this site holds, contrary to the promise."""
    current: frozenset[SiteName]
    """The voters with a sound register that has the newest head."""
    copies: list[MirrorStatus]
    """Copies of the catalogue at targets without a register."""
    owed: Mapping[TargetName, Amount]
    """The copies that targets lack and others have."""
    now_ns: int


def remarks(seen: Seen) -> Iterable[Remark]:
    """Yield every remark about the repository, in the order of `SUBJECTS`."""
    for about in SUBJECTS:
        yield from about(seen)


def about_certainty(seen: Seen) -> Iterable[Remark]:
    """Yield remarks on whether the catalogue can be read for certain, and written."""
    quorum, error = seen.quorum, seen.repository.uncertain
    if quorum.reachable < quorum.needed:
        yield problem(f"no quorum: the manifest needs {quorum.needed} voters and {quorum.reachable} can vote")
    elif quorum.reachable == quorum.needed < len(seen.repository.view.config.voters):
        yield problem("if one more voter fails, nothing can be written: bring back or replace the unreachable one")
    if error is not None and quorum.reachable >= quorum.needed:
        yield problem(error.message)
    yield from map(problem, seen.repository.view.problems)


def about_targets(seen: Seen) -> Iterable[Remark]:
    """Yield the unreachable targets."""
    repository = seen.repository
    for target, why in sorted(seen.inventory.unlisted.items()):
        yield problem(f"target {target} is offline: {why}")
    for row in repository.view.state.targets:
        if row.name not in repository.targets.specs and row.state != "lost":
            yield problem(f"target {row.name} is one of the repository's, but {UNNAMED}")
        elif row.votes_only and not repository.targets.reachable(row.name):
            yield problem(f"arbiter {row.name} is offline: {repository.targets.failures.get(row.name, UNNAMED)}")


def about_writing(seen: Seen) -> Iterable[Remark]:
    """Yield the targets and voters that would refuse the next backup."""
    yield from map(problem, seen.ready.messages())
    behind = [row for row in seen.ready.manifest.acceptors if row.lag and not row.refusal and not row.problem]
    for row in behind:
        changes = "1 change" if row.lag == 1 else f"{row.lag} changes"
        yield notice(f"voter {row.site} is {changes} behind, and the next backup brings it up to date")


def about_voters(seen: Seen) -> Iterable[Remark]:
    """Yield remarks if the loss of one site, or of this machine, takes the catalogue or stops all writing."""
    repository, state = seen.repository, seen.repository.view.state
    storing = [row.name for row in state.targets if row.state == "active" and not row.votes_only]
    voters = voters_of(repository.view.config)
    acceptors = seen.ready.manifest.acceptors
    holders = [voters[row.site] for row in acceptors if row.lag is not None and not row.problem and row.site in voters]
    holders += [row.target for row in seen.copies if row.is_sound]
    own = own_targets(repository.targets.specs.values())
    away = [name for name in storing if not repository.targets.reachable(name)]
    losses = exposures(voters, repository.view.config.quorum, storing, holders, own, away)
    for loss in losses if state.policy.copies > 1 else ():
        yield notice(loss.text) if loss.holders else problem(loss.text)
    if len(voters) == 2:
        yield notice(f"with {' and '.join(voters)} as the only voters, the loss of either stops all writing; {REMEDY}")


def about_catalogue_copies(seen: Seen) -> Iterable[Remark]:
    """Yield the copies of the catalogue, at targets without a register, that are damaged, ahead or behind."""
    yield from map(problem, faults_of(seen.copies))
    yield from map(notice, lags_of(seen.copies, seen.now_ns))


def about_room(seen: Seen) -> Iterable[Remark]:
    """Yield the targets where the next backup may not fit."""
    for name, need in sorted(seen.needs.items()):
        free_bytes = seen.free_bytes.get(name)
        if name in seen.ready.refusals:
            continue
        if free_bytes is not None and free_bytes < need.last_bytes:
            yield _small(name, free_bytes, need)
        elif name in seen.ready.cramped:
            yield problem(f"target {name} has no room for the next backup: {reason_of(seen.ready.cramped[name])}")


def _small(name: TargetName, free_bytes: int, need: Need) -> Remark:
    words = f"target {name} has {mib(free_bytes)} free, and its share of the last backup was {mib(need.last_bytes)}"
    if free_bytes < need.next_bytes:
        return problem(f"{words}: drtool forget --prune frees space, drtool target add adds some")
    return notice(f"{words} (it was the first of its source, and the next one needs less)")


def about_copies(seen: Seen) -> Iterable[Remark]:
    """Yield the data that is lost, has fewer copies than promised, or would be lost with one site."""
    loss = seen.loss
    if loss.packs:
        yield problem(f"{loss.headline}. {'; '.join(loss.remedies)}")
    if loss.perhaps:
        yield problem(loss.hope)
    if loss.unneeded:
        yield notice(loss.leftovers)
    if seen.below:
        promised = seen.repository.view.state.policy.copies
        packs = "1 pack has" if seen.below == 1 else f"{seen.below} packs have"
        yield problem(f"{packs} fewer than {promised} good copies at the sites that answer: drtool repair")
    for site, objects in seen.alone.items():
        lone, it = ("1 object is", "it") if objects == 1 else (f"{objects} objects are", "them")
        yield problem(f"the loss of {site} alone would cost data: {lone} nowhere else: drtool repair copies {it}")


def about_owed(seen: Seen) -> Iterable[Remark]:
    """Yield remarks on targets that lack copies which others have."""
    for target, amount in sorted(seen.owed.items()):
        owed = f"{target} is owed {counted(amount.objects, 'object')}, {mib(amount.bytes)}"
        yield notice(f"{owed}: the next backups or drtool repair bring it")


def about_damage(seen: Seen) -> Iterable[Remark]:
    """Yield the objects that are damaged or cannot be read."""
    repository = seen.repository
    beyond = {pack_object(pack) for pack in seen.nowhere.all}
    live = {segment_object(row.id) for row in repository.view.state.segments}
    damage = {
        target
        for target, name in repository.findings.all()
        if target not in repository.targets.lost
        and (name in live or not name.startswith("index/"))
        and _is_there(seen, target, name, beyond)
    }
    if damage:
        yield problem(f"damaged copies were found at {', '.join(sorted(damage))}: drtool repair replaces them")
    for target, why in sorted(repository.targets.unmarked.items()):
        yield problem(f"target {target} is recognised by its contents, but {why}: drtool repair corrects it")
    for segment, why in repository.index.unavailable.items():
        yield problem(f"index segment {segment.hex()[:16]}… cannot be read: {why}")
    yield from map(problem, repository.slot_problems())
    yield from map(problem, problems_with_pages(repository, seen.current))


def _is_there(seen: Seen, target: TargetName, name: str, beyond: Collection[str]) -> bool:
    """Return whether a copy that was found damaged still seems to exist, and can be replaced."""
    listed = seen.inventory.objects.get(target)
    return name not in beyond and (listed is None or is_catalogue(name) or name in listed)


def about_work(seen: Seen) -> Iterable[Remark]:
    """Yield unfinished work."""
    for row in seen.repository.view.state.targets:
        left = len(seen.inventory.objects.get(row.name, ()))
        if row.state == "draining" and left:
            yield notice(f"target {row.name} is draining and still has {left} objects: drtool rebalance moves them")
    mover = open_mover(seen.repository)
    if mover is not None:
        words = f"{mover.text}: {mover.hint}"
        yield (
            problem(f"surplus copies remain, and no target can be removed: {words}") if mover.stuck else notice(words)
        )
    yield from map(problem, seen.repository.targets.overlays.problems())


SUBJECTS: tuple[Callable[[Seen], Iterable[Remark]], ...] = (
    about_certainty,
    about_targets,
    about_writing,
    about_voters,
    about_catalogue_copies,
    about_room,
    about_copies,
    about_owed,
    about_damage,
    about_work,
)
