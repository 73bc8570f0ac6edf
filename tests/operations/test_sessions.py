"""Open sessions, and the expiry of a session with a lost writer."""

import time

import pytest
from three_sites import World, fill, in_a_child, noise

from drtool.errors import DrtoolError, Refused, UsageError
from drtool.operations.sessions import expire, plan_expiry, sessions


def test_a_writer_at_work_is_listed_and_not_ended_without_force(world):
    with world.open() as repository:
        session = repository.begin(repository.writer(), "home")
        (row,) = sessions(repository).sessions
        assert (row.id, row.kind, row.source, row.host) == (session.id.hex(), "backup", "home", "here")
        assert row.process == "alive"
        assert row.opened_sequence == row.renewed_sequence == repository.view.sequence
        assert row.opened_ns is not None
        assert 0 <= row.opened_age_seconds < 60
        with pytest.raises(Refused) as caught:
            plan_expiry(repository, row.id[:6], force=False, dry_run=False)
        assert caught.value.exit_code == 11
        expire(repository, plan_expiry(repository, row.id[:6], force=True, dry_run=False))
        assert sessions(repository).sessions == []


def test_a_writer_that_was_ended_begins_again_and_loses_nothing(world):
    source = fill(world.root / "source", {"file": noise(50_000)})
    with world.open() as repository:
        session = repository.begin(repository.writer(), "home")
        expire(repository, plan_expiry(repository, session.id.hex(), force=True, dry_run=False))
        session.checkpoint()
        assert [row.id for row in sessions(repository).sessions] == [session.id.hex()]
        session.abandon()
    world.backup(source)
    world.restore(world.root / "out")


def test_when_it_began_stays_known_after_a_renewal(world):
    with world.open() as repository:
        before_ns = time.time_ns()
        session = repository.begin(repository.writer(), "")
        opened = repository.view.sequence
        session.checkpoint()
        (row,) = sessions(repository).sessions
        assert (row.opened_sequence, row.renewed_sequence) == (opened, opened + 1)
        assert before_ns - 1000 <= row.opened_ns <= row.renewed_ns
        session.abandon()


def test_a_dead_process_and_one_of_another_host_are_distinguished(world):
    def die() -> None:
        with world.open() as repository:
            repository.begin(repository.writer(), "dead")

    assert in_a_child(die) == 0
    elsewhere = World(world.root, world.targets, "there", "state-there", keyrings=world.keyrings)
    with elsewhere.open() as repository:
        repository.begin(repository.writer(), "far")
    with world.open() as repository:
        assert {row.source: row.process for row in sessions(repository).sessions} == {
            "dead": "gone",
            "far": "elsewhere",
        }
        for row in sessions(repository).sessions:
            expire(repository, plan_expiry(repository, row.id, force=False, dry_run=False))
        assert not sessions(repository).sessions


def test_prefixes_that_mean_none_or_several(world):
    with world.open() as repository:
        for prefix, kind in (("", UsageError), ("ff" * 16, DrtoolError)):
            with pytest.raises(kind):
                plan_expiry(repository, prefix, force=False, dry_run=True)
        for _ in range(17):
            repository.begin(repository.writer(), "")
        first = [row.id[0] for row in sessions(repository).sessions]
        twice = next(digit for digit in first if first.count(digit) > 1)
        with pytest.raises(DrtoolError, match="sessions' ids begin with"):
            plan_expiry(repository, twice, force=True, dry_run=True)
