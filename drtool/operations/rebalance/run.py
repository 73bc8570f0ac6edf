"""A rebalance: makes the missing copies and removes the surplus ones, batch by batch.

It may be stopped at any time and run again, since each run starts from what it observes.

Invariants
    An object never has fewer good copies than before, or than promised: a new copy is read back before an old one is
    removed.
    The mover session is held for one batch of removals only. If the ring changes in between, the rest is planned again.
    A copy that an unreachable target may have is not made a second time. That is the task of `repair`, if it stays
    away.
"""

import time
from collections.abc import Iterator, Sequence

from msgspec import Struct

from drtool.events import Emit, Stage
from drtool.operations.rebalance.epochs import settle_epoch, settled_epoch
from drtool.operations.rebalance.plan import Totals, totals
from drtool.operations.rebalance.request import Away, RebalanceRequest, RebalanceResult
from drtool.repository import Repository
from drtool.repository.copying import Amount, Outcome
from drtool.repository.ending import end_dead_sessions
from drtool.repository.inventory import Inventory
from drtool.repository.moving import Look, Mover, amount, check_limits, jobs_of, look, name_copies, note_damage
from drtool.repository.placement import distinct_sites
from drtool.repository.reconciling import Job
from drtool.repository.surplus import Taken
from drtool.ring import Placement, Ring

BATCH_BYTES = 4 * 1024**3
BATCH_OBJECTS = 256
PLANS_MAX = 16
PATIENCE_S = 20.0
POLL_S = 0.5


class Plan(Struct, frozen=True):
    """The work for one ring."""

    ring: Ring
    seen: Look
    jobs: list[Job]
    totals: Totals


class _Done(Struct):
    """The work done so far, over all plans. `outcomes` are those of the last plan. Mutable."""

    copied: Amount = Amount()
    rebuilt: Amount = Amount()
    removed: Amount = Amount()
    outcomes: list[Outcome] = []
    last: Taken = Taken()


def rebalance(repository: Repository, request: RebalanceRequest, emit: Emit) -> RebalanceResult:
    """Bring every copy to where the ring places it."""
    started = time.monotonic()
    if not request.dry_run:
        end_dead_sessions(repository)
    from_epoch = settled_epoch(repository.view.state)
    first = plan = make_plan(repository, repository.placement, request.workers, emit)
    check_limits(plan.jobs, request.max_objects, request.max_bytes)
    done = _imagined(plan) if request.dry_run else _Done()
    if request.dry_run and request.names_items:
        name_copies(done.outcomes, emit)
    if not request.dry_run:
        for _ in range(PLANS_MAX):
            _carry_out(repository, plan, request, done, emit)
            if done.last.stopped != "ring-changed":
                break
            plan = make_plan(repository, repository.placement, request.workers, emit)
    left = sum(not _in_place(outcome) for outcome in done.outcomes) + sum(_is_stuck(job) for job in plan.jobs)
    result = RebalanceResult(
        from_epoch=from_epoch,
        to_epoch=plan.ring.epoch,
        moves=plan.totals.moves_of(done.copied),
        minimum_fraction=first.totals.minimum_fraction,
        rebuilt=done.rebuilt,
        removed=done.removed,
        left=left,
        lost=[job.expected.name for job in plan.jobs if not (job.readable or job.perhaps)],
        degraded=_degraded(repository, plan, done.outcomes),
        away=away(repository, plan.seen.inventory),
        dry_run=request.dry_run,
        wall_seconds=round(time.monotonic() - started, 3),
        stopped=done.last.stopped,
        why=done.last.why,
        hint=done.last.hint,
    )
    if not (request.dry_run or done.last.stopped or left or result.away or result.lost):
        settle_epoch(repository, plan.ring.epoch, emit)
    return result


def make_plan(repository: Repository, placement: Placement, workers: int, emit: Emit) -> Plan:
    """Inspect the copies, and return the work that `placement` requires."""
    seen = look(repository, emit, placement, workers=workers)
    jobs = jobs_of(repository, seen, placement, leave_to_absent=True)
    return Plan(placement.ring, seen, jobs, totals(jobs))


def _carry_out(repository: Repository, plan: Plan, request: RebalanceRequest, done: _Done, emit: Emit) -> None:
    """Copy and remove batch by batch, until all is done or something prevents it."""
    due = [job for job in plan.jobs if job.readable and not job.idle]
    mover = Mover(repository, plan.ring, sum(job.expected.size_bytes for job in due), request.workers, emit)
    done.outcomes, done.last = [], Taken()
    emit(Stage(name="moving"))
    for batch in _batches(due):
        outcomes = mover.carry_out(batch)
        taken = _take(mover, outcomes)
        done.outcomes += outcomes
        done.copied += amount((o.job, len(o.copied)) for o in outcomes)
        done.rebuilt += amount((o.job, len(o.rebuilt)) for o in outcomes)
        done.removed += taken.removed
        done.last = taken
        if taken.stopped:
            break
    note_damage(repository, plan.seen, done.outcomes, emit)


def _batches(jobs: Sequence[Job]) -> Iterator[list[Job]]:
    """Yield the jobs in batches.

    All of a batch is written before anything is removed, so a batch is small enough that no target needs much more
    space than in the end.
    """
    batch: list[Job] = []
    size_bytes = 0
    for job in jobs:
        batch.append(job)
        size_bytes += job.expected.size_bytes * len(job.write)
        if len(batch) >= BATCH_OBJECTS or size_bytes >= BATCH_BYTES:
            yield batch
            batch, size_bytes = [], 0
    if batch:
        yield batch


def _take(mover: Mover, outcomes: Sequence[Outcome]) -> Taken:
    """Remove surplus copies. If another mover is at work, wait for up to `PATIENCE_S`."""
    deadline_s = time.monotonic() + PATIENCE_S
    while True:
        taken = mover.take_surplus(outcomes)
        if taken.stopped != "mover-open" or time.monotonic() > deadline_s:
            return taken
        time.sleep(POLL_S)


def _imagined(plan: Plan) -> _Done:
    """Return the result of a run in which every listed copy is whole and no target fails."""
    rebuilt = amount((job, len(job.bad)) for job in plan.jobs if job.sources)
    outcomes = [Outcome(job, job.write, job.bad) for job in plan.jobs if job.readable and not job.idle]
    return _Done(plan.totals.copied, rebuilt, plan.totals.removed, outcomes)


def _is_stuck(job: Job) -> bool:
    """Return whether nothing can be done for an object that is not where the ring places it."""
    return bool(job.sources) and job.idle and not job.complete


def _in_place(outcome: Outcome) -> bool:
    return set(outcome.job.expected.desired) <= outcome.holders


def _degraded(repository: Repository, plan: Plan, outcomes: Sequence[Outcome]) -> bool:
    """Return whether anything visible is on fewer sites than promised afterwards."""
    copies = repository.view.state.policy.copies
    after = {o.job.expected.name: o.holders for o in outcomes}
    return any(distinct_sites((*after.get(job.expected.name, job.sources), *job.perhaps)) < copies for job in plan.jobs)


def away(repository: Repository, inventory: Inventory) -> list[Away]:
    """Return the targets that could not be listed or cannot be written."""
    reasons = {**inventory.unlisted, **repository.owing()}
    return [Away(target, why) for target, why in sorted(reasons.items())]


def exit_code(result: RebalanceResult) -> int:
    """Return 1 if surplus copies remain, 4 if something has no copy, 5 if something has fewer copies than promised."""
    if result.stopped:
        return 1
    if result.lost:
        return 4
    return 5 if result.degraded else 0
