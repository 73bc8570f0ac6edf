"""Prune and repair killed before every operation on a store: the next run finishes, and no retained data is lost."""

import os
import shutil
import sys
import traceback

import pytest
from thoroughness import STRIDE
from three_sites import World, fill, noise, portrait

from drtool.events import ignore
from drtool.manifest.ops import ForgetSnapshots
from drtool.operations.prune import PruneRequest, prune
from drtool.operations.repair import RepairRequest, repair
from drtool.repository.forgotten import forget_here
from drtool.stores import LocalStore

WRITES = ("put", "put_if_absent", "delete")
DIED = 9


def die_before(step):
    """From now on this process dies before its `step`-th write to any store, as by signal 9."""
    count = 0
    for name in WRITES:
        plain = getattr(LocalStore, name)

        def counting(self, *words, plain=plain):
            nonlocal count
            count += 1
            if count == step:
                os._exit(DIED)
            return plain(self, *words)

        setattr(LocalStore, name, counting)


def in_child(work, step):
    """Return whether `work` died at `step` in a process of its own. It must not fail in any other way."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            die_before(step)
            work()
            code = 0
        except BaseException:  # noqa: BLE001 - a forked child must not run on as the parent
            traceback.print_exc(file=sys.stderr)
        finally:
            os._exit(code)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert code in (0, DIED)
    return code == DIED


def run_prune(world):
    with world.open() as repository:
        return prune(repository, PruneRequest(now_ns=10**18), ignore)


def run_repair(world):
    with world.open() as repository:
        return repair(repository, RepairRequest(), ignore)


def killed_everywhere(root, world, work, finished):
    """Kill `work` at each step, each time from the same start, then run it to its end and check."""
    base = root / "base"
    live = [name for name in os.listdir(root) if name != "base"]
    base.mkdir()
    for name in live:
        shutil.copytree(root / name, base / name)
    step = 1 - STRIDE
    died = True
    while died:
        step += STRIDE
        for name in live:
            shutil.rmtree(root / name)
            shutil.copytree(base / name, root / name)
        died = in_child(lambda: work(world), step)
        check_restores(root, world)
        if died:
            work(world)
        finished(world, step)
        check_restores(root, world)
    return step


def check_restores(root, world):
    out = root / "out"
    result = world.restore(out, path=root / "source")
    assert result.errors == []
    assert portrait(out) == portrait(root / "source")
    shutil.rmtree(out)


@pytest.mark.sampled
def test_prune_killed_before_every_write(place):
    root = place
    world = World(root, ("a/main",)).found(copies=1)
    source = root / "source"
    for number in range(3):
        fill(source, {"same": noise(40_000, 99)} | {f"{i}": noise(40_000, 10 * number + i) for i in range(number, 4)})
        world.backup(source)
    with world.open() as repository:
        old = [row.id for row in repository.view.state.snapshots][:-1]
        forget_here(repository, ForgetSnapshots(tuple(old)))
    with world.open() as repository:
        would = prune(repository, PruneRequest(now_ns=10**18, dry_run=True), ignore)
    assert would.removed.packs > 0
    assert would.repacked.packs > 0

    def finished(world, step):
        run_prune(world)
        state = world.view().state
        assert (state.condemned, state.removing, state.forgotten, state.sessions) == (None, (), (), ()), step
        with world.open() as repository:
            named = {row.pack.hex() for row in repository.index.packs()}
        assert {path.name for path in (root / "a" / "packs").rglob("*") if path.is_file()} == named, step

    assert killed_everywhere(root, world, run_prune, finished) > 15


@pytest.mark.sampled
def test_repair_killed_before_every_write(place):
    root = place
    world = World(root, ("a/main", "b/main", "c/main")).found(copies=2)
    world.directory("c").rename(root / "away")
    fill(root / "source", {f"{i}": noise(40_000, i) for i in range(4)})
    world.backup(root / "source")
    (root / "away").rename(world.directory("c"))

    def finished(world, step):
        result = world.verify("full")
        assert (result.missing, result.damaged, result.degraded, result.misplaced) == ([], [], False, 0), step
        assert world.view().state.sessions == (), step

    assert killed_everywhere(root, world, run_repair, finished) > 5
