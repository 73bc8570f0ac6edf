"""Recovery when most voters are lost, reports on the catalogue, and compaction."""

import shutil

import pytest
from three_sites import fill, noise, portrait

from drtool.errors import Forked, NoQuorum, Refused, UsageError
from drtool.events import ignore
from drtool.operations.catalogue import check, compact, plan_recovery, recover, status


@pytest.fixture
def source(world):
    return fill(world.root / "source", {"file": noise(100_000)})


def lose(world, *sites):
    for site in sites:
        world.directory(site).rename(world.root / f"lost-{site}")


def do_recover(world, *sites, **more):
    with world.open(anyhow=True, **more) as repository:
        return recover(repository, plan_recovery(repository, sites, dry_run=False), ignore)


def test_one_of_three_goes_on_after_a_forced_recovery(world, source):
    world.backup(source)
    lose(world, "a", "b")
    with pytest.raises(NoQuorum):
        world.backup(source)
    with world.open(anyhow=True) as repository:
        plan = plan_recovery(repository, ["c"], dry_run=True)
        assert (plan.survivors, plan.given_up, plan.generation, plan.lost_changes) == (["c"], ["a", "b"], 2, 0)
        assert plan.snapshots == 1
    done = do_recover(world, "c")
    assert (done.generation, len(bytes.fromhex(done.recovery))) == (2, 16)
    assert world.backup(fill(source, {"more": b"y" * 1000})).degraded
    assert len(world.snapshots()) == 2
    with world.open() as repository:
        found = status(repository)
        assert (found.generation, found.recovery, found.agreed) == (2, done.recovery, True)
        assert check(repository).problems == []


def test_nothing_is_recovered_while_a_quorum_answers(world):
    lose(world, "a")
    with world.open(anyhow=True) as repository:
        with pytest.raises(Refused, match="nothing needs to be recovered"):
            plan_recovery(repository, ["b", "c"], dry_run=True)
        with pytest.raises(UsageError):
            plan_recovery(repository, [], dry_run=True)


def test_survivors_that_are_none_are_named(world):
    world.view()
    lose(world, "a", "b")
    with world.open(anyhow=True) as repository:
        with pytest.raises(UsageError, match="there is no such site"):
            plan_recovery(repository, ["x"], dry_run=True)
        with pytest.raises(NoQuorum, match="does not answer"):
            plan_recovery(repository, ["b", "c"], dry_run=True)


def test_known_losses_are_counted_and_own_snapshots_come_back(world, source):
    stale = world.root / "stale"
    world.view()
    shutil.copytree(world.directory("c"), stale)
    world.backup(source)
    lose(world, "a", "b", "c")
    stale.rename(world.directory("c"))
    with world.open(anyhow=True) as repository:
        plan = plan_recovery(repository, ["c"], dry_run=True)
        assert plan.snapshots == 0
        assert plan.lost_changes == plan.confirmed_by_this_host - plan.sequence > 0
    done = do_recover(world, "c")
    assert (done.brought_back, done.snapshots) == (1, 1)


def test_two_recoveries_are_distinguished_and_stop_everything_but_reading_and_choosing(world, source):
    world.backup(source)
    lose(world, "a", "b")
    do_recover(world, "c")
    lose(world, "c")
    (world.root / "lost-a").rename(world.directory("a"))
    other = world.elsewhere("there")
    do_recover(other, "a")
    (world.root / "lost-c").rename(world.directory("c"))
    third = world.elsewhere("third")
    with pytest.raises(Forked):
        third.view()
    with third.open(anyhow=True) as repository:
        assert isinstance(repository.uncertain, Forked)
        assert "recovered twice" in status(repository).problem
        assert any(row["kind"] == "fork" for row in check(repository).problems)
    with third.open(manifest_from=("c",)) as repository:
        assert repository.view.tentative
        repository.targets.close()
    do_recover(third, "c")
    assert third.view().config.generation == 3
    assert len(third.snapshots()) == 1


def test_phases_are_named(world):
    with world.open() as repository:
        assert {row.phase for row in status(repository).acceptors} == {"confirm"}
    world.directory("b").rename(world.root / "away")
    with world.open() as repository:
        assert {row.site: row.phase for row in status(repository).acceptors} == {
            "a": "confirm",
            "b": None,
            "c": "confirm",
        }


def test_a_dry_run_counts_exactly_the_deleted_objects(world, source):
    garbage = "ab" * 32
    for site in "abc":
        fill(world.directory(site), {f"manifest/obj/{garbage}": b"nobody names it"})
    world.backup(source)
    before = portrait(world.directory("a"))
    with world.open() as repository:
        would = compact(repository, dry_run=True)
    assert would.objects == {"a": 1, "b": 1, "c": 1}
    assert portrait(world.directory("a")) == before
    with world.open() as repository:
        assert compact(repository, dry_run=False).objects == would.objects
        assert check(repository).problems == []
    assert not world.names("a", f"manifest/obj/{garbage}")
    assert len(world.snapshots()) == 1
