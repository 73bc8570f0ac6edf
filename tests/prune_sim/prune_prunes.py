"""Prune, as steps: looks at everything, condemns, takes back or removes, deletes, crosses off."""

from collections.abc import Callable, Collection, Generator

from msgspec import structs
from prune_actors import Actor, Steps, put_copies
from prune_world import COPIES, HOUR_S, Copy, World

from drtool.errors import Rejected
from drtool.manifest.ops import CheckpointSession, Condemn, ExpireSession, Remove, Removed
from drtool.manifest.records import Removal
from drtool.manifest.state import State
from drtool.model import PackId, SessionId, TargetName, site_of
from drtool.operations.prune.grace import due, first_seen
from drtool.operations.prune.plan import PackUse, plan
from drtool.operations.prune.request import PruneRequest
from drtool.operations.prune.run import ATTEMPTS, OVERTAKEN_BY, TRY_AGAIN
from drtool.operations.prune.silence import silent


class Seen:
    """A survey: what is live in each pack, which pack stands for each live chunk, and in place of which others."""

    def __init__(self, world: World, view: State, due_ids: set[bytes], damaged: Collection[Copy] = ()) -> None:
        self.view, self.listing = view, world.listing()
        self.going, indexed = world.going(view), world.indexed(view)
        self.damaged = damaged
        listed = frozenset().union(*self.listing.values())
        rows = [*view.snapshots, *(row.snapshot for row in view.forgotten if row.snapshot.id not in due_ids)]
        self.live: dict[PackId, set[int]] = {}
        self.stand_ins: dict[PackId, set[PackId]] = {}
        self.unknown = False
        for chunk in frozenset().union(*(world.trees[row.root] for row in rows)):
            packs = [pack for pack in indexed if chunk in world.packs[pack]]
            if not packs:
                self.unknown = True
                continue
            best = max(packs, key=lambda pack: (pack not in self.going and pack in listed, self.sites(pack), pack))
            self.unknown |= best not in listed
            self.live.setdefault(best, set()).add(chunk)
            for other in packs:
                if other != best:
                    self.stand_ins.setdefault(other, set()).add(best)
        self.orphans = listed - indexed - self.going
        self.uses = [
            PackUse(pack, len(world.packs[pack]), len(world.packs[pack]), len(self.live.get(pack, ())))
            for pack in sorted(indexed - self.going)
        ]

    def holders(self, pack: PackId) -> list[TargetName]:
        return [name for name, packs in self.listing.items() if pack in packs and (name, pack) not in self.damaged]

    def sites(self, pack: PackId) -> int:
        return len({site_of(name) for name in self.holders(pack)})


class StandIns:
    """What a prune has read of packs that stand in for others."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.whole: dict[PackId, list[TargetName]] = {}
        self.damaged: set[Copy] = set()

    def read(self, seen: Seen) -> bool:
        """Whether anything that was not read before is damaged."""
        decided, before = plan(seen.uses), len(self.damaged)
        going = {use.pack for use in (*decided.remove, *decided.rewrite)} | seen.going
        for other in {other for pack in going for other in seen.stand_ins.get(pack, ())} - self.whole.keys():
            copies = seen.holders(other)
            self.whole[other] = [name for name in copies if self.world.whole(name, other)]
            self.damaged |= {(name, other) for name in copies if (name, other) in self.world.rotten}
        return len(self.damaged) > before

    def refuses(self, seen: Seen, pack: PackId) -> bool:
        if self.world.mutation == "duplicates are judged by listing":
            return False
        for other in seen.stand_ins.get(pack, ()):
            whole = {site_of(name) for name in self.whole.get(other, ())}
            together = whole | {site_of(name) for name in seen.holders(pack)}
            if len(whole) < max(1, min(COPIES, len(together))):
                return True
        return False


def prune(actor: Actor) -> Steps:
    """Condemns, takes back or removes, deletes, crosses off."""
    try:
        yield from _Prune(actor).go()
    except Rejected as error:
        if error.reason not in (*OVERTAKEN_BY, "prune-open"):
            raise


class _Prune:
    def __init__(self, actor: Actor) -> None:
        self.actor, self.world, self.host = actor, actor.world, actor.host
        now_ns = self.world.clock_ns(self.host.skew_s)
        self.request = PruneRequest(now_ns=now_ns, yes=True)
        self.rewritten: frozenset[PackId] = frozenset()
        self.stand_ins = StandIns(self.world)

    def go(self) -> Steps:
        world = self.world
        for session in self.silent_sessions():
            yield "commit expire-session"
            if world.state.session(session) is not None:
                world.commit(self.host, ExpireSession(session))
        yield "commit open-session"
        view = yield from self.delete_removals(self.actor.open("prune"))
        yield "list"
        seen = yield from self.survey(view)
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

    def survey(self, view: State) -> Generator[str, None, Seen]:
        """Looks again as long as a copy turns out damaged: another pack may be the better one then."""
        self.rewritten = frozenset()
        while True:
            seen = Seen(self.world, view, self.due(view), self.stand_ins.damaged)
            if not seen.stand_ins or self.world.mutation == "duplicates are judged by listing":
                return seen
            yield "get"
            if not self.stand_ins.read(seen):
                return seen

    def condemn(self, seen: Seen) -> Generator[str, None, State]:
        world, decided = self.world, plan(seen.uses)
        packs = [use.pack for use in decided.rewrite if self.world.good_sites(use.pack)]
        rewritten = yield from self.rewrite(seen, [pack for pack in packs if not self.stand_ins.refuses(seen, pack)])
        remove = [use.pack for use in decided.remove if not self.stand_ins.refuses(seen, use.pack)]
        if self.world.mutation != "what was rewritten counts as needed":
            self.rewritten = frozenset(rewritten)
        names = {*remove, *rewritten, *seen.orphans}
        if not names and not self.due(seen.view):
            return seen.view
        yield "keep-names"
        kept = world.keep_names(names)
        op = Condemn(kept, seen.view.sequence, self.actor.session)
        self.actor.image = _resumed(op, seen)
        yield "commit condemn"
        self.actor.image = None
        world.condemned_s = world.now_s + self.host.skew_s
        return world.commit(self.host, op)

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
                seen = yield from self.survey(view)
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
        needed = {pack for pack in names - self.rewritten if pack in seen.live or self.stand_ins.refuses(seen, pack)}
        going = names if late else names - needed
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
        op = Remove(
            condemned.sequence, kept, marked, tuple(world.targets), new, tuple(old), dropped, self.actor.session
        )
        yield "commit remove"
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


def _resumed(op: Condemn, seen: Seen) -> Callable[[Actor], Steps]:
    """A prune whose machine is put back to the moment before it commits what it decided to condemn."""

    def work(actor: Actor) -> Steps:
        world, again = actor.world, _Prune(actor)
        yield "commit condemn"
        if world.mutation == "a restored prune goes on with what it saw":
            session = world.open(actor.host, "prune")
            at = world.commit(actor.host, structs.replace(op, session=session)).sequence
            remove = Remove(at, op.objects, at, tuple(world.targets), session=session)
            view = world.commit(actor.host, remove)
            yield from again.delete_removals(view)
            return
        world.commit(actor.host, op)
        yield from again.remove(seen)
        yield "commit close-session"
        actor.close()

    def harmless(actor: Actor) -> Steps:
        try:
            yield from work(actor)
        except Rejected:  # its session is over, or another life of it was faster
            return

    return harmless
