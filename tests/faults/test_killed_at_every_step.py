"""A backup killed with SIGKILL at each of its steps: no promised data is lost, and the next run succeeds.

The steps are the system calls that change a target's directory: every open for writing, write, fsync, rename, link, mkdir and
unlink of every process of the run, in order. They are counted in shared memory, so that the steps of forked workers and
threads have numbers too.
"""

import mmap
import os
import signal
import struct

import pytest
from thoroughness import STRIDE
from three_sites import fill, in_a_child, noise, portrait

from drtool.stores import durable, local

STEPS_MAX = 400
CALLS = ("open", "write", "fsync", "rename", "link", "mkdir", "unlink")


class Countdown:
    """A counter shared by a process and its children. Reaching the step ends them all."""

    def __init__(self):
        self._memory = mmap.mmap(-1, 16)

    def arm(self, step):
        self._memory[:] = struct.pack("qq", 0, step)

    @property
    def taken(self):
        return struct.unpack("qq", self._memory[:])[0]

    def step(self):
        taken, last = struct.unpack("qq", self._memory[:])
        self._memory[:8] = struct.pack("q", taken + 1)
        if taken + 1 == last:
            os.killpg(0, signal.SIGKILL)


class CountedOs:
    """`os` as used by the local store, with counted changes."""

    def __init__(self, countdown):
        self._countdown = countdown

    def __getattr__(self, name):
        call = getattr(os, name)
        if name not in CALLS:
            return call

        def counted(*args, **more):
            writes = name != "open" or (len(args) > 1 and args[1] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT))
            if writes:
                self._countdown.step()
            return call(*args, **more)

        return counted


def killed_at(world, countdown, step, source):
    """Run a backup in a process group of its own that dies at `step`. Return its exit code, or 0 if it has fewer steps."""
    countdown.arm(step)

    def run():
        os.setpgid(0, 0)
        durable.os = local.os = CountedOs(countdown)
        world.backup(source)

    return in_a_child(run)


@pytest.fixture
def source(world):
    source = fill(world.root / "source", {f"{i % 2}/{i}": noise(9_000, i) for i in range(6)})
    world.backup(source)
    return source


def check(world, kept, number):
    """Open the repository and check that everything from before restores, and nothing is missing or corrupt."""
    for snapshot, picture in kept:
        out = world.root / f"out-{number}-{snapshot.id.hex()[:8]}"
        assert world.restore(out, snapshot, path=world.root / "source").errors == []
        assert portrait(out) == picture
    result = world.verify()
    assert (result.missing, result.damaged, result.affected, result.degraded) == ([], [], [], False)


@pytest.mark.sampled
def test_killed_at_every_step_nothing_promised_is_lost(world, source):
    first = (world.snapshots()[0], portrait(source))
    fill(source, {"1/new": noise(20_000, 77)})
    second = portrait(source)
    saved = world.root.parent / (world.root.name + "-saved")
    countdown = Countdown()
    steps = finished = 0
    try:
        os.rename(world.root, saved)
        for step in range(1, STEPS_MAX, STRIDE):
            copy(saved, world.root)
            code = killed_at(world, countdown, step, source)
            if code == 0:
                finished = step
                break
            assert code == -signal.SIGKILL
            steps += STRIDE
            before = len(world.snapshots())
            assert before in (1, 2), "an unacknowledged snapshot exists completely or not at all"
            report = world.backup(source)
            assert not report.degraded
            (*_, newest) = world.snapshots()
            if (
                step % (6 * STRIDE) == 1
            ):  # each step is killed and recovered from, but only some are read back completely
                check(world, [first, (newest, second)], step)
    finally:
        clear(saved)
    assert finished, "the run has more steps than this test tries"
    assert steps >= 40 - STRIDE
    assert finished - STRIDE <= countdown.taken < finished


def copy(saved, root):
    clear(root)
    os.makedirs(root)
    ended = os.spawnlp(os.P_WAIT, "cp", "cp", "-a", f"{saved}/.", str(root))
    assert ended == 0


def clear(root):
    import shutil

    shutil.rmtree(root, ignore_errors=True)
