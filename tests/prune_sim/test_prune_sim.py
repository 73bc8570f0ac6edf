"""Backups, prunes and movers at once, in any order and with any delay: nothing kept is lost, and the room comes back."""

from collections import Counter

import pytest
from prune_mutations import CATCHES, MUTATIONS
from prune_plots import PLOTS, run_plot
from prune_run import run_seed
from thoroughness import sample

SEEDS = sample(600)
CHUNKS = 6
SEEDS_LIMIT = 600


@pytest.mark.parametrize("chunk", range(CHUNKS))
@pytest.mark.sampled
def test_no_seed_loses_anything_or_keeps_room(chunk):
    for seed in range(chunk, SEEDS, CHUNKS):
        world = run_seed(seed)
        assert not world.violations, f"{world.violations[0]}; again: python tests/prune_sim/prune_run.py --seed {seed}"


@pytest.mark.parametrize("name", sorted(MUTATIONS))
def test_a_broken_protocol_is_caught(name):
    catch = CATCHES[name]
    if isinstance(catch, str):
        assert run_plot(catch, name)
    else:
        seeds = [catch, *range(SEEDS_LIMIT)]
        assert any(run_seed(seed, name).violations for seed in seeds), "no seed catches it any more"


def test_every_mutation_says_what_catches_it_and_the_four_of_the_design_are_there():
    assert set(CATCHES) == set(MUTATIONS)
    design = ("taken back after removing", "session opened after listing", "mover expired by silence", "grace by clock")
    assert set(design) <= set(MUTATIONS)


@pytest.mark.parametrize("name", sorted(PLOTS))
def test_a_directed_schedule_is_harmless_where_nothing_is_broken(name):
    assert run_plot(name) == []


def test_a_seed_replays_exactly():
    first, second = run_seed(7), run_seed(7)
    assert (first.state, first.targets, first.now_s) == (second.state, second.targets, second.now_s)


def test_the_worlds_are_hostile(monkeypatch):
    """Of the things that must happen for the invariants to mean anything, each happens often."""
    import prune_run
    from prune_actors import Actor
    from prune_world import NOBODY, World

    met = Counter()
    die, commit, clone, start = Actor.die, World.commit, World.clone, Actor.__init__

    def counted_clone(world, host):
        met["clones"] += 1
        clone(world, host)

    def counted_start(actor, world, host, work, session=NOBODY):
        met["restored"] += session != NOBODY
        start(actor, world, host, work, session)

    def counted_die(actor):
        met["deaths"] += 1
        die(actor)

    def counted_commit(world, host, *ops):
        for op in ops:
            met[type(op).__name__] += 1
        return commit(world, host, *ops)

    monkeypatch.setattr(Actor, "die", counted_die)
    monkeypatch.setattr(World, "commit", counted_commit)
    monkeypatch.setattr(World, "clone", counted_clone)
    monkeypatch.setattr(Actor, "__init__", counted_start)
    for seed in range(40):
        prune_run.run_seed(seed)
    assert met["deaths"] > 20
    assert min(met["clones"], met["restored"]) > 20
    assert (
        min(met[name] for name in ("Condemn", "Remove", "Removed", "ExpireSession", "SetRing", "ForgetSnapshots")) > 20
    )
    assert met["AddSnapshot"] > 200
