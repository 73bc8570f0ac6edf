"""Removal of copies: one mover at a time, which no clone can prove dead, and only while the other copies are whole."""

import os
import shutil
from contextlib import contextmanager

import pytest
from targets_world import add, drain, good_copies, live, move, set_to, stock
from three_sites import World, in_a_child

from drtool.events import ignore
from drtool.manifest.ops import ExpireSession
from drtool.operations.doctor.catalogue import gather_catalogue
from drtool.operations.rebalance import run
from drtool.operations.repair import RepairRequest, repair
from drtool.operations.repair.run import exit_code as repair_exit_code
from drtool.repository import ending, identity, surplus
from drtool.repository.copying import Amount
from drtool.repository.ending import SILENT_S, blocking_mover, open_mover
from drtool.stores import LocalStore

OTHER_BOOT = "11111111-2222-3333-4444-555555555555"


@pytest.fixture(scope="module")
def stocked_once(founded, tmp_path_factory):
    world = World(tmp_path_factory.mktemp("stocked"), keyrings=list(founded.keyrings))
    shutil.copytree(founded.root, world.root, dirs_exist_ok=True)
    stock(world)
    return world


@pytest.fixture
def stocked(stocked_once, place, monkeypatch):
    """A repository in which copies are to move from b to d."""
    monkeypatch.setattr(run, "PATIENCE_S", 0.0)
    shutil.copytree(stocked_once.root, place, dirs_exist_ok=True)
    world = World(place, keyrings=list(stocked_once.keyrings))
    add(world)
    drain(world, "b/main")
    return world


@contextmanager
def booted_as(monkeypatch, boot):
    """A stand-in for another machine, by its boot id."""
    read = identity._read
    with monkeypatch.context() as patch:
        patch.setattr(identity, "_read", lambda path: boot if path.endswith("boot_id") else read(path))
        yield


def clone_of(world):
    """The same host label, host id and machine id, in a copy of the state directory."""
    shutil.copytree(world.root / "state", world.root / "cloned")
    return World(world.root, world.targets, world.host, "cloned", keyrings=world.keyrings)


@pytest.fixture
def paused(stocked, monkeypatch):
    """Functions appended by the test, which run before the first copy is deleted."""
    first, plain = [], LocalStore.delete

    def delete(store, name):
        if first and name.startswith(("packs/", "index/")):
            first.pop()()
        return plain(store, name)

    monkeypatch.setattr(LocalStore, "delete", delete)
    return first


def test_a_clone_neither_ends_a_mover_at_work_nor_takes_copies_beside_it(stocked, paused, monkeypatch):
    """The other machine turns the ring back and moves everything back while the first is about to delete."""
    clone, results = clone_of(stocked), []

    def elsewhere():
        with booted_as(monkeypatch, OTHER_BOOT):
            set_to(clone, "b/main", active=True)
            drain(clone, "d/main")
            results.append(move(clone))

    paused.append(elsewhere)
    needed = live(stocked)
    mine = move(stocked)
    assert (results[0].stopped, results[0].removed) == ("mover-open", Amount())
    assert run.exit_code(results[0]) == 1
    assert mine.stopped == ""
    after = good_copies(stocked, *"abcd")
    assert {name for name in needed if after[name] < 2} == set()
    assert move(stocked).left == 0
    assert stocked.verify("full").degraded is False


def test_a_mover_of_an_earlier_boot_is_left_to_a_person_and_the_way_out_is_named(stocked, monkeypatch):
    with booted_as(monkeypatch, OTHER_BOOT), stocked.open() as repository:
        session = repository.begin(repository.writer(), "", "mover").id.hex()[:8]
    result = move(stocked)
    assert f"session {session}, a repair or rebalance on here" in result.why
    assert result.hint.endswith(f"drtool session expire {session} --force")
    with stocked.open() as repository:
        repository.manifest.commit(ExpireSession(blocking_mover(repository).id))
    assert move(stocked).removed.objects > 0


def test_a_mover_at_work_on_this_host_is_to_be_waited_for(stocked):
    with stocked.open() as repository:
        session = repository.begin(repository.writer(), "", "mover")
        assert open_mover(repository).hint == "wait until it is done"
        session.abandon()


def test_status_names_a_mover_and_after_an_hour_without_a_sign_of_life_it_is_a_problem(stocked, monkeypatch):
    with stocked.elsewhere("there").open() as other:
        session = other.begin(other.writer(), "", "mover")
        command = f"drtool session expire {session.id.hex()[:8]} --force"
        found = stocked.status()
        assert [row for row in found.problems if "session" in row] == []
        assert any("repair or rebalance on there" in row and command in row for row in found.notices)
        clock_ns = ending.time.time_ns
        monkeypatch.setattr(ending.time, "time_ns", lambda: clock_ns() + int(1e9 * SILENT_S) + 10**9)
        found = stocked.status()
        (line,) = (row for row in found.problems if command in row)
        assert "last heard of 60 min ago" in line
        assert found.exit_code == 7
        session.abandon()
    monkeypatch.undo()
    assert not any("session" in row for row in (*stocked.status().problems, *stocked.status().notices))


def test_a_mover_with_a_dead_process_here_is_a_notice_and_ends_with_the_next_one(stocked):
    def die():
        with stocked.open() as repository:
            repository.begin(repository.writer(), "", "mover")
            os._exit(0)

    assert in_a_child(die) == 0
    (line,) = (row for row in stocked.status().notices if "session" in row)
    assert "its process has ended, so the next repair or rebalance on that host ends it" in line
    assert move(stocked).stopped == ""


def test_doctor_names_the_mover_and_is_not_misled_by_its_private_copy_of_the_state(stocked, tmp_path):
    with stocked.open() as repository:
        session = repository.begin(repository.writer(), "", "mover")
        facts = gather_catalogue(stocked.spec(), tmp_path)
        assert facts.mover is not None
        text, hint, stuck = facts.mover
        assert (session.id.hex()[:8] in text, hint, stuck) == (True, "wait until it is done", False)
        session.abandon()


@pytest.mark.parametrize("batch", [1, 16])
def test_a_copy_stays_if_another_rots_before_it_goes_and_that_is_remembered(stocked, monkeypatch, batch):
    """The new copies were whole when they were written."""
    monkeypatch.setattr(surplus, "BATCH_OBJECTS", batch)
    plain, rotten = surplus.Surplus._take, []

    def rot_then_take(self, due, session):
        if not rotten:
            job = due[0].job
            path = stocked.directory(job.expected.desired[0]) / job.expected.name
            path.write_bytes(bytes(path.stat().st_size))
            rotten.append((job, good_copies(stocked, *"abcd")[job.expected.name]))
        return plain(self, due, session)

    monkeypatch.setattr(surplus.Surplus, "_take", rot_then_take)
    move(stocked)
    ((job, copies),) = rotten
    assert good_copies(stocked, *"abcd")[job.expected.name] == copies, "its surplus copy is still there"
    with stocked.open() as repository:
        assert (job.expected.desired[0], job.expected.name) in repository.findings.all()
        assert repair(repository, RepairRequest(), ignore).rebuilt.objects == 1
    move(stocked)
    assert stocked.verify("full").damaged == []


def test_a_mover_that_stood_still_looks_again_before_the_next_deletion(stocked, monkeypatch):
    """A snapshot of its machine was resumed: the session that it holds in memory is long over."""
    plain, met = surplus.remove, []

    def remove_one(targets, target, name):
        met.append(name)
        if len(met) == 1:
            with stocked.open() as other:
                other.manifest.commit(ExpireSession(blocking_mover(other).id))
        return plain(targets, target, name)

    monkeypatch.setattr(surplus, "remove", remove_one)
    monkeypatch.setattr(surplus.ClockWatch, "stood_still", lambda _: True)
    result = move(stocked)
    assert (len(met), result.stopped, run.exit_code(result)) == (1, "expired", 1)
    assert "why it ended" in result.hint


def test_a_repair_with_an_expired_session_fails_clearly(stocked, monkeypatch):
    def expire_first(self, batch):
        with stocked.open() as other:
            other.manifest.commit(ExpireSession(blocking_mover(other).id))
        return batch

    monkeypatch.setattr(surplus.Surplus, "_whole", expire_first)
    with stocked.open() as repository:
        result = repair(repository, RepairRequest(), ignore)
    assert (result.stopped, repair_exit_code(result), result.removed) == ("expired", 1, Amount())


def test_while_another_mover_has_the_turn_repair_makes_copies_and_warns(stocked):
    elsewhere = stocked.elsewhere("there")
    with elsewhere.open() as other:
        session = other.begin(other.writer(), "", "mover")
        with stocked.open() as repository:
            result = repair(repository, RepairRequest(), stocked.heard.append)
        assert (result.stopped, repair_exit_code(result), result.removed) == ("mover-open", 0, Amount())
        assert result.copied.objects > 0
        assert any(f"drtool session expire {session.id.hex()[:8]} --force" in words for words in stocked.warnings())
        session.abandon()


def test_two_machines_with_one_host_id_are_detected_and_separated(stocked, monkeypatch):
    """The clone has a copy of the state directory, and both write at the same time."""
    clone = clone_of(stocked)
    with stocked.open() as mine:
        session = mine.begin(mine.writer(), "home")
        with booted_as(monkeypatch, OTHER_BOOT):
            clone.view()
            assert clone.warnings() == [], "the session may be this machine's own, from before a reboot"
            host_id = identity.author(clone.root / clone.state, "").host_id
            session.checkpoint()
            clone.view()
        (words,) = clone.warnings()
        assert f"another machine with the host id of this one is at work: session {session.id.hex()[:8]}" in words
        assert identity.author(clone.root / clone.state, "").host_id != host_id == session_row(stocked, session).host_id
        with booted_as(monkeypatch, OTHER_BOOT), clone.open() as repository:
            row = session_row(stocked, session)
            assert identity.process_of(row, identity.identify(repository)) == "elsewhere"
        assert len(clone.warnings()) == 1
        session.abandon()


def test_after_a_reboot_a_host_keeps_its_id_and_warns_of_nothing(stocked, monkeypatch):
    with stocked.open() as mine:
        mine.begin(mine.writer(), "home")
    host_id = identity.author(stocked.root / stocked.state, "").host_id
    with booted_as(monkeypatch, OTHER_BOOT):
        for _ in range(3):
            stocked.view()
        assert identity.author(stocked.root / stocked.state, "").host_id == host_id
    assert stocked.warnings() == []


def session_row(world, session):
    return next(row for row in world.view().state.sessions if row.id == session.id)
