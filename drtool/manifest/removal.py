"""The removal of unreferenced objects, as transitions of the state: condemn, then withdraw or remove, then removed.
Pure.

Condemned objects count as absent for every session that opens from then on. When no earlier session is open, the
objects that newer snapshots reference are taken out, and the rest is removed: the index no longer names them, every
target deletes them, and each target that acknowledged it is crossed off.

Invariants
    Removal is final: no transition takes an object back, and its name is never written again.
    Nothing is removed while a session that opened before the condemnation is open, nor if a snapshot was added after
    the sequence up to which the remover looked.
    One prune session is open at a time, and only its changes do any of this.
"""

from typing import TYPE_CHECKING

import msgspec

from drtool.manifest.ops import Change, Condemn, Remove, Removed, Withdraw
from drtool.manifest.records import Condemned, Removal
from drtool.manifest.rejection import Refused

if TYPE_CHECKING:
    from drtool.manifest.state import State


def demand_prune_session(state: "State", change: Change) -> None:
    """Raise `Refused` unless the change belongs to an open prune session."""
    row = state.session(change.session)
    if row is None or row.kind != "prune":
        raise Refused("wrong-session", "only a prune session condemns and removes")


def condemn(state: "State", op: Condemn) -> "State":
    if state.condemned is not None:
        raise Refused("condemned-already", f"objects were condemned at change {state.condemned.sequence} already")
    row = Condemned(op.objects, op.marked, state.sequence)
    return msgspec.structs.replace(state, condemned=row)


def withdraw(state: "State", op: Withdraw) -> "State":
    """Return the state in which the condemned objects count again."""
    if state.condemned is None or state.condemned.sequence != op.condemned:
        raise Refused("not-condemned", "the objects to take back are not condemned (any more)")
    return msgspec.structs.replace(state, condemned=None)


def remove(state: "State", op: Remove) -> "State":
    condemned = state.condemned
    if condemned is None or condemned.sequence != op.condemned:
        raise Refused("not-condemned", "the objects to remove are not condemned (any more)")
    older = [row for row in state.sessions if row.kind == "backup" and row.opened < condemned.sequence]
    if older:
        raise Refused("sessions-open", f"{len(older)} sessions from before change {condemned.sequence} are at work")
    if any(state.snapshots.since(op.marked)):
        raise Refused("changed-since", f"snapshots were added after change {op.marked}")
    forgotten = tuple(row for row in state.forgotten if row.snapshot.id not in set(op.dropped))
    removing = state.removing
    if op.objects.count:
        removing = (*removing, Removal(op.objects, op.targets, state.sequence))
    return msgspec.structs.replace(
        state, condemned=None, removing=removing, forgotten=forgotten, last_removal=state.sequence
    )


def removed(state: "State", op: Removed) -> "State":
    """Cross off targets that hold nothing of a removal any more. The removal is over when none is left."""
    rows = {row.sequence: row for row in state.removing}
    row = rows.get(op.removal)
    if row is None:
        raise Refused("not-removing", f"nothing is being removed since change {op.removal} (any more)")
    pending = tuple(target for target in row.pending if target not in op.targets)
    rows[op.removal] = msgspec.structs.replace(row, pending=pending)
    return msgspec.structs.replace(state, removing=tuple(row for row in rows.values() if row.pending))
