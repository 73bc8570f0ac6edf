"""The space that the next backup needs at each target, estimated from the last one.

The last backup counts, for each source, as its largest of the week before the newest snapshot, spread as the ring
spreads packs.
A source's first snapshot stores everything, and later ones little. So the first counts only while it is alone, and only
a quarter of it must fit again.
"""

from collections.abc import Sequence

from msgspec import Struct

from drtool.manifest.records import Snapshot
from drtool.model import TargetName
from drtool.repository import Repository
from drtool.ring.shares import expected_shares

WEEK_NS = 7 * 86_400 * 10**9
LEAST_BYTES = 4 << 20
MOST_TRIED_BYTES = 16 << 20
"""About one pack. A trial claims no more than this."""
OF_FIRST = 4


class Need(Struct, frozen=True):
    """`last_bytes`: stored by the last backup at one target. `next_bytes`: must fit there for the next one."""

    last_bytes: int
    next_bytes: int

    @property
    def tried_bytes(self) -> int:
        """Return the space that a trial claims."""
        return min(max(self.next_bytes, LEAST_BYTES), MOST_TRIED_BYTES)


def needs_of(repository: Repository) -> dict[TargetName, Need]:
    """Return the need of every target that gets packs."""
    state = repository.view.state
    last, following = _stored(list(state.snapshots))
    shares = expected_shares(state.ring)
    return {name: Need(round(last * share), round(following * share)) for name, share in shares.items() if share}


def mib(size_bytes: int) -> str:
    """Return a size such as `96 MiB`, with one decimal below 10 MiB."""
    return f"{size_bytes >> 20} MiB" if size_bytes >= 10 << 20 else f"{size_bytes / (1 << 20):.1f} MiB"


def _stored(snapshots: Sequence[Snapshot]) -> tuple[int, int]:
    """Return the bytes that a backup of every source stored, over all copies, and the part that must fit again."""
    latest_ns = max((row.started_ns for row in snapshots), default=0)
    sources: dict[tuple[str, str], list[Snapshot]] = {}
    for row in snapshots:
        if row.started_ns > latest_ns - WEEK_NS:
            sources.setdefault((row.host, row.source), []).append(row)
    last = following = 0
    for rows in sources.values():
        later = [row.counts.stored_bytes for row in rows if row.parent is not None]
        first = max(row.counts.stored_bytes for row in rows)
        last += max(later, default=first)
        following += max(later, default=first // OF_FIRST)
    return last, following
