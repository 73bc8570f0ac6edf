"""Sessions: fenced by the manifest, ended by proof, reopened if one was ended too early."""

import os
import signal
from contextlib import closing

import pytest
from three_sites import fill, in_a_child, noise

from drtool.errors import DrtoolError
from drtool.manifest.ops import ExpireSession
from drtool.operations.backup import checkpoints
from drtool.operations.backup import run as backup_run
from drtool.repository.session import WriterSession
from drtool.repository.workers import WorkerPool


@pytest.fixture
def source(world):
    return fill(world.root / "source", {f"{i}": noise(40_000, i) for i in range(8)})


def sessions(world):
    return list(world.view().state.sessions)


def test_a_backup_leaves_no_session_behind(world, source):
    world.backup(source)
    assert sessions(world) == []


def test_a_session_that_another_host_expires_is_opened_again(world, source, monkeypatch):
    other = world.elsewhere("there")
    commit = WriterSession.commit
    ended = []

    def expired(session, snapshot, *more):
        with other.open() as repository:
            repository.manifest.commit(ExpireSession(session.id))
        ended.append(session.id)
        return commit(session, snapshot, *more)

    monkeypatch.setattr(WriterSession, "commit", expired)
    report = world.backup(source)
    (snapshot,) = world.snapshots()
    assert snapshot.id.hex() == report.id
    assert snapshot.session not in ended
    assert sessions(world) == []
    assert world.restore(world.root / "out").errors == []


def test_the_dead_sessions_of_this_host_are_ended_by_its_next_run(world, source):

    def begin_and_die():
        with world.open() as repository, closing(repository.writer()) as writer:
            repository.begin(writer, "home")
            os.kill(os.getpid(), signal.SIGKILL)

    assert in_a_child(begin_and_die) == -signal.SIGKILL
    (dead,) = sessions(world)
    world.elsewhere("there").backup(source)
    assert sessions(world) == [dead], "another host cannot find out that it is dead"
    world.backup(source)
    assert sessions(world) == []


def test_a_living_session_of_this_host_is_left_alone(world, source):
    with world.open() as repository, closing(repository.writer()) as writer:
        session = repository.begin(writer, "home")
        world.backup(source)
        assert [row.id for row in sessions(world)] == [session.id]
        session.abandon()
    assert sessions(world) == []


def test_a_session_of_another_boot_is_not_proven_dead(world, source, monkeypatch):
    """It may be this machine's before a reboot, or one of a machine that was cloned from it and runs."""
    from drtool.repository import identity

    read = identity._read
    with monkeypatch.context() as patch:
        patch.setattr(identity, "_read", lambda path: "earlier" if path.endswith("boot_id") else read(path))
        with world.open() as repository, closing(repository.writer()) as writer:
            session = repository.begin(writer, "home")
    world.backup(source)
    assert [row.id for row in sessions(world)] == [session.id]


def test_the_next_run_finds_packs_of_a_failed_one(world, source, monkeypatch):
    monkeypatch.setattr(checkpoints, "CHECKPOINT_BYTES", 100_000)
    take = backup_run.Feeder.take

    def stop(feeder, found):
        take(feeder, found)
        if found.fresh:
            raise DrtoolError("something else went wrong")

    with monkeypatch.context() as patch:
        patch.setattr(backup_run.Feeder, "take", stop)
        with pytest.raises(DrtoolError, match="something else"):
            world.backup(source)
    assert (sessions(world), world.snapshots()) == ([], [])
    report = world.backup(source)
    assert report.added_bytes < 10_000, "only the trees"


@pytest.mark.parametrize("workers", [1, 3])
def test_a_killed_worker_ends_the_run_with_one_sentence(world, source, monkeypatch, workers):
    world.workers = workers
    submit = WorkerPool.submit

    def kill_first(pool, request):
        if pool._pids[0]:
            os.kill(pool._pids[0], signal.SIGKILL)
        return submit(pool, request)

    with monkeypatch.context() as patch:
        patch.setattr(WorkerPool, "submit", kill_first)
        with pytest.raises(DrtoolError, match="killed by signal 9"):
            world.backup(source)
    assert (sessions(world), world.snapshots()) == ([], [])
    world.backup(source)
    assert world.restore(world.root / "out").errors == []
