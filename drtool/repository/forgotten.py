"""The snapshots that this state directory has forgotten, in a file, since a host's label is only its own claim.

Invariants
    A note is made after the change is chosen. Without a note (of a killed run), another host counts as the one that
    forgot the snapshot, so prune waits longer.
    A snapshot counts together with the change that forgot it. One that came back and was forgotten by another host is
    not ours.
"""

from collections.abc import Iterable
from typing import TYPE_CHECKING, TypeAlias

import msgspec

from drtool.manifest.ops import ForgetSnapshots
from drtool.manifest.records import Forgotten
from drtool.repository.cache import write_atomically

if TYPE_CHECKING:
    from drtool.manifest.facade import View
    from drtool.repository.repository import Repository

NOTES = "forgotten-here"

Own: TypeAlias = frozenset[tuple[bytes, int]]
"""Snapshots and the changes that forgot them."""


def forget_here(repository: "Repository", op: ForgetSnapshots) -> "View":
    """Commit `op` and note that this host did it. `Rejected` if the snapshots changed since they were judged."""
    view = repository.manifest.commit(op).view
    mine = own(repository) | {key_of(row) for row in view.state.forgotten if row.snapshot.id in op.snapshots}
    kept = sorted(mine & {key_of(row) for row in view.state.forgotten})
    write_atomically(repository.state_dir / NOTES, msgspec.msgpack.encode(kept))
    return view


def own(repository: "Repository") -> Own:
    """Return what this state directory has forgotten."""
    try:
        return frozenset(
            msgspec.msgpack.decode((repository.state_dir / NOTES).read_bytes(), type=list[tuple[bytes, int]])
        )
    except (OSError, msgspec.MsgspecError):
        return frozenset()


def key_of(row: Forgotten) -> tuple[bytes, int]:
    return bytes(row.snapshot.id), row.sequence


def others(rows: Iterable[Forgotten], mine: Own) -> list[Forgotten]:
    """Return the rows that other hosts have forgotten."""
    return [row for row in rows if key_of(row) not in mine]
