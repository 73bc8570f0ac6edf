"""The world of the prune simulator: the manifest's real state machine, and targets that are sets of pack names.

A pack is a set of numbered chunks and never changes; a segment names packs; a tree is a set of chunks. Commits are atomic:
that they are is what the manifest's own simulator shows.
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from functools import lru_cache
from random import Random
from typing import TypeAlias

import msgspec

from drtool.errors import Rejected
from drtool.manifest.drafting import Author, Drafts
from drtool.manifest.ops import Found, Op, OpenSession, make_change
from drtool.manifest.records import (
    Config,
    Counts,
    ObjectList,
    Policy,
    Removal,
    SegmentRef,
    SessionKind,
    Snapshot,
    Target,
    Voter,
)
from drtool.manifest.rejection import Rejection
from drtool.manifest.state import State, apply_all, begin
from drtool.model import PackId, SegmentId, SessionId, SiteName, SnapshotId, TargetName, site_of
from drtool.operations.prune.silence import Seen
from drtool.ring import Placement, Ring

COPIES = 2
TARGETS = tuple(TargetName(f"{site}/main") for site in "abcd")
HOUR_S = 3600.0
NOBODY = SessionId(b"")
Copy: TypeAlias = tuple[TargetName, PackId]


@dataclass
class Deletion:
    """A request that was sent, and takes effect when it likes. `mover`: the session of the mover that sent it."""

    target: TargetName
    pack: PackId
    mover: SessionId


@dataclass
class Host:
    """A host: its clock's error, its notes on what it saw, sessions of processes of its own that died."""

    name: str
    skew_s: float
    drafts: Drafts
    sessions_seen: dict[str, Seen] = field(default_factory=dict)
    forgotten_seen: dict[str, int] = field(default_factory=dict)
    own: set[tuple[bytes, int]] = field(default_factory=set)
    dead: set[SessionId] = field(default_factory=set)


class World:
    """Everything there is, and what must hold of it."""

    def __init__(self, seed: int, hosts: int = 3) -> None:
        self.rng = Random(seed)
        self.now_s = 1_000_000.0
        self.packs: dict[PackId, frozenset[int]] = {}
        self.trees: dict[bytes, frozenset[int]] = {}
        self.segments: dict[SegmentId, frozenset[PackId]] = {}
        self.lists: dict[bytes, frozenset[PackId]] = {b"": frozenset()}
        self.targets: dict[TargetName, set[PackId]] = {name: set() for name in TARGETS}
        self.offline: set[TargetName] = set()
        self.flying: list[Deletion] = []
        self.rotten: set[Copy] = set()
        self.acknowledged: set[SnapshotId] = set()
        self.violations: list[str] = []
        self.late_share = 0.15  # of the deletions, those whose answer is lost and that take effect later
        self.mutation = ""
        self.condemned_s = 0.0  # by the clock of whoever condemned: only a broken protocol looks at it
        self.opened: dict[SessionId, Host] = {}
        self.hosts = [self._host(f"h{number}") for number in range(hosts)]
        rows = tuple(Target(name, 1, "active", f"file:///{name}") for name in TARGETS)
        voters = tuple(Voter(SiteName(site), TargetName(f"{site}/main"), b"") for site in "abc")
        found = Found(self.draw(16), "model", Policy(COPIES), rows, 1, Config(1, 1, voters, 2))
        self.state = begin(make_change(found, NOBODY, 0, 0, "h0"))

    def _host(self, name: str) -> Host:
        skew_s = self.rng.choice([0.0, 0.0, -50 * HOUR_S, 3 * HOUR_S, 400 * HOUR_S])
        return Host(name, skew_s, self._drafts(name, skew_s))

    def _drafts(self, name: str, skew_s: float) -> Drafts:
        return Drafts(Author(host_id=name, host=name), self.draw, lambda: self.clock_ns(skew_s))

    def draw(self, size: int) -> bytes:
        return self.rng.randbytes(size)

    def clock_ns(self, skew_s: float) -> int:
        """A clock that is wrong by `skew_s`."""
        return int((self.now_s + skew_s) * 1e9)

    # The manifest ------------------------------------------------------------------------------------------------

    def commit(self, host: Host, *ops: Op) -> State:
        """All of `ops` at once, as `Manifest.commit`; `Rejected` with the state machine's reason."""
        after = apply_all(self.state, host.drafts.draft(ops, self.state))
        host.drafts.settle(ops)
        if isinstance(after, Rejection):
            raise Rejected(after.reason, after.message)
        self.state = after
        return after

    def open(self, host: Host, kind: SessionKind) -> SessionId:
        """A session; those of processes that died on this host end with it."""
        session = SessionId(self.draw(16))
        op = OpenSession(kind, host.name, host.name, expires=tuple(sorted(self.dead(host))), session=session)
        self.commit(host, op)
        self.opened[session] = host
        return session

    def dead(self, host: Host) -> set[SessionId]:
        """The sessions whose processes this host can prove to have ended."""
        if self.mutation != "another boot is proof of death":
            return host.dead
        others = {row.id for row in self.state.sessions if row.host_id == host.name and self.opened[row.id] is not host}
        return host.dead | others

    def clone(self, host: Host) -> None:
        """A copy of a machine, with its name and host id and all that it remembers, starts beside it."""
        notes = (dict(host.sessions_seen), dict(host.forgotten_seen), set(host.own))
        self.hosts.append(Host(host.name, host.skew_s, self._drafts(host.name, host.skew_s), *notes))

    def keep_names(self, packs: Collection[PackId]) -> ObjectList:
        """A list, as an object that an op can name."""
        name = self.draw(32) if packs else b""
        self.lists[name] = frozenset(packs)
        return ObjectList(name, 32, len(packs), sum(len(self.packs[pack]) for pack in packs))

    def going(self, state: State) -> frozenset[PackId]:
        """What is condemned or being removed."""
        rows = [*([state.condemned] if state.condemned else []), *state.removing]
        return frozenset().union(*(self.lists[row.objects.name] for row in rows))

    def indexed(self, state: State) -> frozenset[PackId]:
        return frozenset().union(*(self.segments[ref.id] for ref in state.segments))

    # What is stored ----------------------------------------------------------------------------------------------

    def new_pack(self, chunks: Iterable[int]) -> PackId:
        pack = PackId(self.draw(32))
        self.packs[pack] = frozenset(chunks)
        return pack

    def new_segment(self, packs: Iterable[PackId]) -> SegmentRef:
        ref = SegmentRef(SegmentId(self.draw(32)), 100, 10, 1)
        self.segments[ref.id] = frozenset(packs)
        return ref

    def snapshot(self, host: Host, session: SessionId, chunks: frozenset[int]) -> Snapshot:
        root = self.draw(32)
        self.trees[root] = chunks
        now_ns = self.clock_ns(host.skew_s)
        words = {"session": session, "source": "", "host": host.name, "user": "", "paths": (), "tags": ()}
        return Snapshot(
            id=SnapshotId(self.draw(16)),
            **words,
            time_ns=now_ns,
            started_ns=now_ns,
            root=root,
            parent=None,
            counts=Counts(),
            program="",
        )

    def listing(self) -> dict[TargetName, frozenset[PackId]]:
        """What every target that answers has now."""
        return {name: frozenset(packs) for name, packs in self.targets.items() if name not in self.offline}

    def put(self, target: TargetName, pack: PackId) -> bool:
        if target not in self.offline:
            self.targets[target].add(pack)
            self.rotten.discard((target, pack))
        return target not in self.offline

    def whole(self, target: TargetName, pack: PackId) -> bool:
        """Whether a target answers and gives a pack back as it was written."""
        there = target not in self.offline and pack in self.targets[target]
        return there and (target, pack) not in self.rotten

    def good_sites(self, pack: PackId) -> int:
        """On how many sites a pack is whole, whether they answer now or not."""
        return len({site_of(name) for name in self.holders(pack) if (name, pack) not in self.rotten})

    def rot(self, copy: Copy) -> None:
        """A copy rots unnoticed; not the last good one of anything, nor one that was just written or read."""
        if any(row.kind != "backup" for row in self.state.sessions) or copy[1] not in self.indexed(self.state):
            return
        before = self.readable()
        self.rotten.add(copy)
        if self.readable() != before:
            self.rotten.discard(copy)

    def delete(self, target: TargetName, pack: PackId, mover: SessionId = NOBODY) -> bool:
        """Whether it is known to be gone. If not, the request may be on its way still."""
        if target in self.offline:
            return False
        request = Deletion(target, pack, mover)
        if self.rng.random() < self.late_share:
            self.flying.append(request)
            return False
        self.land(request)
        return True

    def land(self, request: Deletion) -> None:
        """A deletion takes effect."""
        copy = request.target, request.pack
        good = request.pack in self.targets[request.target] and copy not in self.rotten
        self.targets[request.target].discard(request.pack)
        self.rotten.discard(copy)
        if request.mover and good and request.pack in self.needed() and self.good_sites(request.pack) < COPIES:
            self.violations.append(f"a mover left {self.good_sites(request.pack)} good copies of a pack that is needed")

    def answer(self, mover: SessionId) -> None:
        """What a mover waits for: its deletions that are on their way take effect."""
        for request in [request for request in self.flying if request.mover == mover]:
            self.flying.remove(request)
            self.land(request)

    def take_back(self, removal: Removal, pack: PackId) -> None:
        """What no protocol may do: a pack that is being removed counts again."""
        self.lists[removal.objects.name] -= {pack}
        segments = (*self.state.segments, self.new_segment([pack]))
        self.state = msgspec.structs.replace(self.state, segments=segments)

    def holders(self, pack: PackId) -> list[TargetName]:
        return [name for name, packs in self.targets.items() if pack in packs]

    # What must hold ----------------------------------------------------------------------------------------------

    def needed(self) -> frozenset[PackId]:
        """Packs that are in use: named by the index, not going, and with a chunk of a snapshot."""
        chunks = frozenset().union(*(self.trees[row.root] for row in self.state.snapshots))
        there = self.indexed(self.state) - self.going(self.state)
        return frozenset(pack for pack in there if self.packs[pack] & chunks)

    def lost(self) -> list[str]:
        """What snapshots have lost: chunks of which no good copy is left that the index names."""
        final = frozenset().union(*(self.lists[row.objects.name] for row in self.state.removing))
        if self.mutation == "taken back after removing":
            final = frozenset()  # it says that nothing is final
        there = self.readable(final)
        missing = [(row, sorted(self.trees[row.root] - there)) for row in self.state.snapshots]
        return [f"snapshot {row.id.hex()[:8]} of {row.host} has lost chunks {lost}" for row, lost in missing if lost]

    def readable(self, final: Collection[PackId] = ()) -> frozenset[int]:
        """The chunks that the index finds in a good copy."""
        usable = [pack for pack in self.indexed(self.state) if pack not in final and self.good_sites(pack)]
        return frozenset().union(*(self.packs[pack] for pack in usable))

    def check(self) -> None:
        """After every step: each chunk of each snapshot lies, indexed and not being removed, on some target."""
        self.violations += self.lost()
        listed = {row.id for row in self.state.snapshots}
        gone = self.acknowledged - listed
        if gone:
            self.violations.append(f"{len(gone)} acknowledged snapshots are not listed, though nobody forgot them")


@lru_cache(maxsize=64)
def placed(ring: Ring) -> Placement:
    """The ring laid out, once; `desired` by pack is what matters, whatever the epoch."""
    return Placement(ring)
