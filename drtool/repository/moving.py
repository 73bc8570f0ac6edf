"""Bringing what is stored to where the ring wants it: looked at, object after object, under the mover's rules.

What `repair` and `rebalance` share.

Invariants
    Additions need nobody's leave. Removals happen only under the one mover session, and only while the ring is the one that
    they were planned by; the session is looked up again every `RECHECK_EVERY` removals.
    What prune is removing is neither copied nor counted.
"""

from collections.abc import Collection, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import TYPE_CHECKING, Literal

from msgspec import Struct

from drtool.errors import Refused, Rejected
from drtool.events import Emit, Progress, Stage, TargetFailed, Warned
from drtool.model import PackId, TargetName
from drtool.repository.catalogue.audit import is_catalogue
from drtool.repository.copying import Amount, Outcome, carry_out, read_whole, remove
from drtool.repository.expected import Expected, expected_objects
from drtool.repository.findings import Copy
from drtool.repository.inventory import Inventory, take_inventory
from drtool.repository.reconciling import Job, job_for
from drtool.repository.writing import Writer
from drtool.ring import Placement, Ring

if TYPE_CHECKING:
    from drtool.repository.repository import Repository
    from drtool.repository.session import WriterSession

RECHECK_EVERY = 256


class Look(Struct, frozen=True):
    """What should exist, what the targets list, and which of it is known to be damaged: targets by object.

    `given_up`: what lost targets list that still answer.
    """

    wanted: list[Expected]
    inventory: Inventory
    bad: dict[str, set[TargetName]]
    given_up: Inventory = Inventory({}, {})


def look(
    repository: "Repository", emit: Emit, placement: Placement, *, workers: int = 1, read_all: bool = False
) -> Look:
    """Lists every target; reads copies that were found damaged before, or all."""
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
    for target, name in _not_whole(repository, inventory, doubtful, workers, emit):
        bad.setdefault(name, set()).add(target)
    given_up = take_inventory(repository.targets, of=repository.targets.given_up())
    return Look(wanted, inventory, bad, given_up)


def _wanted(repository: "Repository", placement: Placement) -> Iterator[Expected]:
    state = repository.view.state
    going = repository.going_packs(repository.view)
    packs = (pack for pack in repository.index.packs() if pack.pack not in going)
    return expected_objects(packs, state.segments, placement, state.policy.copies)


def _not_whole(
    repository: "Repository", inventory: Inventory, copies: Sequence[Copy], workers: int, emit: Emit
) -> Iterator[Copy]:
    """Those that are not what their names promise; all of them are read."""
    emit(Stage(name="reading"))
    sizes = [inventory.objects[target][name] for target, name in copies]
    done_bytes = 0
    threads = ThreadPoolExecutor(workers, "read")
    try:
        results = threads.map(lambda copy: read_whole(repository.targets, *copy) is not None, copies)
        for copy, size_bytes, whole in zip(copies, sizes, results, strict=True):
            done_bytes += size_bytes
            emit(Progress(processed_bytes=done_bytes, total_bytes=sum(sizes)))
            if not whole:
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
    """The work on every object, in the order of the catalogue.

    `leave_to_absent`: what a target that cannot be listed may have is not made a second time. `arriving` targets are taken
    to be there, though they are not yet.
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
    """`Refused` if the work is more than is allowed: so many objects touched, so many bytes written."""
    due = [job for job in jobs if job.readable and not job.idle]
    written_bytes = sum(job.expected.size_bytes * (len(job.write) + len(job.bad)) for job in due)
    hint = "look at it with --dry-run; then allow more, or leave the limit out"
    if max_objects is not None and len(due) > max_objects:
        raise Refused(f"{len(due)} objects would be touched, and {max_objects} are allowed; nothing was", hint=hint)
    if max_bytes is not None and written_bytes > max_bytes:
        raise Refused(f"{written_bytes} bytes would be written, and {max_bytes} are allowed; none were", hint=hint)


class Taken(Struct, frozen=True):
    """What was taken away, and why not all of it. `ring-changed`: the rest is to be planned anew."""

    removed: Amount = Amount()
    stopped: Literal["", "mover-open", "ring-changed", "expired"] = ""


class Mover:
    """Carries out jobs that were planned for `ring`, and counts them all as one piece of work."""

    def __init__(self, repository: "Repository", ring: Ring, total_bytes: int, workers: int, emit: Emit) -> None:
        self._repository, self._ring, self._workers, self._emit = repository, ring, workers, emit
        self._total_bytes = total_bytes
        self._done_bytes = 0
        self._told: set[TargetName] = set()
        self._unanswered: set[Copy] = set()
        """Deletions that were begun, and may yet take effect: their outcome is not known."""

    def carry_out(self, jobs: Sequence[Job]) -> list[Outcome]:
        """All jobs, a few at a time; memory stays at a few objects."""
        targets = self._repository.targets
        outcomes: list[Outcome] = []
        threads = ThreadPoolExecutor(self._workers, "copy")
        try:
            for outcome in threads.map(lambda job: carry_out(targets, job), jobs):
                outcomes.append(outcome)
                self._done_bytes += outcome.job.expected.size_bytes
                self._emit(Progress(processed_bytes=self._done_bytes, total_bytes=self._total_bytes))
        finally:
            threads.shutdown(
                cancel_futures=True
            )  # an interruption waits for what is being copied, not for all the rest
        for target, reason in targets.failures.items():
            if targets.reachable(target) and target not in self._told:
                self._told.add(target)
                self._emit(TargetFailed(target=target, reason=reason))
        return outcomes

    def take_surplus(self, outcomes: Iterable[Outcome]) -> Taken:
        """Deletes copies that are one too many, under the mover session."""
        rows = [(outcome, target) for outcome in outcomes for target in outcome.removable]
        if not rows:
            return Taken()
        with closing(self._repository.writer()) as writer:
            session = self._begin(writer)
            if session is None:
                return Taken(stopped="mover-open")
            try:
                return self._take(rows, session)
            finally:
                self._end(session)

    def _end(self, session: "WriterSession") -> None:
        """Not while a deletion may yet take effect: if the ring turned meanwhile, that could be a copy which is promised by then.

        Such a session ends when a later run of this host finds its process gone.
        """
        if not self._unanswered:
            session.abandon()
            return
        where = ", ".join(sorted({target for target, _ in self._unanswered}))
        self._emit(
            Warned(message=f"{where} did not say whether it deleted: no copies are taken away until the next run looks")
        )

    def _begin(self, writer: Writer) -> "WriterSession | None":
        """The mover session; None while somebody else has it; a second look finds out if that died."""
        for _ in range(2):
            try:
                return self._repository.begin(writer, "", "mover")
            except Rejected as error:
                if error.reason != "mover-open":
                    raise
                self._repository.adopt(self._repository.manifest.read())
        return None

    def _take(self, rows: Sequence[tuple[Outcome, TargetName]], session: "WriterSession") -> Taken:
        if session.view.state.ring != self._ring:
            return Taken(stopped="ring-changed")
        removed = Amount()
        for number, (outcome, target) in enumerate(rows):
            if number and number % RECHECK_EVERY == 0 and not self._still_ours(session):
                return Taken(removed, "expired")
            copy = (target, outcome.job.expected.name)
            self._unanswered.add(copy)  # before it begins: Ctrl-C may leave it under way
            gone = remove(self._repository.targets, *copy)
            if gone is not None:
                self._unanswered.discard(copy)
            if gone:
                removed += Amount(1, outcome.job.expected.size_bytes)
        return Taken(removed)

    def _still_ours(self, session: "WriterSession") -> bool:
        return self._repository.manifest.read().state.session(session.id) is not None


def note_damage(repository: "Repository", seen: Look, outcomes: Sequence[Outcome]) -> None:
    """Remember which packs and index segments are damaged still, forget those that are whole again."""
    known: set[Copy] = {(target, name) for name, targets in seen.bad.items() for target in targets}
    known |= {(target, o.job.expected.name) for o in outcomes for target in o.found_bad}
    mended = {(target, o.job.expected.name) for o in outcomes for target in (*o.rebuilt, *o.copied)}
    before = {copy for copy in repository.findings.all() if not is_catalogue(copy[1])}
    repository.findings.update(known - mended, before)


def amount(rows: Iterable[tuple[Job, int]]) -> Amount:
    """Copies, so many of each job's object."""
    together = Amount()
    for job, count in rows:
        together += Amount(count, count * job.expected.size_bytes)
    return together
