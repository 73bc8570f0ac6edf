"""A host that sleeps for a day in the middle of a prune, repair or backup, and wakes up: nothing retained is harmed.

Real processes are stopped by SIGSTOP before a write to a store, as by closing a laptop. Meanwhile others work for a day.
"""

import os
import shutil
import signal
import sys
import time
import traceback

import pytest
from msgspec.structs import replace
from thoroughness import spread
from three_sites import fill, noise, portrait

from drtool.errors import Rejected
from drtool.events import ignore
from drtool.manifest.ops import ForgetSnapshots, SetRing
from drtool.operations.prune import PruneRequest, prune
from drtool.operations.repair import RepairRequest, repair
from drtool.operations.repair.run import exit_code
from drtool.operations.sessions import expire, plan_expiry
from drtool.repository.forgotten import forget_here
from drtool.repository.processes import STILL_S
from drtool.repository.session import Overtaken
from drtool.stores import LocalStore

DAY_NS = 24 * 3600 * 10**9
NOW_NS = 10**18
OVERTAKEN = 7


def sleep_before(step, only="", kinds=("put", "put_if_absent", "delete")):
    """Stop this process before its `step`-th write to a store."""
    count = 0
    for name in kinds:
        plain = getattr(LocalStore, name)

        def counting(self, *words, plain=plain):
            nonlocal count
            count += words[0].startswith(only)
            if count == step and words[0].startswith(only):
                os.kill(os.getpid(), signal.SIGSTOP)
            return plain(self, *words)

        setattr(LocalStore, name, counting)


def begun(work, step, **more):
    """Return a child that works and has fallen asleep, or None if it finished before."""
    child = os.fork()
    if child:
        status = os.waitpid(child, os.WUNTRACED)[1]
        return child if os.WIFSTOPPED(status) else None
    code = 1
    try:
        sleep_before(step, **more)
        work()
        code = 0
    except Overtaken:
        code = OVERTAKEN
    except SystemExit as ended:
        code = ended.code
    except BaseException:  # noqa: BLE001 - a forked child must not run on as the parent
        traceback.print_exc(file=sys.stderr)
    finally:
        os._exit(code)


def woken(child):
    os.kill(child, signal.SIGCONT)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def run_prune(world, now_ns=NOW_NS):
    with world.open() as repository:
        return prune(repository, PruneRequest(now_ns=now_ns, yes=True), ignore)


def forget(world, rows):
    with world.open() as repository:
        forget_here(repository, ForgetSnapshots(tuple(row.id for row in rows)))


def a_day_of(other):
    """Let a day pass: silent sessions expire, then backups and prunes continue."""
    run_prune(other)
    run_prune(other, NOW_NS + DAY_NS)
    source = fill(other.root / "other", {f"{i}": noise(40_000, 100 + i) for i in range(3)})
    other.backup(source, source="other")
    run_prune(other, NOW_NS + DAY_NS)
    return portrait(source)


def check(world, name, look):
    row = [row for row in world.snapshots() if row.source == name][-1]
    out = world.root / "out"
    assert world.restore(out, row, path=world.root / (name or "source")).errors == []
    assert portrait(out) == look
    shutil.rmtree(out)


def at_rest(world):
    """Check that the space is freed and no session is left."""
    run_prune(world, NOW_NS + 9 * DAY_NS)
    run_prune(world, NOW_NS + 9 * DAY_NS)
    state = world.view().state
    assert (state.condemned, state.removing, state.sessions, state.forgotten) == (None, (), (), ())
    with world.open() as repository:
        named = {row.pack.hex() for row in repository.index.packs()}
    for site in "abc":
        assert {path.name for path in world.objects(site)} <= named
    found = world.verify("full")
    assert (found.missing, found.damaged) == ([], [])


@pytest.fixture
def asleep(world):
    """Three snapshots of a shrinking tree, two of them forgotten, a host that sleeps, and another host."""
    source = world.root / "source"
    for number in range(3):
        fill(source, {f"{i}": noise(40_000, 10 * number + i) for i in range(number, 5)})
        world.backup(source)
    forget(world, world.snapshots()[:-1])
    return world, world.elsewhere("other"), portrait(source)


@pytest.mark.parametrize("step", spread([2, 5, 8, 11, 14, 17, 20, 24, 28, 33], 4))
def test_a_prune_that_slept(asleep, step):
    world, other, look = asleep
    child = begun(lambda: run_prune(world), step)
    theirs = a_day_of(other)
    if child is not None:
        assert woken(child) in (0, OVERTAKEN)
    check(world, "", look)
    check(world, "other", theirs)
    at_rest(world)
    check(world, "other", theirs)


@pytest.mark.parametrize(("step", "only"), spread([(3, ""), (6, ""), (1, "index/"), (2, "index/")], 2))
def test_a_backup_that_slept(asleep, step, only):
    """It sleeps before its session opens, and after it looked up everything that it references, which is gone when it wakes."""
    world, other, _ = asleep
    source = fill(world.root / "source", {"new": noise(50_000, 77), "newer": noise(50_000, 78)})
    look = portrait(source)
    child = begun(lambda: world.backup(source), step, only=only)
    forget(other, [row for row in other.snapshots() if row.source == ""])
    theirs = a_day_of(other)
    assert child is not None
    assert woken(child) == 0
    check(world, "", look)
    check(world, "other", theirs)
    at_rest(world)
    check(world, "", look)


@pytest.fixture
def mover(world):
    """A repository with one copy too many of some objects, and a process that falls asleep before it deletes the first."""
    world.directory("c").rename(world.root / "away")
    for number in range(20):  # enough for the ring to place some of them where nothing could be stored
        world.backup(fill(world.root / "source", {f"{number}": noise(20_000, number)}))
    (world.root / "away").rename(world.directory("c"))

    def work():
        with world.open() as repository:
            sys.exit(exit_code(repair(repository, RepairRequest(), ignore)))

    child = begun(work, 1, only="packs/", kinds=("delete",))
    assert child is not None
    return world, child, portrait(world.root / "source")


def set_ring(world, state):
    """Give site c this state; every other target stays."""
    with world.open() as repository:
        now = repository.view.state
        rows = tuple(replace(row, state=state if row.name == "c/main" else row.state) for row in now.targets)
        repository.manifest.commit(SetRing(now.ring_epoch + 1, rows))


def test_a_mover_that_slept_holds_its_session_and_no_target_goes(mover):
    world, child, look = mover
    other = world.elsewhere("other")
    theirs = a_day_of(other)
    assert [row.kind for row in other.view().state.sessions] == ["mover"], "a silent mover never expires"
    with pytest.raises(Rejected) as caught:
        set_ring(other, "lost")
    assert caught.value.reason == "mover-open"
    assert woken(child) == 0
    check(world, "", look)
    check(world, "other", theirs)
    at_rest(world)


def test_a_mover_that_slept_while_the_ring_changed_removes_no_more(mover):
    world, child, look = mover
    before = packs_of(world)
    set_ring(world.elsewhere("other"), "draining")
    time.sleep(STILL_S)
    assert woken(child) == 0
    assert len(packs_of(world)) >= len(before) - 1, "only the deletion that was already being sent"
    check(world, "", look)
    assert world.view().state.sessions == ()


def test_a_mover_expired_by_a_person_while_it_slept_reports_it_and_removes_no_more(mover):
    """Its copies may be the last ones, because after it was expired another mover may have removed the others."""
    world, child, look = mover
    before = packs_of(world)
    other = world.elsewhere("other")
    with other.open() as repository:
        (row,) = repository.view.state.sessions
        expire(repository, plan_expiry(repository, row.id.hex(), force=True, dry_run=False))
    time.sleep(STILL_S)
    assert woken(child) == 1
    assert len(packs_of(world)) >= len(before) - 1, "only the deletion that was already being sent"
    check(world, "", look)
    assert world.view().state.sessions == ()


def packs_of(world):
    return [path for site in "abc" for path in world.objects(site)]
