"""Tags and holds: marks that are put on snapshots after they were stored.

Invariants
    Each change is computed from the current marks. When two changes collide, one is computed again, so both take
    effect.
"""

from collections.abc import Callable, Sequence

from drtool.errors import Rejected
from drtool.manifest.ops import MarkSnapshots
from drtool.manifest.records import Mark, Snapshot
from drtool.manifest.state import State
from drtool.operations.selection import select
from drtool.repository import Repository

TRIES = 16
Altering = Callable[[Snapshot, Mark], Mark]


def mark(repository: Repository, ids: Sequence[bytes], alter: Altering) -> list[tuple[Snapshot, Mark]]:
    """Alter the marks of these snapshots, and return them as they are now.

    NoSuchSnapshot if one was forgotten meanwhile.
    """
    for _ in range(TRIES):
        state = repository.view.state
        before = _marked(state, ids)
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
    return _marked(repository.view.state, ids)


def _marked(state: State, ids: Sequence[bytes]) -> list[tuple[Snapshot, Mark]]:
    rows = list(state.snapshots)
    known = {row.snapshot: row for row in state.marks}
    chosen = [select(rows, id_.hex(), now_ns=0).snapshot for id_ in dict.fromkeys(ids)]
    return [(row, known.get(row.id, Mark(row.id))) for row in chosen]


def held(state: State, now_ns: int) -> set[bytes]:
    """Return the snapshots under a hold, which must not be forgotten."""
    return {row.snapshot for row in state.marks if row.holds(now_ns)}
