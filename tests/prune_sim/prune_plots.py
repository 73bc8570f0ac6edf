"""Directed schedules, for broken protocols that chance meets too seldom. Each must be harmless where nothing is broken."""

from collections.abc import Callable
from contextlib import nullcontext

from prune_actors import Actor, Steps, backup, turn_ring
from prune_movers import move
from prune_mutations import MUTATIONS
from prune_prunes import prune
from prune_world import HOUR_S, TARGETS, Host, World


def until(actor: Actor, step: str) -> Actor:
    """Goes on until `step` is next."""
    while not actor.done and actor.next != step:
        actor.step()
    return actor


def finish(actor: Actor) -> None:
    while not actor.done:
        actor.step()
        actor.world.check()


def run(world: World, host: Host, work: Callable[[Actor], Steps]) -> None:
    finish(Actor(world, host, work))


def _moved_to_and_fro(world: World, sleeps_at: str) -> Actor:
    """A mover that is about to take copies away, by ring A once more, and sleeps before that step."""
    one, two, _ = world.hosts
    run(world, one, backup(frozenset(range(12))))
    ring = until(Actor(world, two, turn_ring(TARGETS[-1])), "commit set-ring")
    ring.step()
    run(world, one, move)
    finish(ring)
    return until(Actor(world, one, move), sleeps_at)


def _turned_again(world: World) -> None:
    """Ring B: what was one too many by A is a promised copy, and somebody takes away the others."""
    _, two, _ = world.hosts
    ring = until(Actor(world, two, turn_ring(TARGETS[-1])), "commit set-ring")
    ring.step()
    run(world, two, move)


def a_mover_that_slept_in_the_midst(world: World) -> None:
    sleeper = _moved_to_and_fro(world, "delete")
    for _ in range(2):  # whoever saw it silent twice, an hour apart, might take it for dead
        run(world, world.hosts[2], prune)
        world.now_s += 2 * HOUR_S
    _turned_again(world)
    finish(sleeper)


def a_mover_that_slept_before_its_session(world: World) -> None:
    sleeper = _moved_to_and_fro(world, "commit open-session")
    _turned_again(world)
    finish(sleeper)


def a_deletion_that_nobody_waited_for(world: World) -> None:
    sleeper = _moved_to_and_fro(world, "delete")
    world.late_share = 1.0
    finish(sleeper)
    world.late_share = 0.0
    _turned_again(world)
    for request in world.flying:
        world.land(request)


PLOTS: dict[str, Callable[[World], None]] = {
    "a-deletion-that-nobody-waited-for": a_deletion_that_nobody_waited_for,
    "a-mover-that-slept-before-its-session": a_mover_that_slept_before_its_session,
    "a-mover-that-slept-in-the-midst": a_mover_that_slept_in_the_midst,
}
TRIES = 20
"""The same schedule with other names of packs, which decide where the ring wants them."""


def run_plot(name: str, mutation: str = "") -> list[str]:
    """What did not hold in any of its tries."""
    with MUTATIONS[mutation]() if mutation else nullcontext():
        for seed in range(TRIES):
            world = World(seed)
            world.mutation, world.late_share = mutation, 0.0
            PLOTS[name](world)
            if world.violations:
                return world.violations
    return []
