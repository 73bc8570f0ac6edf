"""The progress of a backup: its figures move while data is read and written, and its totals are honest."""

import os
import socket
import threading
import time
from itertools import pairwise

import pytest
from three_sites import fill, noise

from drtool.events import Progress
from drtool.model import TargetName
from drtool.operations.backup import SourceJob, progress
from drtool.operations.backup.progress import FileCount
from drtool.operations.backup.scan import Scan
from drtool.repository.put_meter import PutMeter

MIB = 2**20
DESK, NAS = TargetName("desk/main"), TargetName("nas/main")


@pytest.fixture
def home(world):
    return fill(world.root / "home", {"disk.img": noise(56 * MIB), "notes/a": b"a", "notes/b": b"b"})


def progress_of(world, path, monkeypatch, **request):
    monkeypatch.setattr(progress, "INTERVAL_S", 0.0)
    before = len(world.heard)
    with world.open() as repository:
        job = SourceJob(name="", paths=(os.fsencode(path),))
        (report,) = world.run_jobs(repository, job, shows_progress=True, **request).snapshots
    return [event for event in world.heard[before:] if isinstance(event, Progress)], report


def test_every_figure_moves_within_one_large_file_and_ends_as_the_report(world, home, monkeypatch):
    shown, report = progress_of(world, home, monkeypatch)
    middle = [event for event in shown if 0 < event.processed_bytes < 54 * MIB]
    assert len({event.processed_bytes for event in middle}) >= 3
    assert any(0 < event.stored_bytes < report.stored_bytes for event in middle)
    for name in ("processed_bytes", "added_bytes", "stored_bytes", "files"):
        figures = [getattr(event, name) for event in shown]
        assert all(earlier <= later for earlier, later in pairwise(figures)), name
    assert middle[0].item == str(home / "disk.img")
    assert {event.source for event in shown} == {str(home)}
    last = shown[-1]
    assert (last.files, last.processed_bytes) == (3, report.processed_bytes)
    assert last.stored_bytes == report.stored_bytes


def test_the_totals_are_estimated_from_the_parent_and_withdrawn_when_too_small(world, home, monkeypatch):
    parent = world.backup(home)
    (home / "disk.img").write_bytes(noise(12 * MIB, seed=2))
    shown, _ = progress_of(world, home, monkeypatch)
    assert {(event.total_bytes, event.total_is_estimate) for event in shown} == {(parent.processed_bytes, True)}
    fill(home, {f"notes/{number}": b"x" for number in range(9)} | {"more.img": noise(50 * MIB, seed=3)})
    shown, report = progress_of(world, home, monkeypatch)
    assert shown[-1].total_bytes is None
    assert shown[-1].processed_bytes == report.processed_bytes
    assert all(event.processed_bytes <= event.total_bytes for event in shown if event.total_bytes is not None)


def test_a_count_applies_the_rules_of_the_backup(world):
    home = fill(
        world.root / "home",
        {
            "a": b"12345",
            "cache/b": b"1234567",
            "deep/er/c": b"1",
            "deep/big": bytes(5000),
            "deep/.drtoolignore": b"*.tmp\n",
            "deep/er/x.tmp": b"123",
        },
    )
    (home / "link").symlink_to("a")
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(os.fsencode(home / "socket"))
    job = SourceJob(
        name="",
        paths=(os.fsencode(home),),
        excludes=("cache",),
        larger_than_bytes=4000,
        ignore_files=True,
    )
    with listening, world.open() as repository:
        (report,) = world.run_jobs(repository, job).snapshots
        count = FileCount(Scan(job, print).new_rules())
        ends_at = time.monotonic() + 10
        while count.result() is None:
            assert time.monotonic() < ends_at
            time.sleep(0.005)
    assert (count.result().files, count.result().size_bytes) == (report.files.new, report.processed_bytes)


def test_a_count_that_is_not_needed_any_more_ends_at_once(world, home):
    count = FileCount(Scan(SourceJob(name="", paths=(b"/usr",)), print).new_rules())
    began_s = time.monotonic()
    count.close()
    assert time.monotonic() - began_s < 2
    assert count.result() is None


def test_a_meter_adds_up_what_several_processes_wrote():
    meter = PutMeter([DESK, NAS], 3)
    pid = os.fork()
    if pid == 0:
        for target, size_bytes in ((DESK, 100), (NAS, 20)):
            with meter.counter(1).putting(target, size_bytes):
                pass
        os._exit(0)
    assert os.waitpid(pid, 0)[1] == 0
    with meter.counter(2).putting(NAS, 3):
        pass
    with pytest.raises(OSError), meter.counter(2).putting(NAS, 1000):
        raise OSError
    with meter.counter(2).putting(TargetName("added/later"), 7):
        pass
    assert meter.stored_bytes() == 123
    assert meter.waiting_s(0.0) == {}


def test_a_target_is_slow_only_while_it_answers_no_process():
    meter = PutMeter([DESK, NAS], 2)
    counter, release = meter.counter(0), threading.Event()

    def write():
        with counter.putting(NAS, 1):
            release.wait(30)

    threads = [threading.Thread(target=write) for _ in range(2)]
    for thread in threads:
        thread.start()
    ends_at = time.monotonic() + 10
    while not (waits := meter.waiting_s(0.2)):
        assert time.monotonic() < ends_at
        time.sleep(0.01)
    assert list(waits) == [NAS]
    assert waits[NAS] >= 0.2
    with counter.putting(NAS, 1):
        pass
    assert meter.waiting_s(0.2) == {}, "it has just answered"
    release.set()
    for thread in threads:
        thread.join()
    assert meter.waiting_s(0.0) == {}


def test_a_writer_that_waits_is_idle_now_and_then(monkeypatch):
    from concurrent.futures import Future

    from drtool.repository import writing
    from drtool.repository.targets import Targets

    monkeypatch.setattr(writing, "IDLE_S", 0.01)
    writer, pending, calls = writing.Writer(Targets({})), Future(), []

    def idle():
        calls.append(1)
        if len(calls) == 3:
            pending.set_result(None)

    writer.idle = idle
    assert writer.wait([pending], None)
    assert len(calls) == 3
    assert not writer.wait([Future()], 0.03)
