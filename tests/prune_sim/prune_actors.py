"""Backup, prune, repair and the rest, as steps: what each does, in the order of the real operations.

Every `yield` stands before a step that others see, and names the call by which the real operation takes it
(`test_prune_trace.py` compares). An actor may be paused or end at any of them. A mutation breaks one rule.
"""

from collections.abc import Callable, Generator
from types import SimpleNamespace
from typing import TypeAlias

from msgspec import structs
from prune_world import COPIES, NOBODY, Host, World, placed

from drtool.errors import Rejected
from drtool.manifest.ops import AddSnapshot, CheckpointSession, CloseSession, ExpireSession, ForgetSnapshots, SetRing
from drtool.manifest.state import State
from drtool.model import PackId, SessionId, TargetName
from drtool.repository.forgotten import key_of
from drtool.repository.session import NOT_OPEN, may_be_gone

Steps: TypeAlias = Generator[str, None, None]
CHUNKS_IN_A_PACK = 3


class Actor:
    """A process on a host. `session`: the one that it left open, should it die.

    `image`: how the process goes on if a snapshot of its machine, taken now, is resumed later, beside or after this one.
    """

    def __init__(self, world: World, host: Host, work: Callable[["Actor"], Steps], session: SessionId = NOBODY) -> None:
        self.world, self.host, self.session = world, host, session
        self.image: Callable[[Actor], Steps] | None = None
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
        # A copy of this machine may have a deletion on its way. The model assumes that it arrives before the session ends.
        if self.world.mutation != "mover ends before its deletion is known":
            self.world.answer(self.session)
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


def expire(actor: Actor) -> Steps:
    """A person ends a session, having seen to it that no deletion of it is on its way; the process may go on."""
    yield "commit expire-session"
    world = actor.world
    flying = {request.mover for request in world.flying}
    sessions = [row.id for row in world.state.sessions if row.id not in flying]
    if sessions:
        world.commit(actor.host, ExpireSession(world.rng.choice(sessions)))


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
