"""The changes of a manifest, as data.

Each op is a MessagePack array that begins with its kind. A change wraps an op with its author and time. Op ids are
(session, counter). The op is stored as raw bytes inside a change: the digest covers the bytes as written, regardless of
how much of them this version understands, so fields and kinds can be added later.

Invariants
    An op of a kind unknown to this program is never skipped, since the state after it would be a guess.
"""

from collections.abc import Iterator
from typing import TypeAlias

import msgspec

from drtool.errors import FormatError
from drtool.manifest.records import (
    Config,
    Coverage,
    Damage,
    Evidence,
    HostCount,
    KeyTable,
    Mark,
    ObjectList,
    Policy,
    RecordedRun,
    SegmentRef,
    SessionKind,
    Snapshot,
    Target,
)
from drtool.model import RepositoryId, SegmentId, SessionId, SiteName, SnapshotId, TargetName, counted


def _kebab(name: str) -> str:
    return "".join(f"-{c.lower()}" if c.isupper() and i else c.lower() for i, c in enumerate(name))


class _Op(msgspec.Struct, frozen=True, array_like=True, tag=_kebab):
    """The base of every op. The tag is the kind that `manifest log` shows."""


class Found(_Op, frozen=True):
    """The first change of a manifest."""

    repository: RepositoryId
    label: str
    policy: Policy
    targets: tuple[Target, ...]
    ring_epoch: int
    config: Config
    keys: KeyTable = KeyTable()


class OpenSession(_Op, frozen=True):
    """The start of a session. `Manifest.commit` draws an empty `session` and fills in `based_on`.

    `expires` names sessions of the same host whose processes the caller has proven dead.
    """

    kind: SessionKind
    host_id: str
    host: str
    boot_id: str = ""
    pid_namespace: str = ""
    pid: int = 0
    start_time: int = 0
    source: str = ""
    expires: tuple[SessionId, ...] = ()
    session: SessionId = SessionId(b"")
    based_on: int = -1


class CheckpointSession(_Op, frozen=True):
    """The segments that a session has made known so far. It also renews the session."""

    session: SessionId
    segments: tuple[SegmentRef, ...] = ()


class CloseSession(_Op, frozen=True):
    session: SessionId


class ExpireSession(_Op, frozen=True):
    """The end of another writer's session."""

    expired: SessionId
    session: SessionId = SessionId(b"")


class AddSnapshot(_Op, frozen=True):
    """The end of a backup: a snapshot, the segments that it adds, and those that they replace. It closes its session.

    `removal`: prune must have removed nothing after this change, or -1 if the session itself ensures that.
    """

    session: SessionId
    snapshot: Snapshot
    segments: tuple[SegmentRef, ...] = ()
    replaces: tuple[SegmentId, ...] = ()
    removal: int = -1


class ForgetSnapshots(_Op, frozen=True):
    """Snapshots to forget.

    `there`: the snapshot counts of the hosts concerned at change `judged`, which must still hold.
    """

    snapshots: tuple[SnapshotId, ...]
    session: SessionId = SessionId(b"")
    judged: int = -1
    there: tuple[HostCount, ...] = ()


class MarkSnapshots(_Op, frozen=True):
    """Tags and holds of snapshots, based on the marks as of change `judged`."""

    marks: tuple[Mark, ...]
    judged: int = -1
    session: SessionId = SessionId(b"")


class SetRing(_Op, frozen=True):
    """All targets, at the ring epoch after the present one."""

    epoch: int
    targets: tuple[Target, ...]
    session: SessionId = SessionId(b"")


class SetPolicy(_Op, frozen=True):
    policy: Policy
    session: SessionId = SessionId(b"")


class ReplaceIndex(_Op, frozen=True):
    """Merged or rebuilt index segments in place of others."""

    segments: tuple[SegmentRef, ...]
    replaces: tuple[SegmentId, ...]
    session: SessionId = SessionId(b"")


class Record(_Op, frozen=True):
    """The coverage of verification, the evidence of drills, and the copies that were found damaged.

    `sound`: copies that were read after change `judged` and are whole, or are gone.
    """

    coverage: tuple[Coverage, ...] = ()
    evidence: tuple[Evidence, ...] = ()
    session: SessionId = SessionId(b"")
    damaged: tuple[Damage, ...] = ()
    sound: tuple[Damage, ...] = ()
    judged: int = -1


class RecordRun(_Op, frozen=True):
    """A finished run of a plan. A later record with the same id replaces it."""

    run: RecordedRun
    session: SessionId = SessionId(b"")


class SetVoters(_Op, frozen=True):
    """The configuration after the present one. The head that holds this change is the last of its own configuration."""

    config: Config
    session: SessionId = SessionId(b"")


class Recover(_Op, frozen=True):
    """The first change of a new generation: a person named the surviving sites, and gave up the rest."""

    config: Config
    sites: tuple[SiteName, ...]
    session: SessionId = SessionId(b"")


class SetKeys(_Op, frozen=True):
    """All key slots, at the epoch after the present one."""

    keys: KeyTable
    session: SessionId = SessionId(b"")


class Compact(_Op, frozen=True):
    """A change of nothing but the head, so that objects stored for heads that lost against it are garbage."""

    session: SessionId = SessionId(b"")


class Condemn(_Op, frozen=True):
    """Objects that nothing up to change `marked` references. They count as absent from now on."""

    objects: ObjectList
    marked: int
    session: SessionId = SessionId(b"")


class Withdraw(_Op, frozen=True):
    """The objects condemned at change `condemned` count again."""

    condemned: int
    session: SessionId = SessionId(b"")


class Remove(_Op, frozen=True):
    """The final removal of `objects` from `targets`.

    `objects` are those condemned at change `condemned` that are still unreferenced in all snapshots up to `marked`.
    `segments` replace those that named them, and the `dropped` forgotten snapshots are gone.
    """

    condemned: int
    objects: ObjectList
    marked: int
    targets: tuple[TargetName, ...]
    segments: tuple[SegmentRef, ...] = ()
    replaces: tuple[SegmentId, ...] = ()
    dropped: tuple[SnapshotId, ...] = ()
    session: SessionId = SessionId(b"")


class Removed(_Op, frozen=True):
    """None of the objects of the removal that began at change `removal` is left at `targets`."""

    removal: int
    targets: tuple[TargetName, ...]
    session: SessionId = SessionId(b"")


SessionOp: TypeAlias = CheckpointSession | CloseSession | AddSnapshot
PruneOp: TypeAlias = Condemn | Withdraw | Remove | Removed
AdminOp: TypeAlias = (
    ExpireSession
    | ForgetSnapshots
    | MarkSnapshots
    | SetRing
    | SetPolicy
    | ReplaceIndex
    | Record
    | RecordRun
    | SetVoters
    | Recover
    | Compact
    | SetKeys
    | PruneOp
)
Op: TypeAlias = Found | OpenSession | SessionOp | AdminOp

_encoder = msgspec.msgpack.Encoder()
_op_decoder: msgspec.msgpack.Decoder[Op] = msgspec.msgpack.Decoder(Op)


class Change(msgspec.Struct, frozen=True, array_like=True):
    """One op with its id, its author and the author's clock."""

    session: SessionId
    counter: int
    time_ns: int
    host: str
    raw_op: msgspec.Raw

    @property
    def op(self) -> Op:
        """Return the op. `FormatError` if a newer program wrote a kind that this one does not have."""
        return decode_op(bytes(self.raw_op))


def decode_op(raw: bytes) -> Op:
    """Return the op in `raw`. `FormatError` unless this program understands all of it."""
    try:
        return _op_decoder.decode(raw)
    except msgspec.MsgspecError as error:
        raise FormatError(
            f"the manifest holds a change that this version does not understand: {error}",
            hint="upgrade drtool on this host",
        ) from error


def make_change(op: Op, session: SessionId, counter: int, time_ns: int, host: str) -> Change:
    """Return `op` as change number `counter` of `session`."""
    return Change(session, counter, time_ns, host, msgspec.Raw(_encoder.encode(op)))


def encode_change(change: Change) -> bytes:
    """Return the bytes that the digest covers."""
    return _encoder.encode(change)


def kind_of(op: Op) -> str:
    """Return the kind of an op, such as `add-snapshot` for an `AddSnapshot`."""
    return str(op.__struct_config__.tag)


def summary_of(op: Op) -> str:
    """Return a few words for `manifest log`."""
    match op:
        case AddSnapshot(snapshot=snapshot):
            return f"{snapshot.id[:4].hex()} of {snapshot.source or 'paths'} on {snapshot.host}"
        case OpenSession():
            return " ".join(word for word in (op.kind, op.source, "on", op.host) if word)
        case ExpireSession(expired=session) | CheckpointSession(session=session) | CloseSession(session=session):
            return session[:4].hex()
        case Found():
            return op.label
        case _:
            return _admin_summary(op)


def _admin_summary(op: AdminOp) -> str:
    match op:
        case ForgetSnapshots() | MarkSnapshots():
            ids = op.snapshots if isinstance(op, ForgetSnapshots) else tuple(row.snapshot for row in op.marks)
            return f"{counted(len(ids), 'snapshot')}: {', '.join(_few(ids))}"
        case SetRing():
            return f"epoch {op.epoch}, {counted(len(op.targets), 'target')}"
        case SetVoters(config=config):
            return f"configuration {config.number}: {', '.join(voter.site for voter in config.voters)}"
        case Recover(config=config):
            return f"generation {config.generation} from {', '.join(op.sites)}"
        case Record() | RecordRun():
            return _evidence_summary(op)
        case ReplaceIndex():
            return f"{counted(len(op.replaces), 'segment')} by {len(op.segments)}"
        case Condemn() | Withdraw() | Remove() | Removed():
            return _prune_summary(op)
        case SetKeys():
            return f"{len(op.keys.slots)} slots, key generation {op.keys.generation}"
        case SetPolicy():
            return f"copies {op.policy.copies}, minimum {op.policy.minimum}"
        case _:
            return ""


def _evidence_summary(op: Record | RecordRun) -> str:
    match op:
        case Record():
            covered = [f"{row.site} {row.level} round {row.round}" for row in op.coverage[:4]]
            found = [f"damage at {row.target}" for row in op.damaged[:4]]
            return ", ".join([*covered, *found, *(f"whole again at {row.target}" for row in op.sound[:4])])
        case RecordRun(run=run):
            return f"{run.plan} {run.id} on {run.host}: {run.verdict}"


def _prune_summary(op: PruneOp) -> str:
    match op:
        case Condemn(objects=objects) | Remove(objects=objects):
            return f"{counted(objects.count, 'object')}, {objects.bytes} bytes"
        case Removed():
            return f"of change {op.removal} from {', '.join(op.targets)}"
        case Withdraw():
            return f"of change {op.condemned}"


def _few(ids: tuple[bytes, ...]) -> Iterator[str]:
    yield from (id_[:4].hex() for id_ in ids[:4])
    if len(ids) > 4:
        yield "…"
