"""The places of a pack if some targets cannot accept it, and the search order: pure walks along the ring's preference.

Invariants
    Copies are on distinct sites. A write skips failed targets until enough sites hold the pack, or none is left.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence

from drtool.model import SiteName, TargetName, site_of


def next_targets(
    preference: Iterable[TargetName],
    holders: Collection[TargetName],
    wanted_sites: int,
    writable: Callable[[TargetName], bool],
) -> list[TargetName]:
    """Return the targets to write now, so that with `holders` (written or in progress) `wanted_sites` sites hold it."""
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
    """Yield where to look for an object, best first: the hint, then the ring's order. Only `sites`, if given."""
    seen: set[TargetName] = set()
    for name in (*hint, *preference):
        if name not in seen and reachable(name) and (sites is None or site_of(name) in sites):
            seen.add(name)
            yield name
