"""The totals of the work on all objects: copies made and removed, by target, and the least that had to be made. Pure.

The least is the sum of what each target will have more than now: any way to the same amounts must write that much.
"""

from collections import Counter
from collections.abc import Iterable

from msgspec import Struct

from drtool.model import TargetName
from drtool.operations.rebalance.request import Arriving, Moves
from drtool.repository.copying import Amount
from drtool.repository.moving import amount
from drtool.repository.reconciling import Job


class Totals(Struct, frozen=True):
    """Sums over all jobs that have a copy to read from. `bytes_after`: of all copies, once everything is done."""

    copied: Amount
    removed: Amount
    bytes_after: int
    least_bytes: int
    targets: list[Arriving]
    waiting: int

    @property
    def moves(self) -> Moves:
        return self.moves_of(self.copied)

    def moves_of(self, copied: Amount) -> Moves:
        """Return `copied` as a fraction of all bytes in the end."""
        return Moves(copied.objects, copied.bytes, self._part(copied.bytes))

    @property
    def minimum_fraction(self) -> float:
        return self._part(self.least_bytes)

    def _part(self, size_bytes: int) -> float:
        return round(size_bytes / self.bytes_after, 6) if self.bytes_after else 0.0


def totals(jobs: Iterable[Job]) -> Totals:
    """Return the totals of carrying out `jobs`."""
    movable = [job for job in jobs if job.sources]
    gains: Counter[TargetName] = Counter()
    gives: Counter[TargetName] = Counter()
    gained: Counter[TargetName] = Counter()
    given: Counter[TargetName] = Counter()
    for job in movable:
        size_bytes = job.expected.size_bytes
        for name in job.write:
            gains[name] += size_bytes
            gained[name] += 1
        for name in job.surplus:
            gives[name] += size_bytes
            given[name] += 1
    names = sorted({*gains, *gives})
    return Totals(
        copied=amount((job, len(job.write)) for job in movable),
        removed=amount((job, len(job.surplus)) for job in movable),
        bytes_after=sum(len(job.after) * job.expected.size_bytes for job in movable),
        least_bytes=sum(max(0, gains[name] - gives[name]) for name in names),
        targets=[Arriving(n, Amount(gained[n], gains[n]), Amount(given[n], gives[n])) for n in names],
        waiting=sum(not job.complete for job in movable),
    )
