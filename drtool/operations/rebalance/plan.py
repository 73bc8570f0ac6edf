"""What the work on all objects amounts to: copies made and taken, target by target, and the least that had to be made. Pure.

Whatever a target will have more than now must be written there; so much is the least, for any way to reach the same amounts.
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
    """Sums over all jobs that somebody has a copy for. `bytes_after`: of all copies, once everything is done."""

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
        """`copied` as a part of all that there is in the end."""
        return Moves(copied.objects, copied.bytes, self._part(copied.bytes))

    @property
    def minimum_fraction(self) -> float:
        return self._part(self.least_bytes)

    def _part(self, size_bytes: int) -> float:
        return round(size_bytes / self.bytes_after, 6) if self.bytes_after else 0.0


def totals(jobs: Iterable[Job]) -> Totals:
    """What carrying out `jobs` does."""
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
