"""Reading of copies, all of them or the next ones of a round, and the record of the coverage.

Invariants
    A copy counts as read only if its bytes were read. Unread copies of a target that went away are unknown, not
    damaged.
    A run that dies loses at most `RECORD_EVERY_S` of its coverage.
"""

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence

from msgspec import Struct
from msgspec.structs import replace

from drtool.errors import DrtoolError
from drtool.events import Emit, Progress, Stage, Warned
from drtool.manifest.ops import Record
from drtool.manifest.records import Coverage
from drtool.model import SiteName, TargetName, site_of
from drtool.operations.verify.bound import upper_bound
from drtool.operations.verify.reading import Reader
from drtool.operations.verify.request import SAMPLE_SHARE, Bound, Damaged, RoundStatus, VerifyRequest
from drtool.operations.verify.rounds import (
    FULL,
    LEVEL,
    ROUND_END,
    Copy,
    SiteRound,
    advanced,
    in_proportion,
    rounds_of,
    within,
)
from drtool.repository import Repository
from drtool.repository.expected import Expected
from drtool.repository.findings import Copy as Finding
from drtool.repository.inventory import Inventory

RECORD_EVERY_S = 300.0


class Covered(Struct):
    """The copies read. `outcomes`: why a copy is bad, empty if it is whole, None if it could not be read after all.

    `population`: how many copies of each target were eligible. `left`: targets that went away meanwhile.
    """

    rounds: list[SiteRound]
    population: Mapping[TargetName, int] = {}
    outcomes: dict[Finding, str | None] = {}
    damaged: list[Damaged] = []
    left: set[TargetName] = set()

    @property
    def whole(self) -> frozenset[Finding]:
        """Return the copies that were read and are whole."""
        return frozenset(copy for copy, problem in self.outcomes.items() if problem == "")

    @property
    def bound(self) -> Bound:
        """Return the bound for all eligible copies, except those of targets that went away.

        A target that goes away removes a part of the sample that is not random, so its earlier results do not count.
        """
        drawn = [problem for (target, _), problem in self.outcomes.items() if target not in self.left]
        read, bad = sum(problem is not None for problem in drawn), sum(bool(problem) for problem in drawn)
        population = sum(count for target, count in self.population.items() if target not in self.left)
        population -= len(drawn) - read
        return Bound(upper_bound(read, bad, population), read, bad, population)

    def rounds_after(self, repository: Repository) -> list[RoundStatus]:
        """Return the progress of each site's round."""
        full = {row.site: row.time_ns for row in repository.view.state.coverage if row.level == FULL}
        return [self._status(row, full.get(row.site)) for row in self.rounds]

    def _status(self, row: SiteRound, before_ns: int | None) -> RoundStatus:
        read = [copy for copy in row.waiting if self.outcomes.get((copy.target, copy.expected.name)) is not None]
        return RoundStatus(
            site=row.site,
            round=row.number,
            read_bytes=row.read_bytes + sum(copy.expected.size_bytes for copy in read),
            total_bytes=row.total_bytes,
            finished=len(read) == len(row.waiting),
            before_ns=before_ns,
        )


def cover(
    repository: Repository, wanted: Sequence[Expected], inventory: Inventory, request: VerifyRequest, emit: Emit
) -> Covered:
    """Read the copies that the level requires. Targets that went away meanwhile are removed from the inventory."""
    if request.level == "structure":
        return Covered([])
    emit(Stage(name="reading"))
    covered, chosen = draw(repository, wanted, inventory, request)
    time_s = request.sample.time_s if request.level == "sample" else None
    ends_at = None if time_s is None else time.monotonic() + time_s
    return _read(
        repository, covered, chosen, inventory, request, emit, lambda: ends_at is None or time.monotonic() < ends_at
    )


def draw(
    repository: Repository, wanted: Sequence[Expected], inventory: Inventory, request: VerifyRequest
) -> tuple[Covered, list[Copy]]:
    """Return the copies to read, in order. Nothing is read."""
    copies = [Copy(target, e) for e in wanted for target in inventory.holders(e.name, e.size_bytes)]
    if request.level == "full":
        return Covered([], Counter(copy.target for copy in copies)), copies
    # a round skips nothing: if a target cannot be listed, its site's round waits for it
    away = {site_of(target) for target in inventory.unlisted}
    covered = Covered([row for row in _rounds(repository, request, copies) if row.site not in away])
    covered.population = Counter(copy.target for row in covered.rounds for copy in row.waiting)
    sample = request.sample
    return covered, list(within(in_proportion(covered.rounds), _count(request, len(copies)), sample.size_bytes))


def _rounds(repository: Repository, request: VerifyRequest, copies: Sequence[Copy]) -> list[SiteRound]:
    """Return the rounds. The copies of one snapshot, or of a seed, form a separate round that no other run continues."""
    state = repository.view.state
    drawn = request.seed if request.seed is not None else str(time.time_ns() if request.partial else 0)

    def draw_key(site: SiteName, number: int) -> bytes:
        return repository.keyring.mac("verify-round", f"{site}\0{number}\0{drawn}".encode())

    return rounds_of(copies, () if request.partial else state.coverage, repository.view.sequence, draw_key)


def _count(request: VerifyRequest, copies: int) -> int | None:
    """Return the maximum number of copies to read, or None for no limit."""
    sample = request.sample
    if sample.copies is not None:
        return sample.copies
    if sample.share is None and (sample.size_bytes is not None or sample.time_s is not None):
        return None
    share = SAMPLE_SHARE if sample.share is None else sample.share
    return max(1, -int(-copies * share // 1))


def _read(
    repository: Repository,
    covered: Covered,
    copies: Sequence[Copy],
    inventory: Inventory,
    request: VerifyRequest,
    emit: Emit,
    may_go_on: Callable[[], bool],
) -> Covered:
    reader = Reader(repository.targets, repository.keyring, request.workers)
    total_bytes = sum(copy.expected.size_bytes for copy in copies)
    done_bytes, recorded_at = 0, time.monotonic()
    for copy, problem in reader.read(copies, may_go_on):
        covered.outcomes[copy.target, copy.expected.name] = problem
        if problem:
            covered.damaged.append(Damaged(copy.target, copy.expected.name, problem))
        done_bytes += copy.expected.size_bytes
        emit(Progress(processed_bytes=done_bytes, total_bytes=total_bytes))
        if covered.rounds and time.monotonic() - recorded_at > RECORD_EVERY_S:
            _commit(repository, _begun(repository, request, covered, set()), emit)
            recorded_at = time.monotonic()
    for target, why in reader.left.items():
        covered.left.add(target)
        inventory.objects.pop(target, None)
        inventory.unlisted[target] = why
    for copy, why in reader.unread.items():
        emit(Warned(message=f"{copy.expected.name} at {copy.target} could not be read: {why}"))
    return covered


def record(
    repository: Repository,
    request: VerifyRequest,
    covered: Covered,
    inventory: Inventory,
    unsound: set[SiteName],
    emit: Emit,
) -> bool:
    """Record the coverage. Return False if there is nothing to record, or no quorum.

    Sites in `unsound`, where something is damaged or missing, do not count as read whole.
    """
    if request.level == "structure":
        return False
    unsound = unsound | {site_of(target) for target, _ in repository.findings.all()}
    unsound |= {site_of(target) for (target, _), problem in covered.outcomes.items() if problem is None}
    if request.level == "full":
        return _commit(repository, list(_read_whole(repository, request, inventory, unsound)), emit)
    rows = _begun(repository, request, covered, unsound)
    through = {row.site for row in rows if row.position == ROUND_END and not row.unsound}
    through -= {site_of(target) for target in inventory.unlisted}
    whole = [Coverage(r.site, FULL, r.round, r.position, r.sequence, r.time_ns) for r in rows if r.site in through]
    return _commit(repository, [*rows, *whole], emit)


def _begun(repository: Repository, request: VerifyRequest, covered: Covered, unsound: set[SiteName]) -> list[Coverage]:
    """Return the progress of each site's round, and whether this or an earlier run of the round found damage there."""
    if request.partial:
        return []
    wrong = unsound | {site_of(row.target) for row in covered.damaged}
    before = {(row.site, row.round) for row in repository.view.state.coverage if row.level == LEVEL and row.unsound}
    rows = advanced(covered.rounds, covered.outcomes, _now_ns(request))
    return [replace(row, unsound=row.site in wrong or (row.site, row.round) in before) for row in rows]


def _commit(repository: Repository, rows: Sequence[Coverage], emit: Emit) -> bool:
    if not rows or repository.view.tentative or repository.index.unavailable:
        return False
    try:
        repository.manifest.commit(Record(coverage=tuple(rows)))
    except DrtoolError as error:
        emit(Warned(message=f"the result could not be recorded: {error.message}"))
        return False
    return True


def _read_whole(
    repository: Repository, request: VerifyRequest, inventory: Inventory, unsound: set[SiteName]
) -> Iterator[Coverage]:
    """Yield a record, as of this view, for every site whose targets were all reachable and whole."""
    if request.partial:
        return
    view, now_ns = repository.view, _now_ns(request)
    rounds = {row.site: row.round for row in view.state.coverage if row.level == FULL}
    away = {site_of(target) for target in inventory.unlisted}
    for site in sorted({site_of(target) for target in inventory.objects} - away - unsound):
        yield Coverage(site, FULL, rounds.get(site, 0) + 1, ROUND_END, view.sequence, now_ns)


def _now_ns(request: VerifyRequest) -> int:
    return time.time_ns() if request.now_ns is None else request.now_ns
