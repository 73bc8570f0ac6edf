"""Ctrl-C is not a failure of the current item: the command ends at once with its own exit code."""

import os
import signal
import threading
import time

import pytest
from three_sites import fill, in_a_child, noise

from drtool.errors import DrtoolError, Interrupted
from drtool.events import SnapshotStored
from drtool.operations.restore.feeding import Feeder
from drtool.operations.verify import reading
from drtool.trees import walk

MIB = 1024 * 1024


def interrupt(caught, _frame):
    raise Interrupted(caught)


def test_no_handler_of_failures_takes_an_interruption_for_one():
    assert not issubclass(Interrupted, Exception)
    assert not issubclass(Interrupted, DrtoolError)


def test_an_interruption_while_a_large_file_is_handed_over_ends_the_restore(world, monkeypatch):
    """It used to become one row of `errors`, and the restore went on."""
    source = fill(world.root / "source", {"large": noise(20 * MIB, 1), "zzz": noise(5 * MIB, 2)})
    world.backup(source)
    out = world.root / "out"

    def run():
        signal.signal(signal.SIGINT, interrupt)
        part = Feeder._part

        def interrupted(feeder, *words):
            part(feeder, *words)
            os.kill(os.getpid(), signal.SIGINT)

        monkeypatch.setattr(Feeder, "_part", interrupted)
        with pytest.raises(Interrupted):
            world.restore(out, path=source)

    assert in_a_child(run) == 0
    assert list(out.iterdir()) == []


def test_an_interruption_while_a_block_is_read_blames_no_copy(world, monkeypatch):
    """A listing reads trees in this process, and the copy in use stays good."""
    source = fill(world.root / "source", {"file": b"text"})
    world.backup(source)

    def interrupted(_name):
        raise Interrupted(signal.SIGINT)

    with world.open() as repository:
        repository.load_index()
        (snapshot,) = repository.view.state.snapshots
        monkeypatch.setattr(repository.targets, "store", interrupted)
        with pytest.raises(Interrupted):
            list(walk(snapshot.root, b"/", repository.chunks))
        assert repository.objects.bad_copies == {}


def test_an_interrupted_verification_reads_no_more_than_it_has_begun(world, monkeypatch):
    source = world.root / "source"
    for number in range(4):
        world.backup(fill(source, {f"{number}/{i}": noise(3000, 10 * number + i) for i in range(3)}))
    begun = []
    lock = threading.Lock()

    def slow(*_):
        with lock:
            begun.append(None)
            first = len(begun) == 1
        if first:
            os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.2)
        return ""

    def run():
        signal.signal(signal.SIGINT, interrupt)
        monkeypatch.setattr(reading, "problem_with", slow)
        with pytest.raises(Interrupted):
            world.verify("full")
        assert len(begun) <= 6

    assert in_a_child(run) == 0


def test_a_commit_is_reported_before_anything_else_can_happen(world):
    source = fill(world.root / "source", {"file": b"x"})
    report = world.backup(source, source="home")
    assert [event for event in world.heard if isinstance(event, SnapshotStored)] == [
        SnapshotStored(snapshot=report.id, source="home")
    ]
