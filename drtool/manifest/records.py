"""The rows that the manifest's state consists of. Each is frozen, and stored as a short MessagePack array.

Invariants
    Fields are only ever added, at the end and with a default, so older rows stay readable.
    Times are nanoseconds since 1970 by the writer's clock. They are shown to people and decide nothing.
"""

from collections.abc import Mapping
from typing import Literal

import msgspec

from drtool.model import RepositoryId, SegmentId, SessionId, SiteName, SnapshotId, TargetName

SessionKind = Literal["backup", "admin", "prune", "mover"]
TargetState = Literal["active", "draining", "lost"]
Ending = Literal["closed", "expired"]
Mode = Literal["chain", "cas"]


class Row(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The base of every row."""


class Target(Row, frozen=True):
    """A place for objects, as every host sees it, without secrets. `host`: the owner of a `file://` directory.

    `votes_only`: an arbiter's place, which holds a register and never a pack. `id`: the `target_id` of its marker if it
    replaced an earlier target of the same name, so that it is never mistaken for that one.
    """

    name: TargetName
    weight: int
    state: TargetState
    url: str
    host: str = ""
    votes_only: bool = False
    id: str = ""
    keys: bool = True


class Voter(Row, frozen=True):
    """A site with an acceptor: the target of its register, the register's incarnation, and its update mode."""

    site: SiteName
    target: TargetName
    incarnation: bytes
    mode: Mode = "chain"

    def suits(self, medium: Mode) -> bool:
        """Return whether the medium supports the update mode: all can put if absent, and some can compare and swap."""
        return self.mode == "chain" or medium == "cas"


class Config(Row, frozen=True):
    """One set of acceptors: generation of forced recoveries, number within it, members, and quorum.

    `recovery`: 16 random bytes that distinguish two recoveries to one generation, empty in generation 1.
    `liars`: any two quorums share more than this many voters. It is kept when the voters change.
    """

    generation: int
    number: int
    voters: tuple[Voter, ...]
    quorum: int
    recovery: bytes = b""
    liars: int = 0

    @property
    def place(self) -> tuple[int, int]:
        """Return the order of configurations: the later one is greater."""
        return self.generation, self.number

    def voter(self, site: SiteName) -> Voter:
        """Return the voter at `site`. KeyError if the site does not vote."""
        for voter in self.voters:
            if voter.site == site:
                return voter
        raise KeyError(site)


class Policy(Row, frozen=True):
    """Settings of the whole repository, chosen at `init`."""

    copies: int
    minimum: int = 1
    timezone: str = "UTC"
    chunk_average_bytes: int = 512 * 1024
    hides_sizes: bool = False
    """Whether writers chunk with a key and pad packs. Absent in repositories of early versions."""


class SegmentRef(Row, frozen=True):
    """A live index segment.

    `targets`: those that held it when it was written (a hint, empty in rows of early versions).
    """

    id: SegmentId
    size_bytes: int
    rows: int
    packs: int
    targets: tuple[TargetName, ...] = ()


class Counts(Row, frozen=True):
    """What a backup found and stored. Sizes are in bytes."""

    files: int = 0
    dirs: int = 0
    bytes: int = 0
    added_bytes: int = 0
    stored_bytes: int = 0
    errors: int = 0


class Snapshot(Row, frozen=True):
    """One point in time of one source. `sequence` is the manifest's, set when the change is applied."""

    id: SnapshotId
    session: SessionId
    source: str
    host: str
    user: str
    time_ns: int
    started_ns: int
    paths: tuple[bytes, ...]
    tags: tuple[str, ...]
    root: bytes
    parent: SnapshotId | None
    counts: Counts
    program: str
    sequence: int = 0
    hidden: tuple[str, ...] | None = None
    """What the backup could not see: `trusted` attributes, `flags`, or the attributes and flags of `unreadable` directories
    on the way. None: not recorded."""


class Mark(Row, frozen=True):
    """A mark set on a snapshot later. `tags` replace its own, unless None. `until_ns`: 0 for no end.

    A held snapshot is not forgotten. `sequence`: the change that made this mark.
    """

    snapshot: SnapshotId
    tags: tuple[str, ...] | None = None
    held: bool = False
    reason: str = ""
    until_ns: int = 0
    time_ns: int = 0
    host: str = ""
    sequence: int = 0

    def holds(self, now_ns: int) -> bool:
        return self.held and (not self.until_ns or now_ns < self.until_ns)


class HostCount(Row, frozen=True):
    """The number of a host's snapshots."""

    host: str
    count: int


class Forgotten(Row, frozen=True):
    """A snapshot that is no longer listed, and whose objects prune may remove after the grace."""

    snapshot: Snapshot
    sequence: int
    time_ns: int
    host: str


class Session(Row, frozen=True):
    """One writer at work on one source, with the data to check whether its process is alive."""

    id: SessionId
    kind: SessionKind
    host_id: str
    host: str
    boot_id: str
    pid_namespace: str
    pid: int
    start_time: int
    source: str
    opened: int
    renewed: int
    counter: int
    time_ns: int


class ClosedSession(Row, frozen=True):
    """An ended session, kept for a while so that a writer that lost its answer still gets it."""

    id: SessionId
    sequence: int
    counter: int
    ending: Ending


class Coverage(Row, frozen=True):
    """The progress of verification of one site at one level in its present round."""

    site: SiteName
    level: str
    round: int
    position: int
    sequence: int
    time_ns: int
    unsound: bool = False
    """Whether any run found damaged or missing objects at that site in this round. Then finishing it proves nothing."""


class Damage(Row, frozen=True):
    """Copies at one target that a read found damaged, as recorded by change `sequence`.

    `objects`: the kind (`p` for a pack, `i` for an index segment) and hash of each, 33 bytes, joined and sorted.
    `more`: others were found as well and are not listed, so no copy at this target counts until all of it was read.
    `catalogue`: the names of damaged objects of the catalogue itself (pages, registers, key slots, the marker), sorted.
    """

    target: TargetName
    objects: bytes = b""
    more: bool = False
    sequence: int = 0
    catalogue: tuple[str, ...] = ()


class Evidence(Row, frozen=True):
    """The newest proof of one kind for one source: a restore that worked, a drill that passed."""

    source: str
    kind: str
    snapshot: SnapshotId
    time_ns: int
    detail: str = ""


class RunObjective(Row, frozen=True):
    """One objective in a run of a plan: `rto`, `rpo`, `wrt` or `detection`. None: no target, or not measured."""

    name: str
    target_s: float | None
    measured_s: float | None


class RecordedRun(Row, frozen=True):
    """A finished run of a plan, as evidence that outlives its host. `digest`: of its journal's last line.

    `must_pass_every_s`: how often the plan had to pass, as of the run.
    """

    id: str
    plan: str
    plan_digest: str
    host: str
    user: str
    began_ns: int
    ended_ns: int
    verdict: str
    exit_code: int
    digest: str
    objectives: tuple[RunObjective, ...] = ()
    human_s: float = 0.0
    must_pass_every_s: float | None = None


class Recovery(Row, frozen=True):
    """One forced recovery: the generation that it began, and the last change that it found."""

    generation: int
    id: bytes
    base: int
    time_ns: int
    host: str
    sites: tuple[SiteName, ...]


class SlotRow(Row, frozen=True):
    """A key slot that opens the repository: `keys/<id>`.

    `hash`: BLAKE3 of its bytes. `generation`: the newest key in it.
    """

    id: bytes
    label: str
    generation: int
    hash: bytes
    time_ns: int
    host: str


class KeyTable(Row, frozen=True):
    """The table of key slots. `generation` is the key that new objects are sealed under.

    `epoch` counts the changes, and is 0 if slots were never recorded, as in repositories of early versions. `drawn`:
    the highest generation for which a key was ever drawn, so that no number stands for two keys. `removed`: the last
    removed slots, so that they are also deleted at a target that was away.
    """

    epoch: int = 0
    generation: int = 1
    drawn: int = 1
    slots: tuple[SlotRow, ...] = ()
    removed: tuple[bytes, ...] = ()


class ObjectList(Row, frozen=True):
    """Names of stored objects, in a manifest object of their own: their count and their total bytes."""

    name: bytes
    size_bytes: int
    count: int
    bytes: int


class Condemned(Row, frozen=True):
    """Objects that count as absent for every session that opens after `sequence`. Unreferenced up to change `marked`."""

    objects: ObjectList
    marked: int
    sequence: int


class Removal(Row, frozen=True):
    """Objects that are being deleted for good, and the targets that have not acknowledged it."""

    objects: ObjectList
    pending: tuple[TargetName, ...]
    sequence: int


class Successor(Row, frozen=True):
    """The content of an ended configuration's `z-sealed`: which one ended, which follows, and where its registers are.

    `recovery`: of the ended one, or None in seals of early versions, which did not record it.
    """

    generation: int
    number: int
    config: Config
    targets: tuple[Target, ...]
    recovery: bytes | None = None


class Founding(msgspec.Struct, frozen=True, kw_only=True):
    """The initial settings of a repository."""

    repository: RepositoryId
    label: str
    policy: Policy
    targets: tuple[Target, ...]
    voters: tuple[tuple[SiteName, TargetName], ...]
    ring_epoch: int = 1
    modes: Mapping[SiteName, Mode] = {}
    """The update modes of the voters' registers. The default is `chain`."""
    keys: KeyTable = KeyTable()
    liars: int = 0
