"""One repair: compares desired and observed copies, then copies, rebuilds, and removes surplus ones.

It may be stopped at any time and run again, since each run starts from what it observes.
"""

import time
from collections.abc import Collection, Sequence

from msgspec.structs import replace

from drtool.errors import DrtoolError, UsageError
from drtool.events import Emit, Stage, Warned
from drtool.manifest.library import lists_of
from drtool.manifest.names import object_key
from drtool.model import PackId, pack_object, segment_object
from drtool.operations.repair.narrowing import narrowed
from drtool.operations.repair.request import Away, RepairRequest, RepairResult, Unrepairable
from drtool.repository import Repository
from drtool.repository.beyond import reach_given_up
from drtool.repository.catalogue import (
    CatalogueAudit,
    MendedCatalogue,
    audit_catalogue,
    is_replaced,
    mend_catalogue,
    preview_mending,
    remember_faults,
)
from drtool.repository.copying import Amount, Outcome
from drtool.repository.ending import end_dead_sessions
from drtool.repository.expected import Expected
from drtool.repository.inventory import Inventory
from drtool.repository.losses import Nowhere, report_of, sorted_out
from drtool.repository.lost_lists import take_back_lost_lists
from drtool.repository.marker import MARKER_OBJECT
from drtool.repository.moving import Look, Mover, amount, check_limits, jobs_of, look, name_copies, note_damage
from drtool.repository.placement import distinct_sites
from drtool.repository.recognition import mend_markers
from drtool.repository.reconciling import Job
from drtool.repository.reindexing import Reindexed, prospect, reindex
from drtool.repository.surplus import Taken

EXPIRED = "expired"


def repair(repository: Repository, request: RepairRequest, emit: Emit) -> RepairResult:
    """Bring every object to its promised copies at its desired places, from the surviving ones."""
    started = time.monotonic()
    reach_given_up(repository)
    began = repository.view.sequence
    catalogue = audit_catalogue(repository, contents=True, site=request.site).about(request.objects)
    healed = _preview_manifest(repository) if request.dry_run else _mend_manifest(repository, emit)
    mended = _mend_catalogue(repository, request, catalogue, began, emit)
    seen = look(repository, emit, repository.placement, workers=request.workers, read_all=request.read_all)
    seen, index = _mend_index(repository, request, seen, emit)
    _check_names(repository, request, seen, catalogue)
    jobs = narrowed(jobs_of(repository, seen, repository.placement), request.objects, request.site)
    check_limits(jobs, request.max_objects, request.max_bytes)
    if request.dry_run:
        outcomes = _imagined(jobs)
        if request.names_items:
            name_copies(outcomes, emit)
        taken = Taken(amount((job, len(job.surplus)) for job in jobs if job.readable))
    else:
        outcomes, taken = _carry_out(repository, request, jobs, emit)
        note_damage(repository, seen, outcomes, emit)
    nowhere, loss = report_of(repository, _nowhere(repository, outcomes, seen))
    unneeded = {pack_object(pack) for pack in nowhere.unneeded}
    return RepairResult(
        copied=amount((o.job, len(o.copied)) for o in outcomes),
        rebuilt=amount((o.job, len(o.rebuilt)) for o in outcomes) + index.stored + mended.rebuilt,
        removed=taken.removed,
        unrepairable=[
            *(
                _unrepairable(o.job.expected, seen.inventory)
                for o in outcomes
                if o.lost and o.job.expected.name not in unneeded
            ),
            *(Unrepairable(pack_object(pack), sorted(seen.inventory.unlisted)) for pack in index.unreadable),
            *(Unrepairable(name, sorted(catalogue.silent)) for name in mended.lost()),
        ],
        away=[Away(target, why) for target, why in sorted({**seen.inventory.unlisted, **repository.owing()}.items())],
        degraded=bool(mended.failed) or _degraded(repository, jobs, outcomes, unneeded),
        lost=loss,
        manifest=[*healed, *mended.messages()],
        dry_run=request.dry_run,
        wall_seconds=round(time.monotonic() - started, 3),
        stopped=taken.stopped,
        why=taken.why,
        hint=taken.hint,
    )


def _check_names(repository: Repository, request: RepairRequest, seen: Look, catalogue: CatalogueAudit) -> None:
    """Refuse unknown object names: no output must not be mistaken for a repair."""
    known = repository.targets.sites()
    if request.site is not None and request.site not in known:
        raise UsageError(f"--site {request.site}: there is no such site", hint=f"there are {', '.join(known)}")
    names = {expected.name for expected in seen.wanted} | catalogue.names()
    unknown = sorted(name for name in (request.objects or frozenset()) - names if not is_replaced(name))
    if unknown:
        hint = "name objects as `verify` does: packs/…, index/…, manifest/…, keys/…"
        raise DrtoolError(f"{unknown[0]} is not an object of this repository", hint=hint)


def _preview_manifest(repository: Repository) -> list[str]:
    """Return the markers, key slots, registers and copies of the catalogue that would be brought up to date."""
    words = [
        f"{MARKER_OBJECT} at {target} would be written again (found: {reason})"
        for target, reason in sorted(repository.targets.unmarked.items())
    ]
    words += repository.slot_problems()
    words += [
        f"{row.site}: its register would be brought up to date"
        for row in repository.manifest.status().acceptors
        if row.reachable and (row.problem or row.lag)
    ]
    words += [
        f"{copy.target}: its copy of the catalogue would be brought up to date"
        for copy in repository.manifest.mirrors(repository.view)
        if copy.reachable and not copy.is_current
    ]
    return words


def _mend_manifest(repository: Repository, emit: Emit) -> list[str]:
    """Update registers that lag, went back or were lost. Key slots go first, since every head is sealed with them."""
    emit(Stage(name="manifest"))
    before = {row.site: row for row in repository.manifest.status().acceptors}
    lagged = {row.target for row in repository.manifest.mirrors(repository.view) if not row.is_current}
    words = list(repository.mend_slots(thorough=True).messages())
    repository.adopt(repository.manifest.refresh())
    end_dead_sessions(repository)
    after = {row.site: row for row in repository.manifest.status().acceptors}
    words += repository.mend_slots().messages()
    for site, row in after.items():
        was = before.get(site)
        if was is not None and (was.problem or was.lag) and not row.problem and not row.lag:
            words.append(f"{site}: its register is up to date again")
    for copy in repository.manifest.mirrors(repository.view):
        if copy.target in lagged and copy.is_current:
            words.append(f"{copy.target}: its copy of the catalogue is up to date again")
    return words


def _mend_catalogue(
    repository: Repository, request: RepairRequest, audit: CatalogueAudit, began: int, emit: Emit
) -> MendedCatalogue:
    """Replace damaged and missing objects of the catalogue, and record those that stay damaged."""
    if request.dry_run:
        return preview_mending(repository, audit.faults)
    words = list(mend_markers(repository))
    mended = mend_catalogue(repository, audit)
    mended.words += words
    lists = {object_key(row.name) for row in lists_of(repository.view.state)}
    if any(fault.object in lists for fault in mended.left) and take_back_lost_lists(repository, emit):
        looked = audit_catalogue(repository, contents=True, site=request.site).about(request.objects)
        again = mend_catalogue(repository, looked)
        mended.words += again.words
        mended.left = again.left
    untold = remember_faults(repository, replace(audit, faults=mended.left), contents=True, judged=began)
    if untold:
        emit(Warned(message=f"the findings about the catalogue are not recorded for other hosts yet: {untold}"))
    return mended


def _mend_index(repository: Repository, request: RepairRequest, seen: Look, emit: Emit) -> tuple[Look, Reindexed]:
    """Store index segments that no site has, or rebuild them, then look again, since new segments name other packs."""
    found = prospect(repository, seen.inventory, seen.bad)
    if not found.lost:
        return seen, Reindexed()
    emit(Warned(message=found.words()))
    if request.dry_run:
        names = {segment_object(ref.id) for ref in found.hopeful}
        wanted = [expected for expected in seen.wanted if expected.name not in names]
        stored = Amount(len(names), sum(ref.size_bytes for ref in found.hopeful))
        return replace(seen, wanted=wanted), Reindexed(stored)
    index = reindex(repository, seen.bad, request.workers, emit)
    again = look(repository, emit, repository.placement, workers=request.workers)
    return replace(again, bad={**seen.bad, **again.bad}), index


def _carry_out(
    repository: Repository, request: RepairRequest, jobs: Sequence[Job], emit: Emit
) -> tuple[list[Outcome], Taken]:
    due = [job for job in jobs if _due(job)]
    total_bytes = sum(job.expected.size_bytes for job in due)
    mover = Mover(repository, repository.placement.ring, total_bytes, request.workers, emit)
    emit(Stage(name="copying"))
    outcomes = mover.carry_out(due)
    emit(Stage(name="removing"))
    taken = mover.take_surplus(outcomes)
    if taken.stopped not in ("", EXPIRED):
        emit(Warned(message=f"{taken.why}; {taken.hint}"))
    return outcomes, taken


def _imagined(jobs: Sequence[Job]) -> list[Outcome]:
    """Return the outcomes of a run in which every listed copy is whole. Objects without a copy are lost."""
    return [Outcome(job, job.write, job.bad) if job.readable else Outcome(job, lost=True) for job in jobs if _due(job)]


def _due(job: Job) -> bool:
    """Return whether there is something to do or to report."""
    return not job.idle or not job.readable


def _unrepairable(expected: Expected, inventory: Inventory) -> Unrepairable:
    return Unrepairable(
        expected.name, [name for name in inventory.unlisted if name in {*expected.written, *expected.desired}]
    )


def _nowhere(repository: Repository, outcomes: Sequence[Outcome], seen: Look) -> Nowhere:
    """Classify the packs without a good copy."""
    names = [o.job.expected.name for o in outcomes if o.lost and o.job.expected.name.startswith("packs/")]
    packs = {PackId(bytes.fromhex(name.rpartition("/")[2])) for name in names}
    return sorted_out(repository, seen.inventory, packs)


def _degraded(
    repository: Repository, jobs: Sequence[Job], outcomes: Sequence[Outcome], unneeded: Collection[str]
) -> bool:
    """Return whether any needed object is on fewer sites than promised afterwards."""
    copies = repository.view.state.policy.copies
    after = {o.job.expected.name: o.holders for o in outcomes}
    needed = [job for job in jobs if job.expected.name not in unneeded]
    return any(distinct_sites(after.get(job.expected.name, job.sources)) < copies for job in needed)


def exit_code(result: RepairResult) -> int:
    """Return 1 if the session expired, 4 if something is unrepairable, 5 if something has fewer copies than promised."""
    if result.stopped == EXPIRED:
        return 1
    if any(not row.perhaps for row in result.unrepairable):
        return 4
    return 5 if result.degraded else 0
