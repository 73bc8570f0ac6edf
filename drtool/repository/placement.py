"""Where a pack goes when some targets cannot take it, and where to look for it: pure walks along the ring's preference.

Invariants
    Copies lie on distinct sites. A write walks on past targets that failed until enough sites hold it, or none is left.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence

from drtool.model import SiteName, TargetName, site_of


def next_targets(
    preference: Iterable[TargetName],
    holders: Collection[TargetName],
    wanted_sites: int,
    writable: Callable[[TargetName], bool],
) -> list[TargetName]:
    """The targets to write now, so that with `holders` (written or under way) `wanted_sites` distinct sites hold it."""
    sites: set[SiteName] = {site_of(name) for name in holders}
    chosen = []
    for name in preference:
        if len(sites) >= wanted_sites:
            break
        if site_of(name) not in sites and writable(name):
            chosen.append(name)
            sites.add(site_of(name))
    return chosen


def distinct_sites(names: Iterable[TargetName]) -> int:
    return len({site_of(name) for name in names})


def reading_order(
    hint: Sequence[TargetName],
    preference: Iterable[TargetName],
    reachable: Callable[[TargetName], bool],
    sites: Collection[SiteName] | None,
) -> Iterator[TargetName]:
    """Where to look for an object, best first: the hint, then the ring's order; only `sites`, if given."""
    seen: set[TargetName] = set()
    for name in (*hint, *preference):
        if name not in seen and reachable(name) and (sites is None or site_of(name) in sites):
            seen.add(name)
            yield name
