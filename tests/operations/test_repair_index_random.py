"""Backups, prunes, lost index segments and repairs in any order, some of them killed: in the end everything is there."""

import os
import random
import shutil
import signal

import pytest
from test_prune import forget
from test_prune import run as run_prune
from thoroughness import spread
from three_sites import World, fill, in_a_child, noise, portrait

from drtool.errors import Refused
from drtool.manifest.facade import Manifest
from drtool.operations.repair import RepairRequest, repair
from drtool.operations.repair.run import exit_code
from drtool.stores import LocalStore

ACTS = (
    "backup",
    "backup",
    "elsewhere",
    "forget",
    "prune",
    "lose",
    "lose",
    "no cache",
    "repair",
    "killed",
    "killed prune",
)


def mend(world):
    with world.open() as repository:
        return exit_code(repair(repository, RepairRequest(), world.heard.append))


def give_room_back(world):
    try:
        run_prune(world, unused_share=0.0, yes=True)
    except Refused:
        pass  # the index has lost something: nothing is removed until a repair


def lose_some(world, rng):
    gone = {ref.id.hex() for ref in world.view().state.segments if rng.random() < 0.6}
    for site in "abc":
        for path in world.objects(site, "index"):
            if path.name in gone:
                path.unlink()


def killed_at(call, action):
    """`action` in a process of its own, which is killed at its `call`th write, deletion or commit."""
    left = [call]

    def counted(plain):
        def counting(self, *args):
            left[0] -= 1
            if not left[0]:
                os.kill(os.getpid(), signal.SIGKILL)
            return plain(self, *args)

        return counting

    def child():
        Manifest.commit = counted(Manifest.commit)
        LocalStore.put, LocalStore.delete = counted(LocalStore.put), counted(LocalStore.delete)
        action()

    assert in_a_child(child) in (0, -signal.SIGKILL)


def act(name, world, rng):
    match name:
        case "forget" if len(world.snapshots()) > 1:
            forget(world, rng.choice(world.snapshots()))
        case "prune":
            give_room_back(world)
        case "lose":
            lose_some(world, rng)
        case "no cache":
            shutil.rmtree(world.root / "cache", ignore_errors=True)
        case "repair":
            assert mend(world) == 0
        case "killed":
            killed_at(rng.randrange(1, 12), lambda: mend(world))
        case "killed prune":
            killed_at(rng.randrange(1, 25), lambda: give_room_back(world))


@pytest.mark.parametrize("seed", spread(range(8), 4))
def test_in_any_order_everything_is_there_in_the_end(place, seed):
    rng = random.Random(seed)
    world = World(place).found(1 + seed % 3)
    source, looks = place / "source", {}
    for _ in range(14):
        name = rng.choice(ACTS)
        if name in ("backup", "elsewhere"):
            fill(source, {f"{rng.randrange(8)}": noise(rng.randrange(1000, 400_000), rng.random()) for _ in range(2)})
            host = world if name == "backup" else world.elsewhere("other")
            looks[host.backup(source).id] = portrait(source)
        else:
            act(name, world, rng)
    assert mend(world) == 0
    shutil.rmtree(place / "cache", ignore_errors=True)
    for _ in range(2):
        for row in world.snapshots():
            shutil.rmtree(place / "out", ignore_errors=True)
            assert world.restore(place / "out", row, path=source).errors == []
            assert portrait(place / "out") == looks[row.id.hex()]
        give_room_back(world)
        give_room_back(world)
    found = world.verify("full")
    assert (found.missing, found.damaged, found.unrepairable, found.degraded) == ([], [], [], False)
    assert world.view().state.sessions == ()
