"""What a backup copies to targets that are owed something, after its snapshots are committed.

Invariants
    Nothing here begins before the snapshots are committed, and nothing here can take them back.
    Copies are only added, of bytes that are what their name promises. Damaged and surplus copies are left to `repair`.
    After the time for it no copy begins. What is under way then is finished, so that each backup brings every target that is owed
    something, and answers, at least one object, however slow its line is. No server is waited for.
    Two hosts that do this at once take the objects in different orders, and pass over what the other one has brought.
"""

import random
import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future, wait
from contextlib import suppress
from functools import partial

from msgspec.structs import replace

from drtool.crypto import object_name
from drtool.errors import StoreError
from drtool.events import Emit, Progress, Stage, TargetFailed, Warned
from drtool.model import TargetName, segment_object
from drtool.operations.backup.request import Brought, CopiesReport, SnapshotReport
from drtool.operations.owed import OwedCopy, amounts, owed_copies
from drtool.repository import Repository
from drtool.repository.copying import Amount
from drtool.repository.evidence import Evidence, fewest_sites
from drtool.repository.findings import Copy
from drtool.repository.put_threads import PutThreads
from drtool.repository.writing import AHEAD_MAX, leave_interruptions_to_the_main_thread
from drtool.stores.window import SLOW

LEAST_S = 30.0
SHARE = 0.5
LOOK_S = 0.5
"""So long each backup looks for objects that have enough copies and lie in other places than the ring wants them."""
_WAIT_S = 0.5


def bring_owed(
    repository: Repository, took_s: float, limit_s: int | None, reports: Sequence[SnapshotReport], emit: Emit
) -> tuple[list[SnapshotReport], list[Brought]]:
    """Copy what is owed for `limit_s`, or for a time that fits a backup that took `took_s`; the reports as they stand then."""
    budget_s = max(LEAST_S, SHARE * took_s) if limit_s is None else float(limit_s)
    if not budget_s or not reports:
        return list(reports), []
    evidence = repository.evidence()
    rejoined = _rejoin(repository)
    repository.load_index()
    for ref in repository.view.state.segments:
        if not any(
            evidence.inventory.holders(segment_object(ref.id), None)
        ):  # this run stored it, or another one just did
            evidence.note_copies(segment_object(ref.id), ref.size_bytes, ref.targets)
    due = list(owed_copies(repository, evidence.inventory, repository.targets.writable, time.monotonic() + LOOK_S))
    brought: list[Brought] = []
    if due:
        emit(Stage(name="copying"))
        brought = _Bringing(repository, evidence, due, emit).run(budget_s)
    if not rejoined and not any(row.copied.objects for row in brought):
        return list(reports), brought
    return [_judged(repository, evidence, row, rejoined, brought) for row in reports], brought


def _rejoin(repository: Repository) -> set[TargetName]:
    """Let transfers to targets begin again that were left behind; the processes that took part have ended."""
    targets = repository.targets
    slow = {name for name, why in targets.failures.items() if why == SLOW and targets.reachable(name)}
    for name in slow:
        del targets.failures[name]
        targets.guard(name).rejoin()
    return slow


class _Bringing:
    """Some copies on their way, on threads of each target."""

    def __init__(self, repository: Repository, evidence: Evidence, due: list[OwedCopy], emit: Emit) -> None:
        self._repository, self._evidence, self._emit = repository, evidence, emit
        self._targets = repository.targets
        random.shuffle(due)
        self._due = sorted(due, key=lambda row: not row.is_short)
        self._lock = threading.Lock()
        self._copied: list[OwedCopy] = []
        self._damaged: set[Copy] = set()
        self._is_over = False

    def run(self, budget_s: float) -> list[Brought]:
        """Return what was brought to each target, and what it is owed still."""
        ends_at = time.monotonic() + budget_s
        names = sorted({row.target for row in self._due})
        pools = {name: self._threads(name) for name in names}
        under_way: set[Future[None]] = {pools[row.target].submit(partial(self._bring, row)) for row in self._due}
        try:
            while under_way:
                under_way = wait(under_way, _WAIT_S).not_done
                self._show()
                if time.monotonic() >= ends_at and not self._is_over:
                    self._end(names)
        finally:
            self._end(names)
            for pool in pools.values():
                pool.shutdown(wait=False)
        for name in names:
            self._targets.guard(name).rejoin()
        self._record_damage()
        return self._rows(names)

    def _threads(self, name: TargetName) -> PutThreads:
        count = 1 if self._targets.near(name) else AHEAD_MAX
        return PutThreads(count, f"owed-{name}", leave_interruptions_to_the_main_thread)

    def _end(self, names: Sequence[TargetName]) -> None:
        """Let nothing begin any more, also where it waits for a line already."""
        self._is_over = True
        for name in names:
            self._targets.guard(name).leave()

    def _show(self) -> None:
        with self._lock:
            done_bytes = sum(row.size_bytes for row in self._copied)
        total_bytes = sum(row.size_bytes for row in self._due)
        self._emit(Progress(processed_bytes=done_bytes, total_bytes=total_bytes, stored_bytes=done_bytes))

    def _bring(self, row: OwedCopy) -> None:
        if self._is_over or not self._targets.writable(row.target):
            return
        try:
            if not self._has(row):
                data = self._sound_copy(row)
                if data is None:
                    return
                self._targets.store(row.target).put(row.name, data)
        except StoreError as error:
            if not self._is_over:
                self._targets.fail_by(row.target, error)
            return
        with self._lock:
            self._copied.append(row)

    def _has(self, row: OwedCopy) -> bool:
        """Return whether another host has brought it meanwhile. A directory is not asked: writing costs no more."""
        if self._targets.near(row.target):
            return False
        with suppress(StoreError):
            return self._targets.store(row.target).stat(row.name) == row.size_bytes
        return False

    def _sound_copy(self, row: OwedCopy) -> bytes | None:
        for source in row.sources:
            try:
                data = self._targets.store(source).get(row.name)
            except StoreError:
                continue
            if object_name(data).hex() == row.name.rpartition("/")[2]:
                return data
            with self._lock:
                self._damaged.add((source, row.name))
        return None

    def _record_damage(self) -> None:
        if not self._damaged:
            return
        untold = self._repository.findings.update(self._damaged, ())
        if untold:
            self._emit(Warned(message=f"other hosts do not know yet which copies are damaged: {untold}"))

    def _rows(self, names: Sequence[TargetName]) -> list[Brought]:
        for row in self._copied:
            self._evidence.note_copies(row.name, row.size_bytes, (row.target,))
            self._repository.objects.bad_copies.pop((row.target, row.name), None)  # it was missing until now
        done, all_due = amounts(self._copied), amounts(self._due)
        found = []
        for name in names:
            copied, due = done.get(name, Amount()), all_due[name]
            reason = self._targets.failures.get(name, "")
            if reason:
                self._emit(TargetFailed(target=name, reason=reason))
            left = Amount(due.objects - copied.objects, due.bytes - copied.bytes)
            found.append(Brought(target=name, copied=copied, left=left, reason=reason))
        return found


def _judged(
    repository: Repository,
    evidence: Evidence,
    report: SnapshotReport,
    rejoined: set[TargetName],
    brought: Sequence[Brought],
) -> SnapshotReport:
    """Return the report by the copies that there are now."""
    if not (report.degraded or report.owed):
        return report
    snapshot = next((row for row in repository.view.state.snapshots if row.id.hex() == report.id), None)
    if snapshot is None:
        return report
    promised = repository.view.state.policy.copies
    weak = evidence.weak_packs()
    floor = min((len(sites) for sites in weak.values()), default=promised)
    segments = [len(sites) for sites in evidence.weak_segments().values()]
    copies = min((promised, fewest_sites(repository, snapshot.root, weak, floor), *segments))
    settled = rejoined.union(row.target for row in brought) - {row.target for row in brought if row.left.objects}
    owed = [row for row in report.owed if row.target not in settled]
    return replace(report, copies=CopiesReport(promised, copies), degraded=copies < promised, owed=owed)
