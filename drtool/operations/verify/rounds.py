"""The order in which copies are read when not all are read at once, and the progress of a round. Pure.

A round reads every copy at a site once. Its order is drawn for each round by a keyed hash. So without the keys the next
copies cannot be predicted, and any next stretch of the round is a random sample of its unread copies. The position of
the last copy that was read is a single number, which is all that the manifest records. Any host can continue from
there.

Copies that arrive behind that position wait for the next round. So within a round nothing is read twice, and the copies
that have waited longest (since the last round, or since they were stored) come before those just read.
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
"""Returns 32 bytes for one round at one site that cannot be computed without the keys."""


class Copy(Struct, frozen=True):
    """One object at one target."""

    target: TargetName
    expected: Expected
    position: int = 0


class SiteRound(Struct, frozen=True):
    """A site's current round. `waiting`: its unread copies, in order. `read_bytes`: the size of those already read."""

    site: SiteName
    number: int
    sequence: int
    position: int
    waiting: tuple[Copy, ...]
    read_bytes: int
    total_bytes: int


def position_of(key: bytes, target: TargetName, name: str) -> int:
    """Return a copy's position in the round, from 1 to 2^63 - 1."""
    digest = blake3(f"{target}\0{name}".encode(), key=key).digest()
    return (int.from_bytes(digest[:8], "big") >> 1) or 1


def rounds_of(
    copies: Iterable[Copy], coverage: Iterable[Coverage], sequence: int, draw_key: DrawKey
) -> list[SiteRound]:
    """Return every site's round: the one in progress, or a new one at this point of the manifest."""
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
    """Yield the waiting copies of all sites, interleaved so that each site is always within one copy of its share."""
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
    """Yield the first copies up to the limits, but at least one, so that every run makes progress."""
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
    """Return the records of rounds after a run. `outcomes`: why a copy that was read is bad, or None if it could not be
    read.

    A site advances as far as it was read without a gap.
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
