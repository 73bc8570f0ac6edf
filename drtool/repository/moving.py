"""Bringing the stored objects to where the ring places them: inspection, then object after object, under the mover's
rules.

Shared by `repair` and `rebalance`.

Invariants
    Additions need no permission. Removals are the task of `surplus`.
    Objects that prune is removing are neither copied nor counted.
"""

from collections.abc import Collection, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from msgspec import Struct

from drtool.errors import Refused
from drtool.events import Emit, ItemChanged, Progress, Stage, TargetFailed, Warned
from drtool.manifest.names import is_catalogue
from drtool.model import PackId, TargetName, counted
from drtool.repository.copying import Amount, Outcome, carry_out, is_whole
from drtool.repository.expected import Expected, expected_objects
from drtool.repository.findings import Copy
from drtool.repository.inventory import Inventory, take_inventory
from drtool.repository.reconciling import Job, job_for
from drtool.repository.surplus import Surplus, Taken
from drtool.ring import Placement, Ring

if TYPE_CHECKING:
    from drtool.repository.repository import Repository


class Look(Struct, frozen=True):
    """The expected objects, the listings, and the targets with known damaged copies of each object.

    `given_up`: the listings of lost targets that still answer. `suspects`: the copies that were known as damaged before
    and were read again.
    """

    wanted: list[Expected]
    inventory: Inventory
    bad: dict[str, set[TargetName]]
    given_up: Inventory = Inventory({}, {})
    suspects: frozenset[Copy] = frozenset()
    judged: int = -1
    """The newest change of the manifest at the time of the inspection."""


def name_copies(outcomes: Iterable[Outcome], emit: Emit) -> None:
    """Emit the copies that would be made, replaced and removed, one event for each object and kind of change."""
    for outcome in outcomes:
        surplus = () if outcome.lost else outcome.job.surplus
        for change, targets in (("copied", outcome.copied), ("rebuilt", outcome.rebuilt), ("removed", surplus)):
            if targets:
                emit(ItemChanged(path=outcome.job.expected.name, change=change, what=tuple(targets)))
        if outcome.lost:
            emit(ItemChanged(path=outcome.job.expected.name, change="lost"))


def look(
    repository: "Repository", emit: Emit, placement: Placement, *, workers: int = 1, read_all: bool = False
) -> Look:
    """List every target, and read the copies that were found damaged before, or all."""
    emit(Stage(name="listing"))
    for segment, why in repository.load_index().items():
        emit(Warned(message=f"index segment {segment.hex()[:16]}… cannot be read: {why}"))
    inventory = take_inventory(repository.targets)
    wanted = list(_wanted(repository, placement))
    doubtful: list[Copy] = []
    bad: dict[str, set[TargetName]] = {}
    findings = repository.findings.all()
    for expected in wanted:
        for target in inventory.holders(expected.name, None):
            if inventory.objects[target][expected.name] != expected.size_bytes:
                bad.setdefault(expected.name, set()).add(target)
            elif read_all or (target, expected.name) in findings:
                doubtful.append((target, expected.name))
    for target, name in _not_whole(repository, inventory, doubtful, findings, workers, emit):
        bad.setdefault(name, set()).add(target)
    given_up = take_inventory(repository.targets, of=repository.targets.given_up())
    return Look(wanted, inventory, bad, given_up, findings, repository.view.sequence)


def _wanted(repository: "Repository", placement: Placement) -> Iterator[Expected]:
    state = repository.view.state
    going = repository.going_packs(repository.view, to_read=True)
    packs = (pack for pack in repository.index.packs() if pack.pack not in going)
    return expected_objects(packs, state.segments, placement, state.policy.copies)


def _not_whole(
    repository: "Repository",
    inventory: Inventory,
    copies: Sequence[Copy],
    known: Collection[Copy],
    workers: int,
    emit: Emit,
) -> Iterator[Copy]:
    """Yield the copies whose content does not match their name, after reading all.

    A copy that a server does not return now counts only if it was found bad before.
    """
    emit(Stage(name="reading"))
    sizes = [inventory.objects[target][name] for target, name in copies]
    done_bytes = 0
    threads = ThreadPoolExecutor(workers, "read")
    try:
        results = threads.map(lambda copy: is_whole(repository.targets, *copy), copies)
        for copy, size_bytes, whole in zip(copies, sizes, results, strict=True):
            done_bytes += size_bytes
            emit(Progress(processed_bytes=done_bytes, total_bytes=sum(sizes)))
            if whole is False or (whole is None and (copy in known or repository.targets.near(copy[0]))):
                yield copy
    finally:
        threads.shutdown(cancel_futures=True)


def jobs_of(
    repository: "Repository",
    seen: Look,
    placement: Placement,
    *,
    leave_to_absent: bool = False,
    arriving: Collection[TargetName] = (),
) -> list[Job]:
    """Return the work on every object, in the order of the catalogue.

    `leave_to_absent`: do not make copies a second time that an unlisted target may have. `arriving` targets count as
    reachable, though they are not yet.
    """
    copies = repository.view.state.policy.copies
    absent = seen.inventory.unlisted if leave_to_absent else {}

    def writable(name: TargetName) -> bool:
        return name in arriving or repository.targets.writable(name)

    jobs = []
    for expected in seen.wanted:
        order = list(placement.preference(PackId(bytes.fromhex(expected.name.rpartition("/")[2]))))
        holders = set(seen.inventory.holders(expected.name, expected.size_bytes))
        ranked = [*(name for name in order if name in holders), *sorted(holders.difference(order))]
        perhaps = [name for name in absent if name in (*expected.written, *expected.desired)]
        bad = sorted(seen.bad.get(expected.name, ()))
        given_up = sorted(seen.given_up.holders(expected.name, expected.size_bytes))
        jobs.append(job_for(expected, ranked, bad, order, copies, writable, perhaps, given_up))
    return jobs


def check_limits(jobs: Iterable[Job], max_objects: int | None, max_bytes: int | None) -> None:
    """Raise `Refused` if the work exceeds the allowed number of objects to touch or bytes to write."""
    due = [job for job in jobs if job.readable and not job.idle]
    written_bytes = sum(job.expected.size_bytes * (len(job.write) + len(job.bad)) for job in due)
    hint = "check it with --dry-run, then raise or omit the limit"
    if max_objects is not None and len(due) > max_objects:
        raise Refused(
            f"{counted(len(due), 'object')} would be touched, but only {max_objects} are allowed, so nothing was done",
            hint=hint,
        )
    if max_bytes is not None and written_bytes > max_bytes:
        raise Refused(
            f"{written_bytes} bytes would be written, but only {max_bytes} are allowed, so nothing was done", hint=hint
        )


class Mover:
    """Carries out jobs that were planned for `ring`, and reports their total progress."""

    def __init__(self, repository: "Repository", ring: Ring, total_bytes: int, workers: int, emit: Emit) -> None:
        self._repository, self._workers, self._emit = repository, workers, emit
        self._total_bytes = total_bytes
        self._done_bytes = 0
        self._told: set[TargetName] = set()
        self._surplus = Surplus(repository, ring, workers, emit)

    def carry_out(self, jobs: Sequence[Job]) -> list[Outcome]:
        """Carry out all jobs, a few at a time, so that memory stays at a few objects."""
        targets = self._repository.targets
        self._repository.prepare_to_write()
        outcomes: list[Outcome] = []
        threads = ThreadPoolExecutor(self._workers, "copy")
        try:
            for outcome in threads.map(lambda job: carry_out(targets, job), jobs):
                outcomes.append(outcome)
                self._done_bytes += outcome.job.expected.size_bytes
                self._emit(Progress(processed_bytes=self._done_bytes, total_bytes=self._total_bytes))
        finally:
            threads.shutdown(cancel_futures=True)  # an interruption waits only for the objects being copied
        for target, reason in targets.failures.items():
            if targets.reachable(target) and target not in self._told:
                self._told.add(target)
                self._emit(TargetFailed(target=target, reason=reason))
        return outcomes

    def take_surplus(self, outcomes: Iterable[Outcome]) -> Taken:
        """Delete surplus copies, under the mover session."""
        return self._surplus.take(outcomes)


def note_damage(repository: "Repository", seen: Look, outcomes: Sequence[Outcome], emit: Emit) -> None:
    """Record which packs and index segments are still damaged, and which are whole again or gone from their place."""
    known: set[Copy] = {(target, name) for name, targets in seen.bad.items() for target in targets}
    known |= {(target, o.job.expected.name) for o in outcomes for target in o.found_bad}
    mended = {(target, o.job.expected.name) for o in outcomes for target in (*o.rebuilt, *o.copied)}
    listed = seen.inventory.objects
    before = {copy for copy in seen.suspects if copy[0] in listed and not is_catalogue(copy[1])}
    untold = repository.findings.update(known - mended, before, judged=seen.judged, read_whole=listed.keys())
    if untold:
        emit(Warned(message=f"the findings are not recorded for other hosts yet: {untold}"))


def amount(rows: Iterable[tuple[Job, int]]) -> Amount:
    """Return the total amount of so many copies of each job's object."""
    together = Amount()
    for job, count in rows:
        together += Amount(count, count * job.expected.size_bytes)
    return together
