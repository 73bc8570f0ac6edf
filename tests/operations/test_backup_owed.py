"""A backup brings what targets are owed, after its snapshots are committed and within bounds."""

import os
import shutil
import signal
import threading
import time

import pytest
from targets_world import add
from three_sites import World, fill, in_a_child, noise, portrait

from drtool.events import Stage, ignore
from drtool.manifest.ops import ForgetSnapshots
from drtool.model import TargetName
from drtool.operations.backup import BackupRequest, SourceJob, backup
from drtool.operations.backup import owed as module
from drtool.operations.prune import PruneRequest, prune
from drtool.operations.repair import RepairRequest, repair
from drtool.repository.forgotten import forget_here
from drtool.stores.window import SLOW

C = TargetName("c/main")
MIB = 1 << 20


@pytest.fixture
def everywhere(place):
    """Three sites, three copies."""
    return World(place).found(copies=3)


def source_of(world: World, name: str = "source", seed: int = 0):
    return fill(world.root / name, {f"{n}": noise(MIB, 10 * seed + n) for n in range(3)})


def away(world: World, site: str = "c") -> None:
    world.directory(site).rename(world.root / f"away-{site}")


def back(world: World, site: str = "c") -> None:
    (world.root / f"away-{site}").rename(world.directory(site))


def back_up(world: World, source, emit=None, **request):
    """The whole result of a backup of one directory."""
    with world.open() as repository:
        jobs = (SourceJob(name="", paths=(os.fsencode(source),)),)
        values = {"host": world.host, "now_ns": time.time_ns(), "workers": 1, **request}
        return backup(repository, BackupRequest(jobs=jobs, **values), emit or world.heard.append)


def without_site(world: World, *sources) -> None:
    """Back up while c is away."""
    away(world)
    for source in sources:
        assert world.backup(source).degraded
    back(world)


def is_complete(world: World) -> bool:
    return world.names("a") == world.names("b") == world.names("c") and not world.verify().damaged


def test_the_next_backup_brings_a_site_what_it_missed(everywhere):
    source = source_of(everywhere)
    without_site(everywhere, source)
    before = everywhere.status()
    owed = {row.name: row.owed.objects for site in before.sites for row in site.targets}
    result = back_up(everywhere, source)
    (row,) = result.brought
    (report,) = result.snapshots
    assert owed == {"a/main": 0, "b/main": 0, "c/main": row.copied.objects}
    assert any("c/main is owed" in words for words in before.notices)
    assert (row.target, row.left.objects, row.reason) == (C, 0, "")
    assert row.copied.objects >= 2
    assert row.copied.bytes > 3 * MIB
    assert (report.degraded, report.copies.minimum_written, report.owed) == (False, 3, [])
    assert is_complete(everywhere)
    assert everywhere.status().problems == []
    assert back_up(everywhere, source).brought == []


def test_with_no_time_for_it_nothing_is_brought_and_the_snapshot_says_so(everywhere):
    source = source_of(everywhere)
    without_site(everywhere, source)
    result = back_up(everywhere, source, owed_s=0)
    assert result.brought == []
    assert result.snapshots[0].degraded
    assert everywhere.objects("c") == []


@pytest.fixture
def begun(monkeypatch):
    """The copies that were begun. Each waits until the time for copies is over, which it is at once."""
    begun, is_over = [], threading.Event()
    end, sound = module._Bringing._end, module._Bringing._sound_copy

    def ended(bringing, names):
        end(bringing, names)
        is_over.set()

    def waiting(bringing, row):
        begun.append(row.name)
        assert is_over.wait(20)
        return sound(bringing, row)

    monkeypatch.setattr(module, "LEAST_S", 0.01)
    monkeypatch.setattr(module, "SHARE", 0.0)
    monkeypatch.setattr(module._Bringing, "_end", ended)
    monkeypatch.setattr(module._Bringing, "_sound_copy", waiting)
    return begun


def test_after_its_time_no_copy_begins_and_the_one_under_way_is_finished(everywhere, begun):
    sources = [source_of(everywhere, f"source{n}", n) for n in range(2)]
    without_site(everywhere, *sources)
    result = back_up(everywhere, sources[0])
    (row,) = result.brought
    assert len(begun) == row.copied.objects == 1
    assert row.left.objects > 0
    assert result.snapshots[0].degraded
    assert back_up(everywhere, sources[0], owed_s=60).brought[0].copied == row.left
    assert is_complete(everywhere)


def test_a_site_that_was_left_behind_gets_its_copies_after_the_commit(everywhere):
    """Its failure is that of this very run."""
    source = source_of(everywhere)
    with everywhere.open() as repository:
        repository.targets.fail(C, SLOW)
        repository.targets.guard(C).leave()
        job = SourceJob(name="", paths=(os.fsencode(source),))
        result = everywhere.run_jobs(repository, job, owed_s=None)
    (row,), (report,) = result.brought, result.snapshots
    assert (row.target, row.left.objects) == (C, 0)
    assert (report.degraded, report.owed, report.copies.minimum_written) == (False, [], 3)
    assert is_complete(everywhere)


def test_a_target_that_fails_meanwhile_is_named_with_what_it_is_owed_still(everywhere, monkeypatch):
    source = source_of(everywhere)
    without_site(everywhere, source)

    def emit(event):
        if isinstance(event, Stage) and event.name == "copying":
            shutil.rmtree(everywhere.directory("c") / "packs", ignore_errors=True)
            (everywhere.directory("c") / "packs").write_bytes(b"in the way")

    result = back_up(everywhere, source, emit)
    (row,) = result.brought
    assert row.left.objects > 0
    assert row.reason
    assert result.snapshots[0].degraded


def test_copies_that_a_site_had_and_lost_are_missing_and_stay_so_until_repair(everywhere):
    """A lifecycle rule deletes them: if each backup copied them again, no command would tell."""
    source = source_of(everywhere)
    everywhere.backup(source)
    for path in everywhere.objects("c"):
        path.unlink()
    result = back_up(everywhere, source)
    assert (result.brought, result.snapshots[0].degraded) == ([], True)
    assert everywhere.verify().missing
    assert everywhere.status().problems


def test_a_damaged_copy_is_not_spread_and_is_remembered(everywhere):
    source = source_of(everywhere)
    without_site(everywhere, source)
    for path in everywhere.objects("a"):
        path.chmod(0o600)
        path.write_bytes(bytes(path.stat().st_size))
    result = back_up(everywhere, source)
    assert result.brought[0].left.objects == 0
    assert everywhere.names("b") == everywhere.names("c")
    for path in everywhere.objects("c"):
        assert path.read_bytes() != bytes(path.stat().st_size)
    with everywhere.open() as repository:
        assert {target for target, _ in repository.findings.all()} <= {TargetName("a/main")}


def test_a_prune_beside_it_takes_what_nothing_refers_to_and_nothing_else(everywhere):
    """The objects that are due are forgotten and removed just as the copying begins."""
    old, new = source_of(everywhere, "old", 1), source_of(everywhere, "new", 2)
    without_site(everywhere, old)

    def emit(event):
        if isinstance(event, Stage) and event.name == "copying":
            with everywhere.open() as repository:
                (first,) = (row.id for row in repository.view.state.snapshots if row.paths[0].endswith(b"old"))
                forget_here(repository, ForgetSnapshots((first,)))
                prune(repository, PruneRequest(now_ns=time.time_ns(), yes=True), ignore)
            left.update(before & set(everywhere.names("a")))
            emitted.append(event)

    emitted, left, before = [], set(), set(everywhere.names("a"))
    back_up(everywhere, new, emit)
    assert emitted
    assert not left
    assert everywhere.verify().missing == []
    with everywhere.open() as repository:
        assert repository.findings.all() == frozenset()
    out = everywhere.root / "out"
    everywhere.restore(out)
    assert portrait(out / os.path.relpath(new, "/")) == portrait(new)


def test_two_hosts_at_once_bring_it_together(everywhere):
    source = source_of(everywhere)
    without_site(everywhere, source)
    other = everywhere.elsewhere("other")
    child = os.fork()
    if child == 0:
        back_up(other, source, ignore)
        os._exit(0)
    back_up(everywhere, source)
    assert os.waitpid(child, 0)[1] == 0
    assert is_complete(everywhere)


def test_killed_in_the_middle_the_snapshot_stays_and_the_next_backup_goes_on(everywhere):
    source = source_of(everywhere)
    without_site(everywhere, source)

    def dying():
        copied = []
        sound = module._Bringing._sound_copy

        def once(bringing, row):
            if copied:
                os.kill(os.getpid(), signal.SIGKILL)
            copied.append(row)
            return sound(bringing, row)

        module._Bringing._sound_copy = once
        back_up(everywhere, source, ignore)

    before = len(everywhere.snapshots())
    assert in_a_child(dying) == -signal.SIGKILL
    assert len(everywhere.snapshots()) == before + 1
    assert back_up(everywhere, source).brought[0].left.objects == 0
    assert is_complete(everywhere)


def test_a_copy_that_lies_elsewhere_goes_where_the_ring_wants_it_too(world):
    """Two copies of three sites: without c, the other two hold all."""
    source = source_of(world)
    away(world)
    world.backup(source)
    back(world)
    result = back_up(world, source)
    with world.open() as repository:
        wanted = {pack.pack for pack in repository.index.packs() if C in repository.placement.desired(pack.pack)}
    held = {bytes.fromhex(path.name) for path in world.objects("c")}
    assert wanted <= held
    assert all(row.left.objects == 0 for row in result.brought)
    with world.open() as repository:
        repair(repository, RepairRequest(), ignore)
    assert world.verify().missing == []


def test_a_copy_that_an_absent_site_may_have_is_not_made_elsewhere(world):
    """It may be a disk that is back tomorrow."""
    source = source_of(world)
    world.backup(source)
    away(world)
    before = world.names("a"), world.names("b")
    assert back_up(world, source).brought == []
    assert (world.names("a"), world.names("b")) == before


def test_what_a_new_target_should_have_is_left_to_rebalance(world):
    source = source_of(world)
    world.backup(source)
    add(world)
    before = world.names("d")
    result = back_up(world, source)
    assert result.brought == []
    assert world.names("d") == before
