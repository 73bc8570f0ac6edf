"""Repair and rebalance, as steps: copies first, then the surplus, under the mover session."""

from collections.abc import Callable, Generator
from dataclasses import dataclass

from prune_actors import Actor, Steps
from prune_world import COPIES, World, placed

from drtool.errors import Rejected
from drtool.manifest.ops import ExpireSession
from drtool.manifest.state import State
from drtool.model import PackId, TargetName, pack_object
from drtool.repository.expected import Expected
from drtool.repository.processes import STILL_S
from drtool.repository.reconciling import Job, job_for
from drtool.ring import Ring

BATCH = 2
LOOKS_ONCE = (
    "mover expired by silence",
    "another boot is proof of death",
    "a mover that stood still does not look again",
)
"""Broken protocols in which a mover looks at its session before a batch, and not again when it stood still."""
TRUSTS_EARLIER_READS = ("the ring is not looked at again", "the others are not read under the session")


@dataclass(frozen=True)
class Due:
    """A pack that is in places too many; it may go from `surplus` if all in `desired` have it."""

    pack: PackId
    surplus: tuple[TargetName, ...]
    desired: tuple[TargetName, ...]


def move(actor: Actor) -> Steps:
    """Copies what is missing, then takes away what is one too many, under the mover session."""
    world, host = actor.world, actor.host
    for session in [row.id for row in world.state.sessions if row.id in world.dead(host)]:
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
    known = world.rotten if world.rng.random() < 0.5 else set()  # half of the repairs read everything first
    jobs = []
    for pack in sorted(world.indexed(view) - world.going(view)):
        expected = Expected(pack_object(pack), len(world.packs[pack]), placement.desired(pack), (), metadata=False)
        held = [name for name, packs in listing.items() if pack in packs]
        bad = [name for name in held if (name, pack) in known]
        order = list(placement.preference(pack))
        jobs.append((pack, job_for(expected, held, bad, order, COPIES, lambda name: name not in world.offline)))
    return [(pack, job) for pack, job in jobs if job.sources and not job.idle]


def _carry_out(world: World, pack: PackId, job: Job) -> Generator[str, None, list[Due]]:
    """What may go afterwards, if all that is wanted is whole then."""
    yield "get"
    if not any(world.whole(name, pack) for name in job.sources):
        return []
    written = True
    for target in (*job.bad, *job.write):
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
            copies = [(target, row.pack) for row in whole for target in row.surplus]
            if not (yield from self.delete(copies, due[start + BATCH :])):
                return

    def delete(self, copies: list[tuple[TargetName, PackId]], rest: list[Due]) -> Generator[str, None, bool]:
        """Whether it may go on."""
        for number, (target, pack) in enumerate(copies):
            self.actor.image = _resumed(self.ring, copies[number:], rest, self.looked_s)
            yield "delete"
            stood_still = self.world.now_s - self.looked_s > STILL_S
            if stood_still and self.world.mutation not in LOOKS_ONCE and not self.may_go_on():
                return False
            known = self.world.delete(target, pack, self.actor.session)
            if not known and self.world.mutation != "mover ends before its deletion is known":
                yield "delete"
                self.world.answer(self.actor.session)
        self.actor.image = None
        return True

    def is_whole(self, row: Due) -> bool:
        if self.world.mutation in TRUSTS_EARLIER_READS:
            return True
        return all(self.world.whole(name, row.pack) for name in row.desired)

    def may_go_on(self) -> bool:
        state, self.looked_s = self.world.state, self.world.now_s
        unchanged = state.ring == self.ring or self.world.mutation == "the ring is not looked at again"
        return unchanged and state.session(self.actor.session) is not None


def _resumed(
    ring: Ring, copies: list[tuple[TargetName, PackId]], rest: list[Due], looked_s: float
) -> Callable[[Actor], Steps]:
    """A mover whose machine is put back to this moment. Its wall clock is corrected, so it has stood still."""

    def work(actor: Actor) -> Steps:
        surplus = _Surplus(actor, ring)
        surplus.looked_s = looked_s
        if (yield from surplus.delete(copies, rest)):
            yield from surplus.take(rest)
        yield "commit close-session"
        actor.close()

    return work
