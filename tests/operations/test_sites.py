"""The voters change while backups go on: sites are replaced, lose their vote, and get one."""

import os
import shutil
from types import SimpleNamespace

import pytest
from three_sites import World, everything, fill, in_a_child, noise, portrait

from drtool.errors import NoQuorum, Refused, Rejected, UsageError
from drtool.events import ignore
from drtool.manifest.facade import Manifest
from drtool.model import SiteName, TargetName
from drtool.operations.placing import remove_target
from drtool.operations.repair import RepairRequest, repair
from drtool.operations.sites import (
    carry_out,
    place_for,
    plan_addition,
    plan_arbiter,
    plan_removal,
    sites,
)
from drtool.operations.sites import replace_site as replace_by
from drtool.repository import TargetSpec, movers
from drtool.stores import LocalStore


def replace_site(world, old, new, url, *, name=None, gone=False, dry_run=False, **more):
    with world.open(**more) as repository:
        target = place_for(repository, SiteName(old), SiteName(new), name, f"file://{url}")
        return replace_by(
            repository, SiteName(old), target, gone_for_good=gone, dry_run=dry_run, emit=world.heard.append
        )


def remove_site(world, site, *, dry_run=False):
    with world.open() as repository:
        change = plan_removal(repository, SiteName(site), dry_run=dry_run)
        if not dry_run:
            carry_out(repository, change, None, ignore)
        return change


def add_site(world, site, *, dry_run=False):
    with world.open() as repository:
        change = plan_addition(repository, SiteName(site), dry_run=dry_run)
        if not dry_run:
            carry_out(repository, change, None, ignore)
        return change


def voters(world):
    return [voter.site for voter in world.view().config.voters]


def rows(world):
    return {row.name: row for row in world.view().state.targets}


@pytest.fixture
def source(world):
    return fill(world.root / "source", {"file": noise(200_000), "sub/other": b"x" * 5000})


def test_a_replacement_beside_a_mover_is_refused_and_names_its_session_and_the_way_out(world, source, monkeypatch):
    monkeypatch.setattr(movers, "PATIENCE_S", 0.0)
    world.backup(source)
    with world.elsewhere("there").open() as other:
        session = other.begin(other.writer(), "", "mover")
        with pytest.raises(Rejected, match=f"session {session.id.hex()[:8]}.*on there .*last heard of") as caught:
            replace_site(world, "c", "d", world.root / "d")
        assert caught.value.hint.endswith(f"drtool session expire {session.id.hex()[:8]} --force")
        assert voters(world) == ["a", "b", "c"]
        session.abandon()
    assert replace_site(world, "c", "d", world.root / "d").voters == ["a", "b", "d"]
    assert world.view().state.sessions == ()


def test_a_site_that_is_gone_is_replaced_and_its_place_is_given_up(world, source):
    world.backup(source)
    world.directory("c").rename(world.root / "burnt")
    change = replace_site(world, "c", "d", world.root / "d")
    assert (change.voters, change.lost, change.tolerates) == (["a", "b", "d"], ["c/main"], 1)
    assert voters(world) == ["a", "b", "d"]
    assert {name: row.state for name, row in rows(world).items()} == {
        "a/main": "active",
        "b/main": "active",
        "c/main": "lost",
        "d/main": "active",
    }
    assert world.view().state.ring_epoch == 2
    report = world.backup(fill(source, {"more": noise(300_000, 1)}))
    assert report.owed == []  # whether it is degraded depends on the lost site's objects, which `repair` copies
    assert world.names("d", "keys") == world.names("a", "keys")


def test_the_new_site_is_reached_though_the_configuration_does_not_name_it(world, source):
    world.directory("c").rename(world.root / "burnt")
    replace_site(world, "c", "d", world.root / "d")
    assert world.targets == ("a/main", "b/main", "c/main")
    with world.open() as repository:
        assert TargetName("d/main") in repository.targets.online()
        assert {row.site: row.reachable for row in repository.manifest.status().acceptors} == dict.fromkeys("abd", True)
    world.directory("a").rename(world.root / "burnt-too")
    world.backup(source)
    world.restore(world.root / "out")
    assert portrait(world.root / "out" / str(source)[1:]) == portrait(source)


def test_a_host_with_only_the_old_sites_follows(world, source):
    other = world.elsewhere("there")
    other.view()
    world.directory("c").rename(world.root / "burnt")
    replace_site(world, "c", "d", world.root / "d")
    assert voters(other) == ["a", "b", "d"]
    assert other.backup(source).parent is None
    assert len(world.snapshots()) == 1
    with other.open() as repository:
        assert "d/main" in repository.owing(), "its directory is another host's"


def test_a_wiped_site_comes_back_under_its_name_and_its_old_disk_is_not_taken_for_it(world, source):
    world.backup(source)
    old = world.root / "old-disk"
    world.directory("c").rename(old)
    change = replace_site(world, "c", "c", world.root / "new-disk")
    assert (change.voters, change.fresh, change.lost) == (["a", "b", "c"], ["c"], [])
    with world.open() as repository:
        assert repository.targets.specs["c/main"].url == f"file://{world.root}/new-disk"
        assert repository.targets.writable("c/main")
    old.rename(world.directory("c"))
    before = everything(world.directory("c"))
    with world.open() as repository:
        assert repository.targets.specs["c/main"].url == f"file://{world.root}/new-disk"
    other = world.elsewhere("there")
    with other.open() as repository:
        assert "an earlier c/main" in repository.targets.failures["c/main"]
    assert world.backup(fill(source, {"more": noise(100_000, 2)})).owed == []
    assert everything(world.directory("c")) == before


def test_a_wiped_site_at_the_same_place(world, source):
    world.backup(source)
    for path in world.directory("c").iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    before = {voter.site: voter.incarnation for voter in world.view().config.voters}
    replace_site(world, "c", "c", world.directory("c"))
    after = {voter.site: voter.incarnation for voter in world.view().config.voters}
    assert [site for site in "abc" if before[site] != after[site]] == ["c"]
    with world.open() as repository:
        assert all(row.problem is None for row in repository.manifest.status().acceptors)


def test_a_dry_run_shows_exactly_the_change_and_changes_nothing(world):
    world.view()
    before = [everything(world.directory(site)) for site in "abc"]
    said = [
        replace_site(world, "c", "d", world.root / "d", dry_run=True),
        remove_site(world, "b", dry_run=True),
        add_site(world, "b", dry_run=True),
    ]
    assert [everything(world.directory(site)) for site in "abc"] == before
    assert not (world.root / "d").exists()
    assert said[2].changes_nothing
    assert remove_site(world, "b").voters == said[1].voters == ["a", "c"]
    assert "2 sites vote" in said[1].advice
    done = replace_site(world, "c", "d", world.root / "d")
    assert (done.new_target, done.weight, done.lost) == (said[0].new_target, said[0].weight, said[0].lost)


@pytest.mark.parametrize("how", ["something", "another-repository", "its-own-old-place", "a-neighbour"])
def test_a_place_that_holds_something_is_refused_and_left_alone(world, how, place):
    taken = world.root / "taken"
    if how == "something":
        fill(taken, {"thesis.tex": b"years of work"})
    elif how == "another-repository":
        World(place / "other", ("c/main",)).found()
        shutil.copytree(place / "other/c", taken)
    else:
        taken = world.directory("c" if how == "its-own-old-place" else "b")
    before = everything(taken)
    with pytest.raises(Refused) as caught:
        replace_site(world, "c", "c", taken)
    assert caught.value.exit_code == 11
    assert everything(taken) == before
    assert voters(world) == ["a", "b", "c"]


def test_a_replacement_that_was_interrupted_is_done_by_repeating_it(world, monkeypatch):
    def lost(*_args, **_more):
        raise NoQuorum("the power went out")

    with monkeypatch.context() as patch:
        patch.setattr(Manifest, "set_voters", lost)
        with pytest.raises(NoQuorum):
            replace_site(world, "c", "d", world.root / "d")
    assert voters(world) == ["a", "b", "c"]
    assert {path.name for path in (world.root / "d").iterdir()} == {"drtool.json", "keys"}
    replace_site(world, "c", "d", world.root / "d")
    assert voters(world) == ["a", "b", "d"]


def test_a_replacement_killed_at_any_write_is_done_by_repeating_it(world, source, monkeypatch):
    world.backup(source)
    world.directory("c").rename(world.root / "burnt")
    write = LocalStore._write
    for steps in range(60):
        tried = World(world.root / f"try-{steps}", keyrings=world.keyrings)
        for name in ("a", "b", "state"):
            shutil.copytree(world.root / name, tried.root / name)
        left = SimpleNamespace(steps=steps)

        def die(store, name, data, *, replace, left=left):
            if left.steps == 0:
                os._exit(9)
            left.steps -= 1
            return write(store, name, data, replace=replace)

        def attempt(tried=tried, die=die):
            with monkeypatch.context() as patch:
                patch.setattr(LocalStore, "_write", die)
                replace_site(tried, "c", "d", tried.root / "d")

        finished = in_a_child(attempt) == 0
        again = replace_site(tried, "c", "d", tried.root / "d")
        assert again.changes_nothing or not finished
        assert voters(tried) == ["a", "b", "d"]
        assert len(tried.snapshots()) == 1
        with tried.open() as repository:
            ails = [row for row in repository.manifest.status().acceptors if row.problem]
            assert (steps, ails, repository.manifest.check()) == (steps, [], [])
        shutil.rmtree(tried.root)
        if finished:
            return
    raise AssertionError("it did not end")


def test_the_replacement_inherits_weight_and_only_the_named_target_comes_back(place):
    world = World(place, ("a/main", "a/second", "b/main", "c/main")).found()
    change = replace_site(world, "a", "a", place / "new", name="third")
    assert (change.new_target, change.weight) == ("a/third", 2)
    assert {name: row.state for name, row in rows(world).items() if name.startswith("a/")} == {
        "a/main": "lost",
        "a/second": "lost",
        "a/third": "active",
    }


def test_names_that_cannot_be(world):
    for old, new in (("x", "y"), ("c", "b")):
        with pytest.raises(UsageError):
            replace_site(world, old, new, world.root / "new")
    with pytest.raises(UsageError, match="there is no site x"):
        add_site(world, "x")
    with pytest.raises(UsageError, match="there is no site x"):
        remove_site(world, "x")


def test_a_vote_is_taken_and_given_back(world, source):
    change = remove_site(world, "c")
    assert (change.voters, change.stays, change.tolerates) == (["a", "b"], ["c/main"], 0)
    with pytest.raises(UsageError, match="does not vote"):
        remove_site(world, "c")
    assert world.backup(source).owed == []
    assert world.names("c", "packs") or world.names("c", "index"), "it still stores"
    assert add_site(world, "c").fresh == ["c"]
    assert voters(world) == ["a", "b", "c"]
    world.directory("a").rename(world.root / "away")
    assert len(world.snapshots()) == 1


def test_the_last_voter_and_one_without_reachable_others_are_not_removed(world):
    world.directory("c").rename(world.root / "away")
    with pytest.raises(Refused, match="they would not be a quorum") as caught:
        remove_site(world, "b")
    assert caught.value.exit_code == 11
    remove_site(world, "c")
    remove_site(world, "b")
    with pytest.raises(Refused, match="only voter"):
        remove_site(world, "a")
    assert voters(world) == ["a"]


def test_a_voter_with_a_lost_register_gets_a_new_incarnation(world):
    world.view()
    damaged = sorted(world.directory("c").glob("manifest/acc/*/*/v-*"))
    for path in damaged:
        path.write_bytes(b"\0" * 100)
    with world.open() as repository:
        (row,) = (row for row in sites(repository).sites if row.name == "c")
        assert row.problem is not None
    assert add_site(world, "c").fresh == ["c"]
    with world.open() as repository:
        assert all(row.problem is None for row in sites(repository).sites)
        assert sites(repository).config == 2
    assert add_site(world, "c").changes_nothing


def test_two_sites_get_their_third_vote_afterwards_and_may_give_it_up(place):
    world = World(place, ("a/main", "b/main")).found()
    source = fill(place / "source", {"file": noise(50_000)})
    judge = TargetSpec(name=TargetName("judge/main"), url=f"file://{place}/judge", vote="only")
    with world.open() as repository:
        change = plan_arbiter(repository, judge, dry_run=False)
        carry_out(repository, change, judge, ignore)
    assert (change.voters, change.tolerates, change.weight) == (["a", "b", "judge"], 1, 0)
    assert world.names("judge", "keys") == world.names("a", "keys") != []
    world.directory("a").rename(place / "away")
    world.backup(source)
    assert not world.names("judge", "packs")
    (place / "away").rename(world.directory("a"))
    with world.open() as repository, pytest.raises(UsageError, match="already exists"):
        plan_arbiter(repository, judge, dry_run=True)
    replace_site(world, "judge", "referee", place / "referee")
    assert rows(world)["referee/main"].votes_only
    gone = remove_site(world, "referee")
    assert (gone.voters, gone.stays) == (["a", "b"], [])
    assert {name for name, row in rows(world).items() if row.state == "active"} == {"a/main", "b/main"}


def test_sites_are_listed_with_tolerated_losses(world):
    world.directory("b").rename(world.root / "away")
    with world.open() as repository:
        found = sites(repository)
    assert (found.needed, found.tolerates, found.advice) == (2, 1, None)
    assert {row.name: (row.votes, row.stores, row.reachable) for row in found.sites} == {
        "a": (True, True, True),
        "b": (True, True, False),
        "c": (True, True, True),
    }
    (gone,) = (row for row in found.sites if row.name == "b")
    assert "there is no directory" in gone.problem
    assert gone.register == "b/main"


def packs_on(world, *sites):
    """The packs that exactly these of the three sites hold."""
    names = {site: set(world.names(site, "packs")) for site in "abc"}
    return sorted(
        name for name in set().union(*names.values()) if {site for site in "abc" if name in names[site]} == set(sites)
    )


@pytest.fixture
def twice(world):
    return stored_on_two(world)


def stored_on_two(world):
    """Store files on two of three sites each, and return the two sites of one of the packs."""
    world.backup(fill(world.root / "source", {str(number): noise(60_000, number) for number in range(8)}))
    return next((one, other) for one, other in ("ab", "bc", "ac") if packs_on(world, one, other))


def replace_for_good(world, site):
    return replace_site(world, site, f"{site}2", world.root / f"{site}2", gone=True)


def test_whole_sites_are_not_replaced_one_after_the_other_until_nothing_is_left(world, twice):
    first, second = twice
    change = replace_site(world, first, f"{first}2", world.root / f"{first}2")
    assert change.below_copies > 0
    before = world.view().sequence
    for dry_run in (True, False):
        with pytest.raises(Refused, match=f"{second} has the only good copy of .* objects?") as caught:
            replace_site(world, second, f"{second}2", world.root / f"{second}2", dry_run=dry_run)
        assert "drtool repair" in caught.value.hint
    assert (world.view().sequence, (world.root / f"{second}2").exists()) == (before, False)
    assert mend(world).degraded is False
    replace_site(world, second, f"{second}2", world.root / f"{second}2")
    assert mend(world).unrepairable == []
    shutil.rmtree(world.directory(first))
    shutil.rmtree(world.directory(second))
    assert restored(world) == portrait(world.root / "source")


def test_lost_targets_that_still_answer_are_read_by_repair_and_restore(world, twice):
    first, second = twice
    replace_for_good(world, first)
    replace_for_good(world, second)
    assert any("may have been only on" in words for words in world.warnings())
    assert restored(world) == portrait(world.root / "source")
    found = mend(world)
    assert (found.unrepairable, found.degraded) == ([], False)
    shutil.rmtree(world.directory(first))
    shutil.rmtree(world.directory(second))
    assert restored(world) == portrait(world.root / "source")


def test_lost_targets_are_read_though_the_configuration_does_not_name_them_any_more(place):
    world = World(place).found()
    first, second = twice = stored_on_two(world)
    replace_for_good(world, first)
    replace_for_good(world, second)
    world.targets = tuple(name for name in world.targets if name[0] not in twice)
    assert restored(world) == portrait(world.root / "source")
    assert mend(world).unrepairable == []


def test_damage_at_a_lost_target_is_neither_copied_nor_counted(world, twice):
    first, second = twice
    name = packs_on(world, first, second)[0]
    replace_for_good(world, first)
    replace_for_good(world, second)
    for site in twice:
        (world.directory(site) / name).write_bytes(b"rot")
    assert [row.object.rpartition("/")[2] for row in mend(world).unrepairable] == [name.rpartition("/")[2]]


def test_a_site_that_is_away_and_may_have_the_only_copy_is_replaced_only_as_gone(world, twice):
    first, second = twice
    for name in packs_on(world, first, second):
        (world.directory(first) / name).unlink()
    world.directory(second).rename(world.root / "away")
    with pytest.raises(Refused, match="may have the only copy") as caught:
        replace_site(world, second, "d", world.root / "d")
    assert "--gone" in caught.value.hint
    assert replace_site(world, second, "d", world.root / "d", gone=True).only_there > 0


def test_a_lost_target_with_the_only_good_copy_is_not_forgotten(world, twice):
    first, second = twice
    replace_for_good(world, first)
    replace_for_good(world, second)
    with world.open() as repository, pytest.raises(Refused, match="only good copy") as caught:
        remove_target(repository, TargetName(f"{first}/main"), gone_for_good=False, dry_run=False, emit=ignore)
    assert "drtool repair" in caught.value.hint
    mend(world)
    with world.open() as repository:
        remove_target(repository, TargetName(f"{first}/main"), gone_for_good=False, dry_run=False, emit=ignore)


def mend(world):
    with world.open() as repository:
        return repair(repository, RepairRequest(), ignore)


def restored(world):
    to = world.root / "out"
    shutil.rmtree(to, ignore_errors=True)
    assert world.restore(to, path=world.root / "source").errors == []
    return portrait(to)
