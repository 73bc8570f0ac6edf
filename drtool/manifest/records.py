"""What the manifest's state is made of: rows, each frozen, each a short MessagePack array on a site.

Invariants
    Fields are only ever added, at the end and with a default: older rows stay readable.
    Times are nanoseconds since 1970 by the writer's clock; they are told to people and decide nothing.
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
    """A place for objects, as every host sees it: without secrets; `host` says whose directory a `file://` URL is.

    `votes_only`: an arbiter's place; it holds a register and never a pack. `id`: the `target_id` of its marker, if it took
    the place of an earlier target of the same name; that one is never mistaken for it.
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
    """A site with an acceptor, the target that holds its register, which life of the register this is, how it moves on."""

    site: SiteName
    target: TargetName
    incarnation: bytes
    mode: Mode = "chain"

    def suits(self, medium: Mode) -> bool:
        """Whether the register moves on at such a medium: all of them can put if absent, and some can compare and swap."""
        return self.mode == "chain" or medium == "cas"


class Config(Row, frozen=True):
    """One set of acceptors: generation after forced recoveries, number within it, members, how many are a quorum.

    `recovery`: 16 random bytes that tell two recoveries to one generation apart; empty in generation 1.
    `liars`: of how many voters any two quorums share more than that; kept when the voters change.
    """

    generation: int
    number: int
    voters: tuple[Voter, ...]
    quorum: int
    recovery: bytes = b""
    liars: int = 0

    @property
    def place(self) -> tuple[int, int]:
        """Which of two configurations came later: the greater one."""
        return self.generation, self.number

    def voter(self, site: SiteName) -> Voter:
        """The voter at `site`; KeyError if the site does not vote."""
        for voter in self.voters:
            if voter.site == site:
                return voter
        raise KeyError(site)


class Policy(Row, frozen=True):
    """What holds for the whole repository and is chosen at `init`."""

    copies: int
    minimum: int = 1
    timezone: str = "UTC"
    chunk_average_bytes: int = 512 * 1024
    hides_sizes: bool = False
    """Whether writers cut under a key and pad packs; absent in repositories of early versions."""


class SegmentRef(Row, frozen=True):
    """A live index segment. `targets` held it when it was written: a hint, empty in rows of early versions."""

    id: SegmentId
    size_bytes: int
    rows: int
    packs: int
    targets: tuple[TargetName, ...] = ()


class Counts(Row, frozen=True):
    """What a backup met and stored; sizes in bytes."""

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
    """What the process that took it could not see of files: `trusted` attributes, the attributes and flags of `unreadable`
    directories on the way. None: it is not recorded."""


class Mark(Row, frozen=True):
    """What was said of a snapshot afterwards. `tags`: in place of its own; None: those hold. `until_ns`: 0 for no end.

    A held snapshot is not forgotten. `sequence`: of the change that made this mark.
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
    """How many snapshots a host has."""

    host: str
    count: int


class Forgotten(Row, frozen=True):
    """A snapshot that nobody lists any more, and whose objects prune may take after the grace."""

    snapshot: Snapshot
    sequence: int
    time_ns: int
    host: str


class Session(Row, frozen=True):
    """One writer at work on one source, and where to look whether its process is still alive."""

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
    """Remembered for a while, so that a writer that lost its answer still learns it."""

    id: SessionId
    sequence: int
    counter: int
    ending: Ending


class Coverage(Row, frozen=True):
    """How far verification of one site at one level has come in its present round."""

    site: SiteName
    level: str
    round: int
    position: int
    sequence: int
    time_ns: int
    unsound: bool = False
    """Whether anybody found something damaged or missing at that site in this round: then its end proves nothing."""


class Damage(Row, frozen=True):
    """Copies at one target that a read found damaged, as change `sequence` recorded them.

    `objects`: the kind (`p` for a pack, `i` for an index segment) and the hash of each, 33 bytes, joined and sorted. `more`:
    others were found as well and are not listed, so no copy at this target counts until all of it was read. `catalogue`: the
    names of what was found damaged of the catalogue itself (pages, registers, key slots, the marker), sorted.
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
    """What a run of a plan came to in one respect: `rto`, `rpo`, `wrt` or `detection`. None: not asked for, or not measured."""

    name: str
    target_s: float | None
    measured_s: float | None


class RecordedRun(Row, frozen=True):
    """A run of a plan that is over: evidence that stays when its host burns. `digest`: of its journal's last line.

    `must_pass_every_s`: how often the plan wanted to be proven when it ran.
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
    """A key slot that opens the repository: `keys/<id>`. `hash`: the BLAKE3 of its bytes; `generation`: the newest key in it."""

    id: bytes
    label: str
    generation: int
    hash: bytes
    time_ns: int
    host: str


class KeyTable(Row, frozen=True):
    """Which key slots there are. `generation` is the key that new objects are sealed under.

    `epoch` counts the changes; 0: nobody wrote down any slots, as in repositories of early versions. `drawn`: the highest
    generation that a key was ever drawn for, so that no number ever stands for two. `removed`: the slots that went last,
    so that they go from a target that was away as well.
    """

    epoch: int = 0
    generation: int = 1
    drawn: int = 1
    slots: tuple[SlotRow, ...] = ()
    removed: tuple[bytes, ...] = ()


class ObjectList(Row, frozen=True):
    """Names of stored objects, in a manifest object of their own: how many there are, and their bytes together."""

    name: bytes
    size_bytes: int
    count: int
    bytes: int


class Condemned(Row, frozen=True):
    """Objects that count as absent for every session that opens after `sequence`; unreferenced up to change `marked`."""

    objects: ObjectList
    marked: int
    sequence: int


class Removal(Row, frozen=True):
    """Objects that are being deleted for good, and the targets that have not acknowledged it."""

    objects: ObjectList
    pending: tuple[TargetName, ...]
    sequence: int


class Successor(Row, frozen=True):
    """What an ended configuration's `z-sealed` says: which one ended, which follows, and where its registers are.

    `recovery`: of the one that ended; None in seals of early versions, which did not say it.
    """

    generation: int
    number: int
    config: Config
    targets: tuple[Target, ...]
    recovery: bytes | None = None


class Founding(msgspec.Struct, frozen=True, kw_only=True):
    """What a repository begins with."""

    repository: RepositoryId
    label: str
    policy: Policy
    targets: tuple[Target, ...]
    voters: tuple[tuple[SiteName, TargetName], ...]
    ring_epoch: int = 1
    modes: Mapping[SiteName, Mode] = {}
    """How the registers of the voters move on; `chain` where nothing is said."""
    keys: KeyTable = KeyTable()
    liars: int = 0
