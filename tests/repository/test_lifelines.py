"""When a process is proven gone, and when nothing is proven: clones, reboots, containers, hidden and reused process ids."""

import os
import shutil
import signal
import time
from contextlib import closing, contextmanager

import pytest
from three_sites import in_a_child

from drtool.repository import identity, lifelines, processes
from drtool.repository.identity import identify, process_of
from drtool.repository.processes import ClockWatch, life_of, start_time

OTHER_BOOT = "11111111-2222-3333-4444-555555555555"
CONTAINER = "pid:[4026539999]"


@contextmanager
def another_process(world):
    """Start a process that opens a session and runs until it is killed. Return its id and the session."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            with world.open() as repository, closing(repository.writer()) as writer:
                repository.begin(writer, "home", "mover")
                os.write(writing, b"!")
                signal.pause()
        finally:
            os._exit(1)
    try:
        assert os.read(reading, 1) == b"!"
        (session,) = world.view().state.sessions
        yield child, session
    finally:
        end(child)
        os.close(reading)
        os.close(writing)


def end(child):
    if start_time(child) is not None:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def seen_from(world, session):
    with world.open() as repository:
        return process_of(session, identify(repository))


def in_a_container(monkeypatch):
    """From here on, this process sees another numbering of processes, on the same kernel and in the same state directory."""
    monkeypatch.setattr(identity, "pid_namespace", lambda: CONTAINER)


def test_a_process_of_this_state_directory_is_alive_until_it_is_killed(world):
    with another_process(world) as (child, session):
        assert seen_from(world, session) == "alive"
        os.kill(child, signal.SIGSTOP)
        assert seen_from(world, session) == "alive", "stopped is not gone"
        end(child)
        assert seen_from(world, session) == "gone"


def test_another_boot_proves_nothing(world, monkeypatch):
    with another_process(world) as (child, session):
        end(child)
        monkeypatch.setattr(identity, "_read", lambda path: OTHER_BOOT if path.endswith("boot_id") else "machine")
        assert seen_from(world, session) in ("unknown", "elsewhere")


def test_a_clone_with_the_same_machine_id_proves_nothing_at_any_boot(world, monkeypatch):
    """The state directory was copied before the session began: a clone that was resumed from memory has even the same boot."""
    shutil.copytree(world.root / "state", world.root / "cloned")
    clone = world.elsewhere("clone")
    clone.state = "cloned"
    with another_process(world) as (child, session):
        end(child)
        assert seen_from(world, session) == "gone"
        assert seen_from(clone, session) == "unknown"
        read = identity._read
        monkeypatch.setattr(identity, "_read", lambda path: OTHER_BOOT if path.endswith("boot_id") else read(path))
        assert seen_from(clone, session) == "unknown"


def test_a_copy_of_the_state_directory_that_has_the_lifeline_proves_nothing_either(world, monkeypatch):
    """A container that was committed to an image while it ran, and started again beside it."""
    with another_process(world) as (_, session):
        shutil.copytree(world.root / "state", world.root / "cloned")
        clone = world.elsewhere("clone")
        clone.state = "cloned"
        in_a_container(monkeypatch)
        assert seen_from(clone, session) == "unknown"


def test_two_containers_that_share_a_state_volume_see_by_the_lock_when_the_other_has_ended(world, monkeypatch):
    with another_process(world) as (child, session):
        in_a_container(monkeypatch)
        assert seen_from(world, session) == "unknown"
        end(child)
        assert seen_from(world, session) == "gone"


def test_a_lock_on_a_network_file_system_proves_nothing(world, monkeypatch):
    with another_process(world) as (child, session):
        in_a_container(monkeypatch)
        monkeypatch.setattr(lifelines, "file_system_of", lambda _: "nfs4")
        end(child)
        assert seen_from(world, session) == "unknown"


def test_a_dead_mover_of_a_container_is_ended_by_the_next_one(world, monkeypatch):
    with another_process(world) as (child, _):
        end(child)
        in_a_container(monkeypatch)
        with world.open() as repository, closing(repository.writer()) as writer:
            mover = repository.begin(writer, "", "mover")
            assert [row.id for row in repository.view.state.sessions] == [mover.id]
            mover.abandon()
            assert list(repository.lifelines.iterdir()) == []


def test_a_session_that_is_over_leaves_no_file(world):
    with world.open() as repository, closing(repository.writer()) as writer:
        session = repository.begin(writer, "", "mover")
        assert [path.name for path in repository.lifelines.iterdir()] == [session.id.hex()]
        session.abandon()
        assert list(repository.lifelines.iterdir()) == []


def test_files_of_sessions_that_others_have_ended_are_swept_away_and_those_in_use_stay(world):
    def die():
        with world.open() as repository:
            repository.begin(repository.writer(), "dead")
            os._exit(0)

    assert in_a_child(die) == 0
    with world.open() as repository, closing(repository.writer()) as writer:
        first = repository.begin(writer, "first")
        second = repository.begin(writer, "second")
        assert {path.name for path in repository.lifelines.iterdir()} == {first.id.hex(), second.id.hex()}


def test_a_file_that_no_session_of_the_catalogue_names_stays_for_a_day(world):
    """A request of a killed run may arrive after its death. Its session is then listed, and this file proves its end."""
    with world.open() as repository, closing(repository.writer()) as writer:
        repository.begin(writer, "first")
        early = repository.lifelines / (b"e" * 16).hex()
        early.touch()
        late = repository.lifelines / (b"l" * 16).hex()
        late.touch()
        day_ago = time.time() - lifelines.STALE_S - 60
        os.utime(late, (day_ago, day_ago))
        repository.begin(writer, "second")
        assert early.exists()
        assert not late.exists()


def test_where_a_lifeline_cannot_be_written_the_session_works_and_nothing_is_proven(world):
    with world.open() as repository:
        repository.lifelines.write_text("a file where the directory should be")
        with closing(repository.writer()) as writer:
            repository.begin(writer, "home").abandon()
    assert world.view().state.sessions == ()
    with another_process(world) as (child, session):
        end(child)
        assert seen_from(world, session) == "unknown"


def test_a_process_id_that_is_used_again_is_another_process():
    started = start_time(os.getpid())
    assert life_of(os.getpid(), started) == "alive"
    assert life_of(os.getpid(), started + 1) == "gone"
    assert life_of(os.getpid(), 0) == "unknown", "the writer could not tell when it started"
    assert life_of(0, 0) == life_of(-1, 5) == "unknown"


def test_a_process_that_this_user_may_not_see_is_not_taken_for_gone(monkeypatch):
    def hidden(_pid, _signal):
        raise PermissionError(1, "operation not permitted")

    monkeypatch.setattr(processes, "_stat", lambda _: None)
    assert life_of(os.getpid(), 7) == "unknown"
    with monkeypatch.context() as patch:
        patch.setattr(processes.os, "kill", hidden)
        assert life_of(4711, 7) == "unknown"
    child = os.fork()
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)
    assert life_of(child, 7) == "gone"


def test_another_time_namespace_is_another_numbering(monkeypatch):
    """Start times are counted from another moment there: a living process would seem to be another one."""
    plain = processes.pid_namespace()
    monkeypatch.setattr(processes, "_time_namespace", lambda: "time:[4026532999]")
    assert processes.pid_namespace() == f"{plain} time:[4026532999]"


@pytest.mark.parametrize(
    ("after", "still"),
    [
        ((0.1, 0.1, 0.1), False),
        ((60.0, 60.0, 60.0), True),  # SIGSTOP: the clocks went on, this process did not
        ((60.0, 0.1, 60.0), True),  # suspended: the monotonic clock stood still
        ((0.1, 0.1, 86400.0), True),  # a snapshot was resumed, and the wall clock was corrected since
        ((0.1, 0.1, -86400.0), True),  # the clock was set
        ((-5.0, 0.1, 0.1), True),
    ],
    ids=["at-work", "stopped", "suspended", "restored", "set-back", "backwards"],
)
def test_a_pause_is_recognised_from_the_clocks(monkeypatch, after, still):
    now = [1000.0, 1000.0, 1_700_000_000.0]
    monkeypatch.setattr(processes, "boot_time_s", lambda: now[0])
    monkeypatch.setattr(processes.time, "monotonic", lambda: now[1])
    monkeypatch.setattr(processes.time, "time", lambda: now[2])
    watch = ClockWatch()
    now[:] = [before + more for before, more in zip(now, after, strict=True)]
    assert watch.stood_still() == still
    assert not watch.stood_still(), "each pause is reported once"
