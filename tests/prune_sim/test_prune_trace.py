"""The simulator's steps are those of the real operations, in their order: so that the model cannot drift from the code."""

from itertools import groupby

import pytest
from prune_actors import backup
from prune_movers import move
from prune_prunes import prune
from prune_run import alone
from prune_world import World as Model
from three_sites import fill, founded, noise, place, world

from drtool.events import ignore
from drtool.manifest.facade import Manifest
from drtool.manifest.ops import ForgetSnapshots, kind_of
from drtool.operations.prune import PruneRequest
from drtool.operations.prune import prune as real_prune
from drtool.operations.rebalance import RebalanceRequest, rebalance
from drtool.operations.repair import RepairRequest, repair
from drtool.repository.forgotten import forget_here, key_of
from drtool.stores import LocalStore

__all__ = ["founded", "place", "world"]
OBJECTS = ("packs/", "index/")


@pytest.fixture
def trace(monkeypatch):
    """What the real operations call at their ports, as the model names it."""
    calls = []

    def note(owner, name, words):
        plain = getattr(owner, name)

        def noted(self, *args, **more):
            calls.extend(words(args))
            return plain(self, *args, **more)

        monkeypatch.setattr(owner, name, noted)

    def kinds(args):
        ops = args[0] if isinstance(args[0], list | tuple) else (args[0],)
        return [f"commit {kind_of(op)}" for op in ops]

    note(Manifest, "commit", kinds)
    note(Manifest, "read", lambda _: ["read"])
    note(Manifest, "keep_names", lambda _: ["keep-names"])
    for call in ("get", "put", "delete", "list"):
        note(LocalStore, call, lambda args, call=call: [call] if args[0].startswith(OBJECTS) else [])
    return calls


def in_short(steps, ignored=()):
    """Runs of steps of one sort as one: how many objects there are, and in what order threads come, says nothing."""

    def sort(step):
        return {"put": "copy", "get": "copy", "delete": "delete", "list": "list"}.get(step, step)

    runs = [step for step, _ in groupby(sort(step) for step in steps if step not in ignored)]
    joined = []
    for step in runs:
        if joined and {joined[-1], step} <= {"list", "delete"}:
            joined[-1] = "delete"  # each target is listed before anything is deleted there
        else:
            joined.append(step)
    return joined


def model(seed=0):
    made = Model(seed)
    made.late_share = 0.0
    return made


def test_a_backup(world, trace):
    source = fill(world.root / "source", {"a": noise(1000)})
    with world.open() as repository:
        trace.clear()
        world.run_backup(repository, source)
    made = model()
    steps = alone(made, made.hosts[0], backup(frozenset({1})))
    assert in_short(trace, ["get", "read"]) == in_short(steps)
    assert in_short(steps)[:2] == ["commit open-session", "list"]


def test_a_prune_that_rewrites_condemns_and_removes(world, trace):
    source = fill(world.root / "source", {f"{i}": noise(200_000, i) for i in range(6)})
    world.backup(source)
    for number in range(4):
        (source / f"{number}").unlink()
    world.backup(source)
    with world.open() as repository:
        forget_here(repository, ForgetSnapshots((next(iter(repository.view.state.snapshots)).id,)))
    with world.open() as repository:
        trace.clear()
        real_prune(repository, PruneRequest(now_ns=10**18), ignore)

    made = model()
    host = made.hosts[0]
    alone(made, host, backup(frozenset({0, 1, 2})))
    first = next(iter(made.state.snapshots)).id
    alone(made, host, backup(frozenset({0})))
    host.own |= {key_of(row) for row in made.commit(host, ForgetSnapshots((first,))).forgotten}
    made.acknowledged.remove(first)
    steps = alone(made, host, prune)
    assert in_short(trace, ["get"]) == in_short(steps)
    assert "commit remove" in steps
    assert "commit checkpoint-session" in steps


@pytest.mark.parametrize(("verb", "request_"), [(repair, RepairRequest()), (rebalance, RebalanceRequest())])
def test_a_mover(world, trace, verb, request_):
    world.directory("c").rename(world.root / "away")
    for number in range(8):  # of each pack, one copy is too many if the ring wants one on the site that is away
        world.backup(fill(world.root / "source", {f"{number}": noise(20_000, number)}))
    (world.root / "away").rename(world.directory("c"))
    with world.open() as repository:
        trace.clear()
        verb(repository, request_, ignore)
    assert "delete" in trace, "there must be something to take away"

    for seed in range(20):
        made = model(seed)
        made.offline = {"d/main"}
        alone(made, made.hosts[0], backup(frozenset({1})))
        made.offline = set()
        steps = alone(made, made.hosts[0], move)
        if "delete" in steps:
            assert in_short(trace[trace.index("list") :]) == in_short(steps)
            return
    raise AssertionError("no ring wants the pack on the target that was away")
