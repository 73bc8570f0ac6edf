"""One repair: what should be where, against what is; then copy, rebuild, and take what is too much.

It may be stopped at any time and run again: each run begins with what it observes.

Invariants
    Additions need nobody's leave. Removals happen only under the one mover session, which is looked up again every
    `RECHECK_EVERY` removals; without it, repair only adds.
    What prune is removing is neither copied nor counted.
"""

import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

from drtool.errors import Rejected
from drtool.events import Emit, Progress, Stage, TargetFailed, Warned
from drtool.model import PackId, TargetName
from drtool.operations.repair.copying import Outcome, carry_out, read_whole, remove
from drtool.operations.repair.plan import Job, job_for
from drtool.operations.repair.request import Amount, Away, RepairRequest, RepairResult, Unrepairable
from drtool.repository import Repository
from drtool.repository.expected import Expected, expected_objects
from drtool.repository.findings import Copy
from drtool.repository.inventory import Inventory, take_inventory
from drtool.repository.placement import distinct_sites
from drtool.repository.session import WriterSession

RECHECK_EVERY = 256


def repair(repository: Repository, request: RepairRequest, emit: Emit) -> RepairResult:
    """Brings every object to its promised copies at its right places, from what survives."""
    started = time.monotonic()
    healed = [] if request.dry_run else _mend_manifest(repository, emit)
    emit(Stage(name="listing"))
    for segment, why in repository.load_index().items():
        emit(Warned(message=f"index segment {segment.hex()[:16]}… cannot be read: {why}"))
    inventory = take_inventory(repository.targets)
    wanted = list(_wanted(repository))
    bad = _damaged(repository, request, wanted, inventory, emit)
    jobs = list(_jobs(repository, wanted, inventory, bad))
    run = _Run(repository, request, inventory, emit)
    outcomes = _imagined(jobs) if request.dry_run else run.carry_out([job for job in jobs if not job.idle])
    removed = _surplus(jobs) if request.dry_run else run.take_surplus(outcomes)
    if not request.dry_run:
        run.note(outcomes, bad)
    return RepairResult(
        copied=_sum((o.job, len(o.copied)) for o in outcomes),
        rebuilt=_sum((o.job, len(o.rebuilt)) for o in outcomes),
        removed=removed,
        unrepairable=[_unrepairable(o.job.expected, inventory) for o in outcomes if o.lost],
        away=[Away(target, why) for target, why in sorted({**inventory.unlisted, **repository.owing()}.items())],
        degraded=_degraded(repository, jobs, outcomes),
        manifest=healed,
        dry_run=request.dry_run,
        wall_seconds=round(time.monotonic() - started, 3),
    )


def _mend_manifest(repository: Repository, emit: Emit) -> list[str]:
    """Acceptors that lag, went back or lost everything take part again; missing key slots are put back."""
    emit(Stage(name="manifest"))
    before = {row.site: row for row in repository.manifest.status().acceptors}
    repository.adopt(repository.manifest.refresh())
    after = {row.site: row for row in repository.manifest.status().acceptors}
    words = list(repository.mend_slots().messages())
    for site, row in after.items():
        was = before.get(site)
        if was is not None and (was.problem or was.lag) and not row.problem and not row.lag:
            words.append(f"{site}: its register is up to date again")
    return words


def _wanted(repository: Repository) -> Iterator[Expected]:
    state = repository.view.state
    going = repository.going_packs(repository.view)
    packs = (pack for pack in repository.index.packs() if pack.pack not in going)
    return expected_objects(packs, state.segments, repository.placement, state.policy.copies)


def _damaged(
    repository: Repository, request: RepairRequest, wanted: Sequence[Expected], inventory: Inventory, emit: Emit
) -> dict[str, set[TargetName]]:
    """Targets whose copy is not the object: of the wrong size, or read and found wrong."""
    bad: dict[str, set[TargetName]] = {}
    doubtful: list[tuple[TargetName, Expected]] = []
    findings = repository.findings.all()
    for expected in wanted:
        for target in inventory.holders(expected.name, None):
            if inventory.objects[target][expected.name] != expected.size_bytes:
                bad.setdefault(expected.name, set()).add(target)
            elif request.read_all or (target, expected.name) in findings:
                doubtful.append((target, expected))
    emit(Stage(name="reading"))
    total_bytes = sum(expected.size_bytes for _, expected in doubtful)
    done_bytes = 0
    with ThreadPoolExecutor(request.workers, "read") as threads:
        results = threads.map(lambda copy: read_whole(repository.targets, copy[0], copy[1].name) is not None, doubtful)
        for (target, expected), whole in zip(doubtful, results, strict=True):
            done_bytes += expected.size_bytes
            emit(Progress(processed_bytes=done_bytes, total_bytes=total_bytes))
            if not whole:
                bad.setdefault(expected.name, set()).add(target)
    return bad


def _jobs(
    repository: Repository, wanted: Iterable[Expected], inventory: Inventory, bad: dict[str, set[TargetName]]
) -> Iterator[Job]:
    copies = repository.view.state.policy.copies
    for expected in wanted:
        name = bytes.fromhex(expected.name.rpartition("/")[2])
        holders = tuple(inventory.holders(expected.name, expected.size_bytes))
        yield job_for(
            expected,
            _in_order(holders, repository.placement.preference(PackId(name))),
            bad.get(expected.name, set()),
            repository.placement.preference(PackId(name)),
            copies,
            repository.targets.writable,
        )


def _in_order(holders: Sequence[TargetName], preference: Iterable[TargetName]) -> tuple[TargetName, ...]:
    first = [name for name in preference if name in holders]
    return (*first, *(name for name in holders if name not in first))


class _Run:
    def __init__(self, repository: Repository, request: RepairRequest, inventory: Inventory, emit: Emit) -> None:
        self._repository, self._request, self._inventory, self._emit = repository, request, inventory, emit
        self._removed_since_check = 0

    def carry_out(self, jobs: Sequence[Job]) -> list[Outcome]:
        """All jobs, a few at a time; memory stays at a few objects."""
        self._emit(Stage(name="copying"))
        targets = self._repository.targets
        total_bytes = sum(job.expected.size_bytes for job in jobs)
        done_bytes = 0
        outcomes: list[Outcome] = []
        with ThreadPoolExecutor(self._request.workers, "copy") as threads:
            for outcome in threads.map(lambda job: carry_out(targets, job), jobs):
                outcomes.append(outcome)
                done_bytes += outcome.job.expected.size_bytes
                self._emit(Progress(processed_bytes=done_bytes, total_bytes=total_bytes))
        for target, reason in targets.failures.items():
            if targets.reachable(target):
                self._emit(TargetFailed(target=target, reason=reason))
        return outcomes

    def take_surplus(self, outcomes: Sequence[Outcome]) -> Amount:
        """Deletes copies that are one too many, under the mover session."""
        rows = [(outcome, target) for outcome in outcomes for target in outcome.removable]
        if not rows:
            return Amount()
        with closing(self._repository.writer()) as writer:
            try:
                session = self._repository.begin(writer, "", "mover")
            except Rejected as error:
                if error.reason != "mover-open":
                    raise
                self._emit(Warned(message=f"another mover is at work: {len(rows)} copies too many stay for now"))
                return Amount()
            try:
                return self._take(rows, session)
            finally:
                session.abandon()

    def _take(self, rows: Sequence[tuple[Outcome, TargetName]], session: WriterSession) -> Amount:
        self._emit(Stage(name="removing"))
        ring = session.view.state.ring
        if ring != self._repository.placement.ring:
            self._emit(Warned(message="the ring has changed meanwhile: what is too much now, the next run decides"))
            return Amount()
        removed = Amount()
        for number, (outcome, target) in enumerate(rows):
            if number % RECHECK_EVERY == 0 and not self._still_ours(session):
                break
            if remove(self._repository.targets, target, outcome.job.expected.name, lambda: True):
                removed += Amount(1, outcome.job.expected.size_bytes)
        return removed

    def _still_ours(self, session: WriterSession) -> bool:
        return self._repository.manifest.read().state.session(session.id) is not None

    def note(self, outcomes: Sequence[Outcome], bad: dict[str, set[TargetName]]) -> None:
        """Remembers what is damaged still, forgets what is whole again."""
        known: set[Copy] = {(target, name) for name, targets in bad.items() for target in targets}
        known |= {(target, o.job.expected.name) for o in outcomes for target in o.found_bad}
        mended = {(target, o.job.expected.name) for o in outcomes for target in (*o.rebuilt, *o.copied)}
        self._repository.findings.update(known - mended, self._repository.findings.all())


def _imagined(jobs: Sequence[Job]) -> list[Outcome]:
    """What a run would do if every copy that is listed is whole."""
    return [
        Outcome(job, job.write if job.sources else (), job.bad if job.sources else (), (), (), not job.sources)
        for job in jobs
        if not job.idle or not job.sources
    ]


def _surplus(jobs: Sequence[Job]) -> Amount:
    return _sum((job, len(job.surplus)) for job in jobs if job.sources)


def _sum(rows: Iterable[tuple[Job, int]]) -> Amount:
    amount = Amount()
    for job, count in rows:
        amount += Amount(count, count * job.expected.size_bytes)
    return amount


def _unrepairable(expected: Expected, inventory: Inventory) -> Unrepairable:
    return Unrepairable(
        expected.name, [name for name in inventory.unlisted if name in {*expected.written, *expected.desired}]
    )


def _degraded(repository: Repository, jobs: Sequence[Job], outcomes: Sequence[Outcome]) -> bool:
    """Whether anything is on fewer sites than promised after all this."""
    copies = repository.view.state.policy.copies
    after = {
        o.job.expected.name: {*o.job.sources, *o.copied, *o.rebuilt} - set(o.found_bad) | set(o.rebuilt)
        for o in outcomes
    }
    return any(distinct_sites(after.get(job.expected.name, set(job.sources))) < copies for job in jobs)


def exit_code(result: RepairResult) -> int:
    """4 if something stays unrepairable, 5 if something has fewer copies than promised."""
    if any(not row.perhaps for row in result.unrepairable):
        return 4
    return 5 if result.degraded else 0
