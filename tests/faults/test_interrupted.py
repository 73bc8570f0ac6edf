"""SIGTERM, Ctrl-C and a lost terminal during a run: it ends cleanly, and stored data is reused."""

import os
import signal

import pytest
from three_sites import fill, in_a_child, noise, portrait

from drtool.errors import Interrupted
from drtool.operations.backup import run as backup_run
from drtool.operations.restore.feeding import Feeder

MIB = 1024 * 1024


@pytest.mark.parametrize("at", [1, 4, 9, 14])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.spread(4)
def test_an_interrupted_backup_keeps_what_it_stored(world, monkeypatch, at, number):
    """The signal comes at some tick of the run. The session ends, and the next run stores only the rest."""
    source = fill(world.root / "source", {f"{n}/{i}": noise(100_000, 10 * n + i) for n in range(4) for i in range(10)})
    world.workers = 2
    monkeypatch.setattr("drtool.operations.backup.feeding.BATCH_FILES", 4)

    def interrupt(caught, _frame):
        raise Interrupted(caught)

    tick = backup_run.BackupRun._tick
    ticks = []

    def ticking(run):
        ticks.append(None)
        if len(ticks) == at:
            os.kill(os.getpid(), number)
        tick(run)

    def run():
        signal.signal(number, interrupt)
        monkeypatch.setattr(backup_run.BackupRun, "_tick", ticking)
        with pytest.raises(Interrupted):
            world.backup(source)

    assert in_a_child(run) == 0
    view = world.view()
    assert (list(view.state.snapshots), list(view.state.sessions)) == ([], [])
    report = world.backup(source)
    if at >= 14:
        assert report.added_bytes < 3_900_000, "some data was kept"
    assert world.restore(world.root / "out", path=source).errors == []
    assert portrait(world.root / "out") == portrait(source)
    result = world.verify()
    assert (result.missing, result.damaged) == ([], [])


@pytest.mark.parametrize("overwrite", ["always", "if-changed"])
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
@pytest.mark.spread(4)
def test_a_restore_that_was_cut_off_is_completed_by_the_next(world, monkeypatch, overwrite, number):
    source = fill(world.root / "source", {f"{n}/{i}": noise(80_000, 10 * n + i) for n in range(4) for i in range(10)})
    fill(source, {"0/large": noise(20 * MIB, 1), "3/large": noise(5 * MIB, 2)})
    world.backup(source)
    out = world.root / "out"

    def interrupt(caught, _frame):
        raise Interrupted(caught)

    def run():
        signal.signal(signal.SIGTERM, interrupt)
        handle = Feeder._handle
        handled = []

        def handling(feeder, reply):
            handled.append(None)
            if len(handled) == 2:
                os.kill(os.getpid(), number)
            handle(feeder, reply)

        monkeypatch.setattr(Feeder, "_handle", handling)
        with pytest.raises(Interrupted):
            world.restore(out, path=source)

    assert in_a_child(run) == (0 if number == signal.SIGTERM else -number)
    wanted = portrait(source)
    for name, row in portrait(out).items():
        if number == signal.SIGTERM:
            assert name in wanted, "a clean end leaves no temporary names"
        if row[0].startswith("0o100") and name in wanted and row[3] == wanted[name][3]:
            assert row == wanted[name], "a file with its final time is complete"
    assert world.restore(out, path=source, overwrite=overwrite).errors == []
    left = portrait(out)
    assert {name: row for name, row in left.items() if b"/.drtool-" not in name} == wanted
