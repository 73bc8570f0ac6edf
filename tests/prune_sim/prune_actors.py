"""Backup, prune, repair and the rest, as steps: what each does, in the order of the real operations.

Every `yield` stands before a step that others see, and names the call by which the real operation takes it
(`test_prune_trace.py` compares). An actor may be paused or end at any of them. A mutation breaks one rule.
"""

from collections.abc import Callable, Generator
from dataclasses import dataclass
from types import SimpleNamespace
from typing import TypeAlias

from msgspec import structs
from prune_world import COPIES, HOUR_S, Host, World, placed

from drtool.errors import Rejected
from drtool.manifest.ops import (
    AddSnapshot,
    CheckpointSession,
    CloseSession,
    Condemn,
    ExpireSession,
    ForgetSnapshots,
    Remove,
    Removed,
    SetRing,
)
from drtool.manifest.records import Removal
from drtool.manifest.state import State
from drtool.model import PackId, SessionId, TargetName, pack_object
from drtool.operations.prune.grace import due, first_seen
from drtool.operations.prune.plan import PackUse, plan
from drtool.operations.prune.request import PruneRequest
from drtool.operations.prune.run import ATTEMPTS, TRY_AGAIN
from drtool.operations.prune.silence import silent
from drtool.repository.expected import Expected
from drtool.repository.forgotten import key_of
from drtool.repository.processes import STILL_S
from drtool.repository.reconciling import Job, job_for
from drtool.repository.session import NOT_OPEN, may_be_gone
from drtool.ring import Ring

Steps: TypeAlias = Generator[str, None, None]
BATCH = 2
CHUNKS_IN_A_PACK = 3
LOOKS_ONCE = ("mover expired by silence", "a clone proves a death and the mover does not look again")
"""Broken protocols in which a mover looks at its session before a batch, and not again when it stood still."""


@dataclass(frozen=True)
class Due:
    """A pack that is in places too many; it may go from `surplus` if all in `desired` have it."""

    pack: PackId
    surplus: tuple[TargetName, ...]
    desired: tuple[TargetName, ...]


class Actor:
    """A process on a host. `session`: the one that it left open, should it die."""

    def __init__(self, world: World, host: Host, work: Callable[["Actor"], Steps]) -> None:
        self.world, self.host = world, host
        self.session = SessionId(b"")
        self.wakes_s = 0.0
        self._steps = work(self)
        self.done = False
        self.next = ""
        self.step()

    def step(self) -> str:
        """Takes one step; the name of the next, empty if that was the last."""
        self.next = next(self._steps, "")
        self.done = not self.next
        return self.next

    def die(self) -> None:
        """As by signal 9: whatever it has begun stays as it is."""
        self._steps.close()
        self.done = True
        if self.session:
            self.host.dead.add(self.session)
            # a mover's deletion ends with its process: the unlink of a directory does. Prune's go on
            self.world.flying = [request for request in self.world.flying if request.mover != self.session]

    def open(self, kind: str) -> State:
        self.session = self.world.open(self.host, kind)
        return self.world.state

    def close(self) -> None:
        try:
            self.world.commit(self.host, CloseSession(self.session))
        except Rejected as error:
            if error.reason != NOT_OPEN:
                raise
        self.session = SessionId(b"")


# A backup --------------------------------------------------------------------------------------------------------


def backup(wanted: frozenset[int]) -> Callable[[Actor], Steps]:
    """Stores chunks, reusing what is there, and commits a snapshot of them; begins again when it was overtaken."""

    def work(actor: Actor) -> Steps:
        for _ in range(3):
            if not (yield from _Backup(actor, wanted).go()):
                return

    return work


class _Backup:
    def __init__(self, actor: Actor, wanted: frozenset[int]) -> None:
        self.actor, self.world, self.wanted = actor, actor.world, wanted
        self.pending: list[PackId] = []

    def go(self) -> Generator[str, None, bool]:
        """Whether it has to begin again."""
        world, early = self.world, None
        if world.mutation == "session opened after listing":
            view = world.state
            yield "list"
            early = self.look(view)
        yield "commit open-session"
        self.view = self.actor.open("backup")
        if early is None:
            yield "list"
            early = self.look(self.view)
        missing = sorted(self.wanted - early)
        while missing:
            part, missing = missing[:CHUNKS_IN_A_PACK], missing[CHUNKS_IN_A_PACK:]
            pack = world.new_pack(part)
            written = yield from put_copies(world, world.state, pack)
            if not written:
                return (yield from self.give_up())
            self.pending.append(pack)
            if missing and world.rng.random() < 0.3 and (yield from self.commit(self.checkpoint)):
                return True
        return (yield from self.commit(self.add))

    def look(self, view: State) -> frozenset[int]:
        """The chunks that need not be stored: in the index and not going or lost, or in the parent."""
        world = self.world
        lost = frozenset() if world.offline else world.indexed(view) - frozenset().union(*world.targets.values())
        usable = world.indexed(view) - world.going(view) - lost
        known = frozenset().union(*(world.packs[pack] for pack in usable))
        marked = view.condemned.marked if view.condemned else view.sequence
        parents = [row for row in view.snapshots if row.sequence <= marked and row.host == self.actor.host.name]
        return known | (world.trees[parents[-1].root] if parents and not lost else frozenset())

    def commit(self, change: Callable[[], None]) -> Generator[str, None, bool]:
        """Whether it was overtaken: expired, and what it refers to may be gone."""
        yield f"commit {'add-snapshot' if change == self.add else 'checkpoint-session'}"
        try:
            change()
        except Rejected as error:
            if error.reason != NOT_OPEN:
                raise
            before = self.view
            yield "commit open-session"
            self.view = self.actor.open("backup")
            gone = may_be_gone(SimpleNamespace(state=before), SimpleNamespace(state=self.view))
            if gone and self.world.mutation != "expired writer commits all the same":
                yield "commit close-session"
                self.actor.close()
                return True
            return (yield from self.commit(change))
        return False

    def checkpoint(self) -> None:
        segments = (self.world.new_segment(self.pending),) if self.pending else ()
        self.world.commit(self.actor.host, CheckpointSession(self.actor.session, segments))
        self.pending = []

    def add(self) -> None:
        world, session = self.world, self.actor.session
        row = world.snapshot(self.actor.host, session, self.wanted)
        segments = (world.new_segment(self.pending),) if self.pending else ()
        world.commit(self.actor.host, AddSnapshot(session, row, segments))
        world.acknowledged.add(row.id)
        self.actor.session = SessionId(b"")

    def give_up(self) -> Generator[str, None, bool]:
        yield "commit close-session"
        self.actor.close()
        return False


def put_copies(world: World, state: State, pack: PackId) -> Generator[str, None, list[TargetName]]:
    """To the first targets in the ring's order that take it; who did."""
    written: list[TargetName] = []
    for target in placed(state.ring).preference(pack):
        if len(written) < COPIES:
            yield "put"
            written += [target] if world.put(target, pack) else []
    return written


# Prune -----------------------------------------------------------------------------------------------------------


class Seen:
    """A survey: what is live in each pack, and which pack stands for each live chunk."""

    def __init__(self, world: World, view: State, due_ids: set[bytes]) -> None:
        self.view, self.listing = view, world.listing()
        going, indexed = world.going(view), world.indexed(view)
        listed = frozenset().union(*self.listing.values())
        rows = [*view.snapshots, *(row.snapshot for row in view.forgotten if row.snapshot.id not in due_ids)]
        self.live: dict[PackId, set[int]] = {}
        self.unknown = False
        for chunk in frozenset().union(*(world.trees[row.root] for row in rows)):
            packs = [pack for pack in indexed if chunk in world.packs[pack]]
            if not packs:
                self.unknown = True
                continue
            best = max(packs, key=lambda pack: (pack not in going and pack in listed, pack))
            self.unknown |= best not in listed
            self.live.setdefault(best, set()).add(chunk)
        self.orphans = listed - indexed - going
        self.uses = [
            PackUse(pack, len(world.packs[pack]), len(world.packs[pack]), len(self.live.get(pack, ())))
            for pack in sorted(indexed - going)
        ]


def prune(actor: Actor) -> Steps:
    """Condemns, takes back or removes, deletes, crosses off."""
    try:
        yield from _Prune(actor).go()
    except Rejected as error:
        if error.reason not in (NOT_OPEN, "prune-open"):
            raise


class _Prune:
    def __init__(self, actor: Actor) -> None:
        self.actor, self.world, self.host = actor, actor.world, actor.host
        now_ns = self.world.clock_ns(self.host.skew_s)
        self.request = PruneRequest(now_ns=now_ns, yes=True)
        self.rewritten: frozenset[PackId] = frozenset()

    def go(self) -> Steps:
        world = self.world
        for session in self.silent_sessions():
            yield "commit expire-session"
            if world.state.session(session) is not None:
                world.commit(self.host, ExpireSession(session))
        yield "commit open-session"
        view = yield from self.delete_removals(self.actor.open("prune"))
        yield "list"
        seen = self.survey(view)
        if not seen.unknown:
            if view.condemned:
                view, seen = yield from self.remove(seen)
            if not view.condemned:
                view = yield from self.condemn(seen)
                if view.condemned:
                    yield from self.remove(seen)
        yield "commit close-session"
        self.actor.close()

    def silent_sessions(self) -> list[SessionId]:
        kinds = (
            ("backup", "prune", "mover") if self.world.mutation == "mover expired by silence" else ("backup", "prune")
        )
        rows = tuple(row for row in self.world.state.sessions if row.kind in kinds)
        late, self.host.sessions_seen = silent(rows, self.host.sessions_seen, self.request.now_ns, HOUR_S)
        return [row.id for row in late]

    def due(self, view: State) -> set[bytes]:
        self.host.forgotten_seen = first_seen(view.forgotten, self.host.forgotten_seen, self.request.now_ns)
        return {row.snapshot.id for row in due(view.forgotten, self.request, self.host.forgotten_seen, self.host.own)}

    def survey(self, view: State) -> Seen:
        self.rewritten = frozenset()
        return Seen(self.world, view, self.due(view))

    def condemn(self, seen: Seen) -> Generator[str, None, State]:
        world, decided = self.world, plan(seen.uses)
        rewritten = yield from self.rewrite(seen, [use.pack for use in decided.rewrite])
        if self.world.mutation != "what was rewritten counts as needed":
            self.rewritten = frozenset(rewritten)
        names = {*(use.pack for use in decided.remove), *rewritten, *seen.orphans}
        if not names and not self.due(seen.view):
            return seen.view
        yield "keep-names"
        kept = world.keep_names(names)
        yield "commit condemn"
        world.condemned_s = world.now_s + self.host.skew_s
        return world.commit(self.host, Condemn(kept, seen.view.sequence, self.actor.session))

    def rewrite(self, seen: Seen, packs: list[PackId]) -> Generator[str, None, list[PackId]]:
        chunks = {chunk for pack in packs for chunk in seen.live[pack]}
        if not chunks:
            return []
        new = self.world.new_pack(chunks)
        if not (yield from put_copies(self.world, seen.view, new)):
            return []
        yield "put"
        segment = self.world.new_segment([new])
        yield "commit checkpoint-session"
        self.world.commit(self.host, CheckpointSession(self.actor.session, (segment,)))
        return packs

    def remove(self, seen: Seen) -> Generator[str, None, tuple[State, Seen]]:
        world = self.world
        for _ in range(ATTEMPTS):
            yield "read"
            view = world.state
            condemned = view.condemned
            if condemned is None or self.must_wait(view, condemned.sequence):
                return view, seen
            if any(view.snapshots.since(seen.view.sequence)):
                yield "list"
                seen = self.survey(view)
                if seen.unknown:
                    return view, seen
            try:
                view = yield from self.commit_removal(seen, view)
            except Rejected as error:
                if error.reason not in TRY_AGAIN:
                    raise
                continue
            return (yield from self.delete_removals(view)), seen
        return world.state, seen

    def must_wait(self, view: State, condemned: int) -> bool:
        older = any(row.kind == "backup" and row.opened < condemned for row in view.sessions)
        if self.world.mutation == "taken back after removing":
            return False
        if self.world.mutation == "grace by clock":
            return older and self.world.now_s + self.host.skew_s < self.world.condemned_s + HOUR_S
        return older

    def commit_removal(self, seen: Seen, view: State) -> Generator[str, None, State]:
        world, condemned = self.world, view.condemned
        assert condemned is not None
        names = world.lists[condemned.objects.name]
        late = world.mutation == "taken back after removing"  # it looks when it is too late
        going = names if late else names - (frozenset(seen.live) - self.rewritten)
        old = [ref.id for ref in view.segments if world.segments[ref.id] & going]
        rest = frozenset().union(*(world.segments[segment] for segment in old)) - going
        new = ()
        if rest:
            yield "put"
            new = (world.new_segment(rest),)
        yield "keep-names"
        kept = world.keep_names(going)
        marked = max(seen.view.sequence, view.sequence)
        dropped = tuple(self.due(seen.view))
        yield "commit remove"
        op = Remove(
            condemned.sequence, kept, marked, tuple(world.targets), new, tuple(old), dropped, self.actor.session
        )
        return world.commit(self.host, op)

    def needs(self, pack: PackId) -> bool:
        """Whether a snapshot would lose something by the deletion of this pack."""
        world = self.world
        chunks = frozenset().union(*(world.trees[row.root] for row in world.state.snapshots))
        others = world.indexed(world.state) - {pack}
        return bool(world.packs[pack] & chunks - frozenset().union(*(world.packs[other] for other in others)))

    def delete_removals(self, view: State) -> Generator[str, None, State]:
        for removal in view.removing:
            done = yield from self.delete(removal)
            if done:
                yield "commit removed"
                view = self.world.commit(self.host, Removed(removal.sequence, tuple(done), self.actor.session))
        return view

    def delete(self, removal: Removal) -> Generator[str, None, list[TargetName]]:
        world, done = self.world, []
        for target in removal.pending:
            if target in world.offline:
                continue
            yield "list"
            going = sorted(world.targets[target] & world.lists[removal.objects.name])
            sure = True
            for pack in going:
                yield "delete"
                if world.mutation == "taken back after removing" and self.needs(pack):
                    world.take_back(removal, pack)
                else:
                    sure &= world.delete(target, pack)
            done += [target] if sure else []
        return done


# Repair and rebalance --------------------------------------------------------------------------------------------


def move(actor: Actor) -> Steps:
    """Copies what is missing, then takes away what is one too many, under the mover session."""
    world, host = actor.world, actor.host
    for session in [row.id for row in world.state.sessions if row.id in host.dead]:
        yield "commit expire-session"
        if world.state.session(session) is not None:
            world.commit(host, ExpireSession(session))
    ring = world.state.ring
    view = world.state
    yield "list"
    due: list[Due] = []
    for pack, job in _jobs(world, view):
        due += yield from _carry_out(world, pack, job)
    if due:
        yield "commit open-session"
        try:
            actor.open("mover")
        except Rejected as error:
            if error.reason != "mover-open":
                raise
            return
        yield from _Surplus(actor, ring).take(due)
        yield "commit close-session"
        actor.close()


def _jobs(world: World, view: State) -> list[tuple[PackId, Job]]:
    placement, listing = placed(view.ring), world.listing()
    jobs = []
    for pack in sorted(world.indexed(view) - world.going(view)):
        expected = Expected(pack_object(pack), len(world.packs[pack]), placement.desired(pack), (), metadata=False)
        held = [name for name, packs in listing.items() if pack in packs]
        order = list(placement.preference(pack))
        jobs.append((pack, job_for(expected, held, (), order, COPIES, lambda name: name not in world.offline)))
    return [(pack, job) for pack, job in jobs if job.sources and not job.idle]


def _carry_out(world: World, pack: PackId, job: Job) -> Generator[str, None, list[Due]]:
    """What may go afterwards, if all that is wanted is whole then."""
    yield "get"
    if not any(world.whole(name, pack) for name in job.sources):
        return []
    written = True
    for target in job.write:
        yield "put"
        written &= world.put(target, pack)
    return [Due(pack, job.surplus, job.expected.desired)] if written and job.surplus else []


class _Surplus:
    """Takes away what is one too many: the others are read and the session is looked up before each batch."""

    def __init__(self, actor: Actor, ring: Ring) -> None:
        self.actor, self.world, self.ring, self.looked_s = actor, actor.world, ring, 0.0

    def take(self, due: list[Due]) -> Steps:
        for start in range(0, len(due), BATCH):
            batch = due[start : start + BATCH]
            yield "get"
            whole = [row for row in batch if self.is_whole(row)]
            yield "read"
            if not self.may_go_on():
                return
            for target, pack in [(target, row.pack) for row in whole for target in row.surplus]:
                yield "delete"
                stood_still = self.world.now_s - self.looked_s > STILL_S
                if stood_still and self.world.mutation not in LOOKS_ONCE and not self.may_go_on():
                    return
                known = self.world.delete(target, pack, self.actor.session)
                if not known and self.world.mutation != "mover ends before its deletion is known":
                    yield "delete"
                    self.world.answer(self.actor.session)

    def is_whole(self, row: Due) -> bool:
        if self.world.mutation in ("the ring is not looked at again", "the others are not read under the session"):
            return True
        return all(self.world.whole(name, row.pack) for name in row.desired)

    def may_go_on(self) -> bool:
        state, self.looked_s = self.world.state, self.world.now_s
        unchanged = state.ring == self.ring or self.world.mutation == "the ring is not looked at again"
        return unchanged and state.session(self.actor.session) is not None


# Short ones ------------------------------------------------------------------------------------------------------


def forget(actor: Actor) -> Steps:
    """Forgets all but the newest of its host's snapshots, sometimes those too."""
    yield "commit forget-snapshots"
    world = actor.world
    rows = [row for row in world.state.snapshots if row.host == actor.host.name or world.rng.random() < 0.3]
    old = rows[: len(rows) - world.rng.choice([0, 1, 1, 2])]
    if old:
        ids = tuple(row.id for row in old)
        state = world.commit(actor.host, ForgetSnapshots(ids))
        actor.host.own |= {key_of(row) for row in state.forgotten if row.snapshot.id in ids}
        world.acknowledged -= {row.id for row in old}


def turn_ring(drained: TargetName) -> Callable[[Actor], Steps]:
    """A ring without one target, and later the first one again: A, B, A."""

    def work(actor: Actor) -> Steps:
        world = actor.world
        for state in ("draining", "active"):
            yield "commit set-ring"
            rows = tuple(
                structs.replace(row, state=state if row.name == drained else "active") for row in world.state.targets
            )
            try:
                world.commit(actor.host, SetRing(world.state.ring_epoch + 1, rows))
            except Rejected as error:
                if error.reason != "mover-open":
                    raise

    return work
