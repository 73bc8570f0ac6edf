"""In which order copies are read when not all are read at once, and how far a round has come: pure.

A round reads every copy at a site once. Its order is drawn anew for each round, by a keyed hash, so that nobody who lacks the
keys can know what is read next, and any next stretch of it is a random sample of what has not been read in this round. One
number, the position of the last copy that was read, says which were: that is all that the manifest remembers, whatever the
number of copies, and any host goes on from there.

What arrives behind that position is for the next round. So within a round nothing is read twice, and what has waited longest
(since the last round, or for ever) always comes before what was just read.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from blake3 import blake3
from msgspec import Struct

from drtool.manifest.records import Coverage
from drtool.model import SiteName, TargetName, site_of
from drtool.repository.expected import Expected

LEVEL = "sample"
"""The level of the manifest's record of an unfinished round."""
FULL = "full"
"""The level of the record of a site that was read whole."""
ROUND_END = 2**63 - 1

DrawKey = Callable[[SiteName, int], bytes]
"""32 bytes for one round at one site that only who has the keys can know."""


class Copy(Struct, frozen=True):
    """One object at one target."""

    target: TargetName
    expected: Expected
    position: int = 0


class SiteRound(Struct, frozen=True):
    """A site's round as it stands. `waiting`: copies that it has not read, in its order; `read_bytes`: of those that it has."""

    site: SiteName
    number: int
    sequence: int
    position: int
    waiting: tuple[Copy, ...]
    read_bytes: int
    total_bytes: int


def position_of(key: bytes, target: TargetName, name: str) -> int:
    """Where in the round a copy is read: from 1 to 2^63 - 1."""
    digest = blake3(f"{target}\0{name}".encode(), key=key).digest()
    return (int.from_bytes(digest[:8], "big") >> 1) or 1


def rounds_of(
    copies: Iterable[Copy], coverage: Iterable[Coverage], sequence: int, draw_key: DrawKey
) -> list[SiteRound]:
    """Every site's round: the one that was begun, or a new one at this point of the manifest."""
    by_site: dict[SiteName, list[Copy]] = {}
    for copy in copies:
        by_site.setdefault(site_of(copy.target), []).append(copy)
    known = {row.site: row for row in coverage if row.level == LEVEL}
    return [_round(site, here, known.get(site), sequence, draw_key) for site, here in sorted(by_site.items())]


def _round(site: SiteName, copies: Sequence[Copy], row: Coverage | None, sequence: int, draw_key: DrawKey) -> SiteRound:
    if row is None or row.position == ROUND_END:
        row = Coverage(site, LEVEL, row.round + 1 if row else 1, 0, sequence, 0)
    key = draw_key(site, row.round)
    placed = sorted(
        (Copy(c.target, c.expected, position_of(key, c.target, c.expected.name)) for c in copies),
        key=lambda copy: (copy.position, copy.target, copy.expected.name),
    )
    waiting = tuple(copy for copy in placed if copy.position > row.position)
    total_bytes = sum(copy.expected.size_bytes for copy in placed)
    read_bytes = total_bytes - sum(copy.expected.size_bytes for copy in waiting)
    return SiteRound(site, row.round, row.sequence, row.position, waiting, read_bytes, total_bytes)


def in_proportion(rounds: Iterable[SiteRound]) -> Iterator[Copy]:
    """What waits at all sites as one sequence: after any number of copies each site has given its share, but for one."""
    queues = [site.waiting for site in rounds if site.waiting]
    given = [0] * len(queues)
    for _ in range(sum(map(len, queues))):
        turn = min(
            (n for n in range(len(queues)) if given[n] < len(queues[n])),
            key=lambda n: (given[n] + 0.5) / len(queues[n]),
        )
        yield queues[turn][given[turn]]
        given[turn] += 1


def within(copies: Iterable[Copy], count_max: int | None, bytes_max: int | None) -> Iterator[Copy]:
    """The first of them, as many and as much as is allowed; one in any case, so that every run comes further."""
    taken_bytes = 0
    for taken, copy in enumerate(copies):
        over = bytes_max is not None and taken_bytes + copy.expected.size_bytes > bytes_max
        if (count_max is not None and taken >= count_max) or (over and taken):
            return
        yield copy
        taken_bytes += copy.expected.size_bytes


def advanced(
    rounds: Iterable[SiteRound], outcomes: Mapping[tuple[TargetName, str], str | None], time_ns: int
) -> list[Coverage]:
    """The records of rounds after a run. `outcomes`: what was read, and why a copy is bad; None: it could not be read after all.

    A site comes as far as it was read without a gap.
    """
    rows: list[Coverage] = []
    for site in rounds:
        position, through = site.position, True
        for copy in site.waiting:
            if outcomes.get((copy.target, copy.expected.name)) is None:
                through = False
                break
            position = copy.position
        if through:
            rows.append(Coverage(site.site, LEVEL, site.number, ROUND_END, site.sequence, time_ns))
        elif position != site.position:
            rows.append(Coverage(site.site, LEVEL, site.number, position, site.sequence, time_ns))
    return rows
