"""One seed: actors in an order and at times that chance decides, then an end at which the room must have come back.

By hand: `python tests/prune_sim/prune_run.py --seeds 5000`, or one again: `--seed 4711`.
"""

import argparse
import sys
from collections.abc import Callable, Iterable
from contextlib import nullcontext
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
sys.path.insert(0, str(Path(__file__).resolve().parent))

from prune_actors import Actor, Steps, backup, expire, forget, turn_ring
from prune_movers import move
from prune_mutations import MUTATIONS
from prune_prunes import Seen, prune
from prune_world import HOUR_S, Host, World, placed

from drtool.operations.prune.plan import plan

ACTORS_AT_ONCE = 4
HOSTS_MAX = 5
STEP_S = 1.5
"""The least that a step takes: nobody takes over from a mover in the time in which it does not look at its session again."""
ACTORS = 26
CHUNKS = 14
STEPS_MAX = 4000
DAY_S = 24 * HOUR_S


def run_seed(seed: int, mutation: str = "") -> World:
    """The world after all of it; `violations` says what did not hold."""
    world = World(seed)
    world.mutation = mutation
    with MUTATIONS[mutation]() if mutation else nullcontext():
        actors = _crowd(world)
        if not world.violations:
            _end(world, actors)
    return world


def _crowd(world: World) -> list[Actor]:
    """Everybody at once; those that are still alive at the end."""
    rng, actors, left = world.rng, [], ACTORS
    for _ in range(STEPS_MAX):
        if left and len(actors) < ACTORS_AT_ONCE and rng.random() < 0.3:
            actors.append(_someone(world))
            left -= 1
        _chance(world)
        awake = [actor for actor in actors if actor.wakes_s <= world.now_s]
        if not awake:
            world.now_s += rng.choice([60.0, HOUR_S])
            if not left and not actors:
                break
            continue
        _step(world, actors, rng.choice(awake))
        actors = [actor for actor in actors if not actor.done]
        world.check()
        if world.violations:
            break
    return actors


def _someone(world: World) -> Actor:
    rng = world.rng
    wanted = frozenset(rng.sample(range(CHUNKS), rng.randint(1, 9)))
    works = [backup(wanted), prune, move, forget, turn_ring(rng.choice(sorted(world.targets))), expire]
    return Actor(world, rng.choice(world.hosts), rng.choices(works, (10, 6, 4, 3, 2, 1))[0])


def _step(world: World, actors: list[Actor], actor: Actor) -> None:
    """One step, or a death, or a sleep; some sleep for days. Or a snapshot of its machine is taken, and resumed later."""
    rng = world.rng
    world.now_s += STEP_S + rng.expovariate(1 / 20)
    fate = rng.random()
    if actor.image is not None and fate > 0.8:
        actors.append(Actor(world, actor.host, actor.image, actor.session))
        actors[-1].wakes_s = world.now_s + rng.choice([0.0, 60.0, 2 * HOUR_S, 30 * HOUR_S])
    if fate < 0.01:
        actor.die()
    elif fate < 0.05:
        actor.wakes_s = world.now_s + rng.choice([60.0, 2 * HOUR_S, 2 * HOUR_S, 30 * HOUR_S, 9 * DAY_S])
    else:
        actor.step()


def _chance(world: World) -> None:
    """Targets come and go; deletions that were on their way arrive."""
    rng = world.rng
    if rng.random() < 0.02:
        world.offline ^= {rng.choice(sorted(world.targets))}
        if len(world.offline) > 1:
            world.offline.clear()
    if rng.random() < 0.002 and len(world.hosts) < HOSTS_MAX:
        world.clone(rng.choice(world.hosts))
    copies = [(name, pack) for name, packs in sorted(world.targets.items()) for pack in sorted(packs)]
    if copies and rng.random() < 0.01:
        world.rot(rng.choice(copies))
    for request in [request for request in world.flying if rng.random() < 0.02]:
        world.flying.remove(request)
        world.land(request)


def _end(world: World, actors: Iterable[Actor]) -> None:
    """Whoever is left finishes or dies; then nobody but prune and repair is there, and time passes."""
    for actor in actors:
        while not actor.done:
            if world.rng.random() < 0.02:
                actor.die()
            else:
                actor.step()
            world.check()
    late, world.flying = world.flying[::2], world.flying[1::2]
    for request in world.flying:
        world.land(request)
    world.flying, world.late_share = [], 0.0
    world.offline.clear()
    world.rotten.clear()
    for host in world.hosts:
        alone(world, host, move)
    for _ in range(3):  # it sees silent sessions and forgotten snapshots; ends those, takes these; then it is quiet
        alone(world, world.hosts[0], prune)
        world.now_s += 9 * DAY_S
    alone(world, world.hosts[1], move)
    for request in late:
        world.land(request)
        world.check()
    alone(world, world.hosts[1], move)
    alone(
        world, world.hosts[0], prune
    )  # of two packs with one chunk, the one with more copies is kept: that has changed
    _check_room(world)


def alone(world: World, host: Host, work: Callable[[Actor], Steps]) -> list[str]:
    """One actor with nobody else about, to its end; the steps that it took."""
    actor = Actor(world, host, work)
    steps = []
    while not actor.done:
        steps.append(actor.next)
        actor.step()
        world.check()
    return steps


def _check_room(world: World) -> None:
    """Nothing but what is needed is there, but for as little waste as the plan allows."""
    state = world.state
    if state.condemned or state.removing or state.sessions or state.forgotten:
        world.violations.append(
            f"it does not come to rest: {state.condemned}, {state.removing}, {state.sessions}, {len(state.forgotten)}"
        )
    indexed = world.indexed(state)
    stored = frozenset().union(*world.targets.values())
    if stored - indexed:
        world.violations.append(f"{len(stored - indexed)} packs are stored that nothing names")
    decided = plan(Seen(world, state, set()).uses)
    if decided.remove or decided.rewrite:
        world.violations.append(f"room is left: {len(decided.remove)} dead, {len(decided.rewrite)} mostly waste")
    for pack in sorted(indexed):
        if set(world.holders(pack)) != set(placed(state.ring).desired(pack)):
            world.violations.append(f"a pack is at {world.holders(pack)}, not where the ring wants it")


def main() -> int:
    parser = argparse.ArgumentParser(description="Backups, prunes and movers over the real state machine.")
    parser.add_argument("--seeds", type=int, default=500)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--seed", type=int)
    parser.add_argument("--mutation", choices=sorted(MUTATIONS), default="")
    words = parser.parse_args()
    seeds = [words.seed] if words.seed is not None else range(words.first, words.first + words.seeds)
    failed = 0
    for seed in seeds:
        world = run_seed(seed, words.mutation)
        failed += bool(world.violations)
        if world.violations:
            print(f"seed {seed}: {world.violations[0]}")
    print(f"{len(seeds)} seeds, {failed} failing")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
