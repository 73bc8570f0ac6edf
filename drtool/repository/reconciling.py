"""Desired minus observed copies: which are to be written, and which are surplus. Pure.

Invariants
    A copy is surplus only if every desired place has a good one, or will have it first.
    An object that is on enough sites is never brought below that number.
"""

from collections.abc import Callable, Collection, Iterable, Sequence

from msgspec import Struct

from drtool.model import TargetName, site_of
from drtool.repository.expected import Expected
from drtool.repository.placement import distinct_sites


class Job(Struct, frozen=True):
    """The work on one object. `sources` hold a copy. `bad`: targets whose copy must be replaced.

    `surplus` may be removed afterwards, damaged copies included. `complete`: every desired place then has a good copy.
    `perhaps`:
    unlisted targets that may hold one. `given_up`: lost targets that still list it, where a copy is read only if no
    other is good, and never counted.
    """

    expected: Expected
    sources: tuple[TargetName, ...]
    write: tuple[TargetName, ...]
    bad: tuple[TargetName, ...]
    surplus: tuple[TargetName, ...]
    complete: bool
    perhaps: tuple[TargetName, ...] = ()
    given_up: tuple[TargetName, ...] = ()

    @property
    def readable(self) -> bool:
        """Return whether any target lists a copy that is not known to be damaged."""
        return bool(self.sources or self.given_up)

    @property
    def idle(self) -> bool:
        return not (self.write or self.bad or self.surplus)

    @property
    def after(self) -> frozenset[TargetName]:
        """Return the targets with a good copy once all of it is done."""
        return frozenset((*self.sources, *self.write, *self.bad)) - frozenset(self.surplus)


def job_for(
    expected: Expected,
    holders: Sequence[TargetName],
    bad: Collection[TargetName],
    preference: Iterable[TargetName],
    copies: int,
    writable: Callable[[TargetName], bool],
    perhaps: Collection[TargetName] = (),
    given_up: Collection[TargetName] = (),
) -> Job:
    """Return the work on one object, given the targets that list it whole, and those whose copy is damaged.

    A copy that a target in `perhaps` may have is not made a second time, but nothing is removed because of it.
    """
    good = tuple(name for name in holders if name not in bad)
    usable = [name for name in bad if writable(name)]
    mend = [name for name in usable if name in expected.desired]
    write = [name for name in expected.desired if name not in good and name not in mend and writable(name)]
    for name in preference:
        there = (*good, *mend, *write, *perhaps)
        if distinct_sites(there) >= copies:
            break
        if writable(name) and site_of(name) not in {site_of(held) for held in there}:
            (mend if name in usable else write).append(name)
    complete = set(expected.desired) <= {*good, *mend, *write}
    spare = [name for name in (*good, *usable) if name not in (*expected.desired, *mend)]
    surplus = tuple(spare) if complete and distinct_sites(expected.desired) >= copies else ()
    return Job(expected, good, tuple(write), tuple(mend), surplus, complete, tuple(perhaps), tuple(given_up))
