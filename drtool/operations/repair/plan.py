"""Desired minus observed: which copies of an object are to be written, and which are one too many. Pure.

Invariants
    A copy is too many only where every place that the ring wants has a good one, or will have it first.
    An object that stands on enough sites is never brought below them.
"""

from collections.abc import Callable, Collection, Iterable, Sequence

from msgspec import Struct

from drtool.model import TargetName, site_of
from drtool.repository.expected import Expected
from drtool.repository.placement import distinct_sites


class Job(Struct, frozen=True):
    """What is to be done for one object. `sources` hold a copy; `bad` are targets whose copy must be replaced."""

    expected: Expected
    sources: tuple[TargetName, ...]
    write: tuple[TargetName, ...]
    bad: tuple[TargetName, ...]
    surplus: tuple[TargetName, ...]

    @property
    def idle(self) -> bool:
        return not (self.write or self.bad or self.surplus)


def job_for(
    expected: Expected,
    holders: Sequence[TargetName],
    bad: Collection[TargetName],
    preference: Iterable[TargetName],
    copies: int,
    writable: Callable[[TargetName], bool],
) -> Job:
    """The work on one object, given the targets that list it whole, and those whose copy is damaged."""
    good = tuple(name for name in holders if name not in bad)
    mend = tuple(name for name in bad if writable(name))
    write = [name for name in expected.desired if name not in good and name not in mend and writable(name)]
    for name in preference:
        if distinct_sites((*good, *mend, *write)) >= copies:
            break
        sites = {site_of(held) for held in (*good, *mend, *write)}
        if site_of(name) not in sites and writable(name):
            write.append(name)
    there = {*good, *mend, *write}
    complete = set(expected.desired) <= there
    surplus = tuple(name for name in good if name not in expected.desired) if complete else ()
    return Job(expected, good, tuple(write), mend, surplus)
