"""Concurrent backups, forgets and prunes, one of them killed, six times: retained data restores, and space is freed."""

import os
import random
import shutil
import signal
import sys
import time
import traceback
from functools import partial

import pytest
from three_sites import World, fill, noise, portrait

from drtool.events import ignore
from drtool.manifest.ops import ForgetSnapshots
from drtool.operations.prune import PruneRequest, prune
from drtool.repository.forgotten import forget_here

ROUNDS = 6
SOURCES = ("one", "two", "three")


def in_background(work):
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        work()
        code = 0
    except BaseException:  # noqa: BLE001 - a forked child must not run on as the parent
        traceback.print_exc(file=sys.stderr)
    finally:
        os._exit(code)


def run_prune(world, **more):
    with world.open() as repository:
        request = PruneRequest(now_ns=time.time_ns(), **more)
        return prune(repository, request, ignore)


def forget_all_but_newest(world):
    with world.open() as repository:
        newest = {}
        for row in repository.view.state.snapshots:
            newest[row.source] = row.id
        old = [row.id for row in repository.view.state.snapshots if row.id not in newest.values()]
        if old:
            forget_here(repository, ForgetSnapshots(tuple(old)))


def forget_and_prune(world):
    forget_all_but_newest(world)
    run_prune(world)


def change(root, name, number):
    """Change half of the files each round. Some are the same in all three sources."""
    files = {f"own{i}": noise(60_000, 1000 * len(name) + 10 * i + (number if i % 2 else 0)) for i in range(4)}
    files |= {f"shared{i}": noise(60_000, 7 * i + (number if i % 2 else 0)) for i in range(4)}
    return fill(root / name, files)


@pytest.mark.thorough
def test_six_rounds(place):
    root, rng = place, random.Random(7)
    world = World(root).found(copies=2)
    looks = {}
    for number in range(ROUNDS):
        sources = {name: change(root, name, number) for name in SOURCES}
        before = {row.id for row in world.snapshots()}
        backups = [in_background(partial(world.backup, sources[name], source=name)) for name in SOURCES]
        others = [in_background(lambda: forget_and_prune(world)), in_background(lambda: run_prune(world))]
        time.sleep(rng.uniform(0.0, 0.6))
        victim = rng.choice([*backups, *others])
        os.kill(victim, signal.SIGKILL)
        for child in (*backups, *others):
            code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
            assert code == 0 or child == victim, (number, code)
        for row in world.snapshots():
            if row.id not in before:
                looks[row.id] = portrait(root / row.source)
    forget_all_but_newest(world)
    for _ in range(2):
        run_prune(world)
    check_kept(world, looks)
    check_space(world)


def check_kept(world, looks):
    kept = world.snapshots()
    assert {row.source for row in kept} == set(SOURCES)
    for row in kept:
        out = world.root / "out"
        assert world.restore(out, row, path=world.root / row.source).errors == []
        assert portrait(out) == looks[row.id]
        shutil.rmtree(out)
    verified = world.verify("full")
    assert (verified.missing, verified.damaged, verified.unrepairable) == ([], [], [])


def check_space(world):
    """Compare the stored size with that of a repository that holds only the retained trees."""
    stored = sum(
        path.stat().st_size for site in "abc" for path in (world.directory(site) / "packs").rglob("*") if path.is_file()
    )
    fresh = World(world.root / "fresh").found(copies=2)
    for name in SOURCES:
        fresh.backup(world.root / name, source=name)
    live = sum(
        path.stat().st_size for site in "abc" for path in (fresh.directory(site) / "packs").rglob("*") if path.is_file()
    )
    assert stored <= 1.35 * live
