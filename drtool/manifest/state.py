"""The state machine: the meaning of each change. Pure: a state and a change give a state, or a rejection with its
reason.

Invariants
    The same changes in the same order give the same state on every host, for ever: there is no clock, chance or input.
    A change is applied at most once: its counter must exceed its session's. A session that is not open applies nothing.
    A rejected change leaves no trace. A rejected op may be retried under a new counter.
    A session's id is remembered for `REMEMBERED_CHANGES` after it ended. `open-session` must be based on a head no
    older than that, so that a late duplicate of it can never reopen an ended session.
"""

from collections import Counter
from collections.abc import Iterable, Sequence

import msgspec

from drtool.errors import FormatError
from drtool.manifest import damage, marking, removal
from drtool.manifest.catalogue import Catalogue
from drtool.manifest.ops import (
    AddSnapshot,
    AdminOp,
    Change,
    CheckpointSession,
    CloseSession,
    Compact,
    Condemn,
    ExpireSession,
    ForgetSnapshots,
    Found,
    MarkSnapshots,
    Op,
    OpenSession,
    PruneOp,
    Record,
    RecordRun,
    Recover,
    Remove,
    Removed,
    ReplaceIndex,
    SetKeys,
    SetPolicy,
    SetRing,
    SetVoters,
    Withdraw,
)
from drtool.manifest.records import (
    ClosedSession,
    Condemned,
    Config,
    Coverage,
    Damage,
    Ending,
    Evidence,
    Forgotten,
    KeyTable,
    Mark,
    Policy,
    RecordedRun,
    Recovery,
    Removal,
    Row,
    SegmentRef,
    Session,
    Snapshot,
    Target,
)
from drtool.manifest.rejection import Refused, Rejection
from drtool.manifest.runs import with_run
from drtool.model import RepositoryId, SegmentId, SessionId
from drtool.ring import Ring, RingTarget

REMEMBERED_CHANGES = 1000
EVIDENCE_LIMIT = 256
RECOVERY_BYTES = 16
KEY_SLOTS_MAX = 64
EXCLUSIVE_KINDS = ("prune", "mover")


class Core(Row, frozen=True):
    """Everything except the snapshots: small, and part of every checkpoint."""

    repository: RepositoryId
    label: str
    sequence: int
    config: Config
    policy: Policy
    ring_epoch: int
    targets: tuple[Target, ...]
    sessions: tuple[Session, ...] = ()
    closed: tuple[ClosedSession, ...] = ()
    segments: tuple[SegmentRef, ...] = ()
    coverage: tuple[Coverage, ...] = ()
    evidence: tuple[Evidence, ...] = ()
    forgotten: tuple[Forgotten, ...] = ()
    recoveries: tuple[Recovery, ...] = ()
    keys: KeyTable = KeyTable()
    condemned: Condemned | None = None
    removing: tuple[Removal, ...] = ()
    last_removal: int = 0
    runs: tuple[RecordedRun, ...] = ()
    marks: tuple[Mark, ...] = ()
    damage: tuple[Damage, ...] = ()


class State(Core, frozen=True):
    """The state of the manifest after a number of changes."""

    snapshots: Catalogue = Catalogue()

    @property
    def ring(self) -> Ring:
        """Return the targets for placement. An arbiter's place is left out, since it holds no objects."""
        stores = (row for row in self.targets if not row.votes_only)
        rows = (RingTarget(name=row.name, weight=row.weight, state=row.state) for row in stores)
        return Ring(epoch=self.ring_epoch, copies=self.policy.copies, targets=tuple(rows))

    def session(self, session: SessionId) -> Session | None:
        """Return the session, if it is open."""
        return next((row for row in self.sessions if row.id == session), None)

    def core(self) -> Core:
        return Core(*(getattr(self, field) for field in Core.__struct_fields__))


def begin(change: Change) -> State:
    """Return the state after the first change."""
    op = change.op
    if not isinstance(op, Found):
        raise FormatError(f"a manifest begins with its founding, not with {type(op).__name__}")
    return State(op.repository, op.label, 1, op.config, op.policy, op.ring_epoch, op.targets, keys=op.keys)


def state_of(core: Core, snapshots: Catalogue) -> State:
    """Return a checkpoint's state."""
    return State(
        **{field: getattr(core, field) for field in Core.__struct_fields__},
        snapshots=snapshots.tagged(marking.tags_of(core.marks)),
    )


def applied_at(state: State, session: SessionId, counter: int) -> int | None:
    """Return the sequence at which a change, or a later one of its session, was applied. None if it was not."""
    row = state.session(session)
    if row is not None:
        return row.renewed if row.counter >= counter else None
    ended = next((row for row in state.closed if row.id == session), None)
    return ended.sequence if ended is not None and ended.counter >= counter else None


def apply(state: State, change: Change) -> State | Rejection:
    """Return the state after `change`, or why there is none."""
    op = change.op
    try:
        if isinstance(op, OpenSession):
            return _open(_next(state), change, op)
        _demand_session(state, change, op)
        return _transition(_touched(_next(state), change), change, op)
    except Refused as refused:
        return refused.rejection


def apply_all(state: State, changes: Iterable[Change]) -> State | Rejection:
    """Return the state after all of `changes` in order, or the first rejection."""
    for change in changes:
        after = apply(state, change)
        if isinstance(after, Rejection):
            return after
        state = after
    return state


def _next(state: State) -> State:
    return msgspec.structs.replace(state, sequence=state.sequence + 1)


def _demand_session(state: State, change: Change, op: Op) -> None:
    if getattr(op, "session", change.session) != change.session:
        raise Refused("wrong-session", "the op names another session than the change that carries it")
    row = state.session(change.session)
    if row is None:
        raise Refused("session-not-open", f"session {change.session.hex()[:8]} is not open (any more)")
    if change.counter <= row.counter:
        raise Refused("duplicate", f"session {change.session.hex()[:8]} is past change {change.counter}")


def _touched(state: State, change: Change) -> State:
    """Return the state with the change's session renewed."""
    rows = tuple(
        msgspec.structs.replace(row, renewed=state.sequence, counter=change.counter, time_ns=change.time_ns)
        if row.id == change.session
        else row
        for row in state.sessions
    )
    return msgspec.structs.replace(state, sessions=rows)


def _transition(state: State, change: Change, op: Op) -> State:
    match op:
        case AddSnapshot():
            return _add_snapshot(state, change, op)
        case CheckpointSession():
            return _with_segments(state, op.segments, ())
        case CloseSession():
            return _ended(state, change.session, "closed")
        case ExpireSession():
            return _ended(state, op.expired, "expired")
        case ForgetSnapshots():
            return _forget(state, change, op)
        case MarkSnapshots():
            return marking.mark(state, op)
        case Found() | OpenSession():
            raise Refused("founded", "the manifest is founded already")
        case _:
            return _administer(state, change, op)


def _administer(state: State, change: Change, op: AdminOp) -> State:
    match op:
        case SetRing():
            return _set_ring(state, op)
        case SetPolicy():
            return msgspec.structs.replace(state, policy=op.policy)
        case ReplaceIndex():
            return _with_segments(state, op.segments, op.replaces)
        case Record() | RecordRun():
            return (
                _record(state, op)
                if isinstance(op, Record)
                else msgspec.structs.replace(state, runs=with_run(state.runs, op.run))
            )
        case SetVoters():
            return _set_voters(state, op)
        case SetKeys():
            return _set_keys(state, op)
        case Recover():
            return _recover(state, change, op)
        case Compact():
            return _compact(state)
        case Condemn() | Withdraw() | Remove() | Removed():
            removal.demand_prune_session(state, change)
            return _prune(state, op)
        case _:
            raise Refused("unknown-op", f"{type(op).__name__} changes nothing here")


def _prune(state: State, op: PruneOp) -> State:
    match op:
        case Condemn():
            return removal.condemn(state, op)
        case Withdraw():
            return removal.withdraw(state, op)
        case Remove():
            return _with_segments(removal.remove(state, op), op.segments, op.replaces)
        case Removed():
            return removal.removed(state, op)


def _compact(state: State) -> State:
    """Change nothing. Refused during a prune session, which may have stored lists that no head names yet."""
    if any(row.kind == "prune" for row in state.sessions):
        raise Refused("prune-open", "a prune session is at work")
    return state


def _open(state: State, change: Change, op: OpenSession) -> State:
    known = {row.id for row in state.sessions} | {row.id for row in state.closed}
    if op.session != change.session or op.session in known:
        raise Refused("session-exists", f"session {op.session.hex()[:8]} was opened before")
    if not state.sequence - REMEMBERED_CHANGES <= op.based_on < state.sequence:
        raise Refused("stale-open", f"the request to open a session is based on change {op.based_on}, long past")
    for session in op.expires:
        row = state.session(session)
        if row is not None and row.host_id == op.host_id:
            state = _ended(state, session, "expired")
    if op.kind in EXCLUSIVE_KINDS and any(row.kind == op.kind for row in state.sessions):
        raise Refused(f"{op.kind}-open", f"another {op.kind} session is at work")
    return msgspec.structs.replace(state, sessions=(*state.sessions, _session_of(state, change, op)))


def _session_of(state: State, change: Change, op: OpenSession) -> Session:
    at, by = state.sequence, change.time_ns
    place = (op.host_id, op.host, op.boot_id, op.pid_namespace, op.pid, op.start_time)
    return Session(op.session, op.kind, *place, op.source, opened=at, renewed=at, counter=change.counter, time_ns=by)


def _ended(state: State, session: SessionId, ending: Ending) -> State:
    row = state.session(session)
    if row is None:
        raise Refused("session-not-open", f"session {session.hex()[:8]} is not open (any more)")
    closed = (*_remembered(state), ClosedSession(session, state.sequence, row.counter, ending))
    rest = tuple(other for other in state.sessions if other.id != session)
    return msgspec.structs.replace(state, sessions=rest, closed=closed)


def _remembered(state: State) -> Sequence[ClosedSession]:
    horizon = state.sequence - REMEMBERED_CHANGES
    first = next((i for i, row in enumerate(state.closed) if row.sequence >= horizon), len(state.closed))
    return state.closed[first:]


def _add_snapshot(state: State, change: Change, op: AddSnapshot) -> State:
    if op.snapshot.session != change.session:
        raise Refused("wrong-session", "the snapshot names another session than the change that adds it")
    if op.snapshot.id in state.snapshots:
        raise Refused("snapshot-exists", f"snapshot {op.snapshot.id.hex()[:8]} is in the catalogue already")
    if 0 <= op.removal < state.last_removal:
        which = f"snapshot {op.snapshot.id.hex()[:8]} of {op.snapshot.source or 'paths'} on {op.snapshot.host}"
        raise Refused("removed-since", f"{which} cannot come back: prune has removed since what it may refer to")
    state = _with_segments(state, op.segments, op.replaces)
    row = msgspec.structs.replace(op.snapshot, sequence=state.sequence)
    state = msgspec.structs.replace(state, snapshots=state.snapshots.with_added(row))
    return _ended(state, change.session, "closed")


def _with_segments(state: State, added: Sequence[SegmentRef], replaced: Sequence[SegmentId]) -> State:
    live = {row.id for row in state.segments}
    gone = set(replaced)
    if not gone <= live:
        raise Refused("segments-changed", "an index segment to be replaced was replaced by somebody else")
    kept = tuple(row for row in state.segments if row.id not in gone)
    new = {row.id: row for row in added if row.id not in live or row.id in gone}
    return msgspec.structs.replace(state, segments=(*kept, *new.values()))


def _forget(state: State, change: Change, op: ForgetSnapshots) -> State:
    rows: list[Snapshot] = []
    for snapshot in dict.fromkeys(op.snapshots):
        row = state.snapshots.get(snapshot)
        if row is None:
            raise Refused("no-such-snapshot", f"there is no snapshot {snapshot.hex()[:8]} (any more)")
        rows.append(row)
    _check_nothing_went(state, op)
    state = marking.without_forgotten(state, op)
    marks = tuple(Forgotten(row, state.sequence, change.time_ns, change.host) for row in rows)
    rest = state.snapshots.without(row.id for row in rows)
    return msgspec.structs.replace(state, snapshots=rest, forgotten=(*state.forgotten, *marks))


def _check_nothing_went(state: State, op: ForgetSnapshots) -> None:
    """Refuse if snapshots were forgotten meanwhile: two concurrent runs must not both drop one for the sake of the
    other.
    """
    left = Counter(row.host for row in state.snapshots if row.sequence <= op.judged) if op.there else Counter()
    for row in op.there:
        if left[row.host] != row.count:
            raise Refused("forgotten-since", f"snapshots of {row.host} were forgotten after change {op.judged}")


def _set_ring(state: State, op: SetRing) -> State:
    if op.epoch != state.ring_epoch + 1:
        raise Refused("ring-changed", f"the ring is at epoch {state.ring_epoch}, so {op.epoch} cannot follow")
    _check_movers(state, op)
    names = [row.name for row in op.targets]
    if len(set(names)) != len(names):
        raise Refused("bad-ring", "two targets have one name")
    registers = {voter.target for voter in state.config.voters} - set(names)
    if registers:
        raise Refused("bad-ring", f"target {min(registers)} holds a voter's register and cannot go")
    found = damage.still_there(state.damage, state.targets, op.targets)
    targets = tuple(sorted(op.targets, key=lambda t: t.name))
    return msgspec.structs.replace(state, ring_epoch=op.epoch, targets=targets, damage=found)


def _check_movers(state: State, op: SetRing) -> None:
    """Refuse to remove a target with copies while a mover removes copies, since it relies on those that it has read.

    Any other change is harmless: movers take turns, so a copy that the new ring places elsewhere is only misplaced.
    """
    stay = {row.name for row in op.targets if row.state != "lost"}
    going = sorted(row.name for row in state.targets if not (row.votes_only or row.state == "lost" or row.name in stay))
    mover = next((row for row in state.sessions if row.kind == "mover"), None)
    if going and mover is not None:
        what = f"session {mover.id.hex()[:8]} of {mover.host} (process {mover.pid}) takes copies away"
        raise Refused("mover-open", f"{going[0]} cannot go while {what}")


def _set_voters(state: State, op: SetVoters) -> State:
    now, new = state.config, op.config
    if (new.generation, new.recovery, new.number) != (now.generation, now.recovery, now.number + 1):
        raise Refused("voters-changed", f"configuration {new.number} cannot follow configuration {now.number}")
    _check_voters(new)
    unknown = {voter.target for voter in new.voters} - {row.name for row in state.targets}
    if unknown:
        raise Refused("bad-voters", f"no target {min(unknown)} is known that could hold a register")
    return msgspec.structs.replace(state, config=new)


def _set_keys(state: State, op: SetKeys) -> State:
    now, new = state.keys, op.keys
    if new.epoch != now.epoch + 1:
        raise Refused("keys-changed", f"the key slots are at epoch {now.epoch}, so {new.epoch} cannot follow")
    if not now.generation <= new.generation <= new.drawn or new.drawn < now.drawn:
        raise Refused("bad-keys", f"key generation {new.generation} cannot follow {now.generation}")
    if not new.slots:
        raise Refused("bad-keys", "the repository could not be opened without a key slot")
    if len(new.slots) > KEY_SLOTS_MAX or len({row.id for row in new.slots}) < len(new.slots):
        raise Refused("bad-keys", f"there can be {KEY_SLOTS_MAX} key slots, each with an id of its own")
    if any(row.generation < new.generation for row in new.slots):
        raise Refused("bad-keys", f"a key slot would not open what is sealed under generation {new.generation}")
    return msgspec.structs.replace(state, keys=new)


def _recover(state: State, change: Change, op: Recover) -> State:
    new = op.config
    if new.generation <= state.config.generation or new.number != 1 or len(new.recovery) != RECOVERY_BYTES:
        raise Refused("voters-changed", f"generation {new.generation} cannot follow {state.config.generation}")
    _check_voters(new)
    base = state.sequence - 2  # its session was opened in between
    row = Recovery(new.generation, new.recovery, base, change.time_ns, change.host, op.sites)
    return msgspec.structs.replace(state, config=new, recoveries=(*state.recoveries, row))


def _check_voters(config: Config) -> None:
    """Check that any two quorums intersect."""
    count = len(config.voters)
    if not count or len({voter.site for voter in config.voters}) < count:
        raise Refused("bad-voters", "a configuration needs voters, and one of each site")
    if not count < 2 * config.quorum <= 2 * count:
        raise Refused("bad-voters", f"{config.quorum} of {count} voters are no quorum")


def _record(state: State, op: Record | RecordRun) -> State:
    if isinstance(op, RecordRun):
        return msgspec.structs.replace(state, runs=with_run(state.runs, op.run))
    coverage = {(row.site, row.level): row for row in state.coverage}
    for row in op.coverage:
        before = coverage.get((row.site, row.level))
        stays = before is not None and before.round == row.round and before.unsound
        coverage[row.site, row.level] = msgspec.structs.replace(row, unsound=True) if stays else row
    evidence = {(row.source, row.kind): row for row in (*state.evidence, *op.evidence)}
    return msgspec.structs.replace(
        state,
        coverage=tuple(coverage.values()),
        evidence=tuple(evidence.values())[-EVIDENCE_LIMIT:],
        damage=damage.recorded(state.damage, op.damaged, op.sound, op.judged, state.sequence),
    )
