"""Marks on snapshots: tags set later, and holds, next to rows that never change. Pure.

Invariants
    A mark belongs to a snapshot in the catalogue, and is removed with it, and only then. So a change that was rejected
    because of a mark stays rejected in every later attempt.
    A change that marks or forgets a snapshot is based on its present mark, or it is rejected and has to be computed
    again.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import msgspec

from drtool.manifest.ops import ForgetSnapshots, MarkSnapshots
from drtool.manifest.records import Mark
from drtool.manifest.rejection import Refused
from drtool.model import SnapshotId

if TYPE_CHECKING:
    from drtool.manifest.state import State

MARKS_LIMIT = 2000
"""Marks are part of every checkpoint, so they are few and short."""
TAGS_LIMIT = 64
WORD_CHARACTERS = 256


def tags_of(marks: tuple[Mark, ...]) -> Mapping[SnapshotId, tuple[str, ...]]:
    """Return the tags that replace those that a snapshot was stored with."""
    return {row.snapshot: row.tags for row in marks if row.tags is not None}


def mark(state: "State", op: MarkSnapshots) -> "State":
    rows = {row.snapshot: row for row in state.marks}
    for new in op.marks:
        name = new.snapshot.hex()[:8]
        if new.snapshot not in state.snapshots:
            raise Refused("no-such-snapshot", f"there is no snapshot {name} (any more)")
        _check(new)
        before = rows.pop(new.snapshot, None)
        if before is not None and before.sequence > op.judged:
            raise Refused("marked-since", f"snapshot {name} was marked after change {op.judged}")
        rows[new.snapshot] = msgspec.structs.replace(new, sequence=state.sequence)
    if len(rows) > max(MARKS_LIMIT, len(state.marks)):
        raise Refused("bad-mark", f"no more than {MARKS_LIMIT:,} snapshots can be held or tagged afterwards")
    return _with(state, tuple(rows.values()))


def _check(new: Mark) -> None:
    words = (new.reason, *(new.tags or ()))
    if len(words) > TAGS_LIMIT + 1 or any(len(word) > WORD_CHARACTERS for word in words):
        limit = f"{TAGS_LIMIT} tags, and {WORD_CHARACTERS} characters in each and in the reason"
        raise Refused("bad-mark", f"a snapshot can have {limit}")


def without_forgotten(state: "State", op: ForgetSnapshots) -> "State":
    """Return the state without the marks of forgotten snapshots. `Refused` if one was marked after it was judged."""
    if not state.marks:
        return state
    gone = set(op.snapshots)
    for row in state.marks:
        if row.snapshot in gone and row.sequence > op.judged:
            raise Refused("forgotten-since", f"snapshot {row.snapshot.hex()[:8]} was marked after change {op.judged}")
    return _with(state, tuple(row for row in state.marks if row.snapshot not in gone))


def _with(state: "State", marks: tuple[Mark, ...]) -> "State":
    return msgspec.structs.replace(state, marks=marks, snapshots=state.snapshots.tagged(tags_of(marks)))
