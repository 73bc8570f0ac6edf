"""Tags and holds: what is said of snapshots after they were stored.

Invariants
    Each change is made on the marks that are there: of two at the same moment both count, or one is done again.
"""

import time
from collections.abc import Callable, Sequence

from drtool.errors import Rejected
from drtool.manifest.ops import MarkSnapshots
from drtool.manifest.records import Mark, Snapshot
from drtool.manifest.state import State
from drtool.operations.selection import select
from drtool.repository import Repository

TRIES = 16
Altering = Callable[[Snapshot, Mark], Mark]


def mark(repository: Repository, names: Sequence[str], alter: Altering) -> list[tuple[Snapshot, Mark]]:
    """Alters the marks of the snapshots that are named. What they are now. NoSuchSnapshot if one is none."""
    for _ in range(TRIES):
        state = repository.view.state
        before = _meant(state, names)
        after = [alter(row, mark) for row, mark in before]
        changed = tuple(new for (_, old), new in zip(before, after, strict=True) if new != old)
        if not changed:
            break
        try:
            repository.adopt(repository.manifest.commit(MarkSnapshots(changed, judged=state.sequence)).view)
            break
        except Rejected as error:
            if error.reason not in ("marked-since", "no-such-snapshot"):
                raise
            repository.adopt(repository.manifest.read())
    else:
        raise Rejected(
            "marked-since", "others keep marking the same snapshots; nothing was changed", hint="run it again"
        )
    return _meant(repository.view.state, [row.id.hex() for row, _ in before])


def _meant(state: State, names: Sequence[str]) -> list[tuple[Snapshot, Mark]]:
    rows = list(state.snapshots)
    known = {row.snapshot: row for row in state.marks}
    chosen = {row.id: row for row in (select(rows, name, now_ns=time.time_ns()).snapshot for name in names)}
    return [(row, known.get(row.id, Mark(row.id))) for row in chosen.values()]


def held(state: State, now_ns: int) -> set[bytes]:
    """The snapshots that must not be forgotten."""
    return {row.snapshot for row in state.marks if row.holds(now_ns)}
