"""Targets come, change, are drained and go, while others write: on real repositories."""

import os
import shutil

import pytest
from msgspec.structs import replace
from targets_world import D, add, drain, foresee, good_copies, live, move, remove, set_to, stock
from three_sites import World, everything, fill, in_a_child, noise, portrait

from drtool.errors import DrtoolError, NoQuorum, Refused, Rejected, UsageError
from drtool.events import Stage, ignore
from drtool.manifest.facade import Manifest
from drtool.manifest.ops import ExpireSession
from drtool.model import SiteName, TargetName
from drtool.operations.placing import add_target, removing, set_target
from drtool.operations.repair import RepairRequest, repair
from drtool.operations.sites import carry_out, place_for, plan_addition, plan_removal, replace_site
from drtool.repository import TargetSpec, found, movers
from drtool.repository.inventory import take_inventory
from drtool.repository.session import Overtaken
from drtool.stores import LocalStore


def rows(world):
    return {row.name: row for row in world.view().state.targets}


def vote(world, site, plan):
    with world.open() as repository:
        carry_out(repository, plan(repository, SiteName(site), dry_run=False), None, ignore)


# target add


def test_a_new_target_is_of_the_ring_and_reached_though_the_configuration_does_not_name_it(world):
    change = add(world, weight=3)
    assert (change.from_epoch, change.to_epoch, change.weight, change.votes, change.changed) == (1, 2, 3, False, True)
    assert any("does not vote until drtool site add d" in words for words in change.advice)
    assert world.targets == ("a/main", "b/main", "c/main")
    with world.open() as repository:
        assert repository.targets.writable(D)
        assert (repository.view.state.ring_epoch, repository.target_rows()[D].weight) == (2, 3)
    assert world.names("d", "keys") == world.names("a", "keys")
    report = world.backup(fill(world.root / "source", {str(i): noise(100_000, i) for i in range(8)}))
    assert (report.owed, report.degraded) == ([], False)
    assert world.objects("d")
    vote(world, "d", plan_addition)
    assert "d" in [voter.site for voter in world.view().config.voters]


def test_another_host_says_that_it_does_not_reach_the_new_target(world):
    add(world)
    other = world.elsewhere("there")
    report = other.backup(fill(world.root / "source", {"file": noise(1000)}))
    assert [row.target for row in report.owed] == [D]


def test_a_dry_run_of_each_change_touches_nothing(world):
    stock(world, 1)
    add(world, "b/more")
    before = [everything(world.directory(name)) for name in ("a", "b", "c", "b/more")]
    said = [
        add(world, dry_run=True),
        set_to(world, "b/main", weight=7, dry_run=True),
        drain(world, "b/main", dry_run=True),
        remove(world, "b/more", dry_run=True),
    ]
    assert [everything(world.directory(name)) for name in ("a", "b", "c", "b/more")] == before
    assert not world.directory("d").exists()
    did = [add(world), set_to(world, "b/main", weight=7), drain(world, "b/main"), remove(world, "b/more")]
    assert [(row.verb, row.target, row.weight, row.state, row.holds) for row in said[:2]] == [
        (row.verb, row.target, row.weight, row.state, row.holds) for row in did[:2]
    ]
    assert (said[3].state, said[3].holds, said[3].below_copies) == (did[3].state, did[3].holds, did[3].below_copies)
    assert [row.to_epoch - row.from_epoch for row in said] == [row.to_epoch - row.from_epoch for row in did]


@pytest.mark.parametrize("how", ["something", "another-repository", "a-neighbour"])
def test_a_place_that_is_not_free_is_refused_and_left_alone(world, place, how):
    taken = world.directory("d")
    if how == "something":
        fill(taken, {"thesis.tex": b"years of work"})
    elif how == "another-repository":
        World(place / "other", ("d/main",)).found()
        shutil.copytree(place / "other/d", taken)
    else:
        taken.symlink_to(world.directory("a"))
    before = everything(taken)
    with pytest.raises(Refused) as caught:
        add(world)
    assert caught.value.exit_code == 11
    assert everything(taken) == before
    assert world.view().state.ring_epoch == 1


@pytest.mark.parametrize("where", ["a/sub", "a", "."])
def test_a_target_is_not_put_inside_another_nor_around_it(world, where):
    with world.open() as repository, pytest.raises(Refused, match=r"overlaps with \w/main"):
        add_at(repository, "d/main", os.path.normpath(world.root / where))


def add_at(repository, name, url):
    return add_target(repository, TargetSpec(name=TargetName(name), url=str(url)), None, dry_run=False, emit=ignore)


def test_a_name_that_is_taken_is_no_second_target_and_the_same_one_is_there_already(world):
    add(world)
    again = add(world, weight=9)
    assert (again.changed, again.weight, again.to_epoch) == (False, 1, 2)
    assert any("--weight 9" in words for words in again.advice)
    elsewhere = World(world.root / "elsewhere", keyrings=world.keyrings)
    with world.open() as repository, pytest.raises(UsageError, match="target d/main already exists"):
        add_at(repository, D, elsewhere.root)
    with world.open() as repository, pytest.raises(UsageError, match="configuration says that a/main is at"):
        add_at(repository, "a/main", elsewhere.root)


def test_an_addition_that_was_interrupted_is_done_by_repeating_it(world, monkeypatch):
    def lost(*_args, **_more):
        raise NoQuorum("the power went out")

    with monkeypatch.context() as patch:
        patch.setattr(Manifest, "commit", lost)
        with pytest.raises(NoQuorum):
            add(world)
    assert {path.name for path in world.directory("d").iterdir()} == {"drtool.json", "keys"}
    assert add(world).changed
    assert rows(world)[D].state == "active"


def test_an_addition_killed_at_any_write_is_done_by_repeating_it(world, place, monkeypatch):
    for steps in range(60):
        tried = World(place / f"try-{steps}", keyrings=world.keyrings)
        for name in ("a", "b", "c", "state"):
            shutil.copytree(world.root / name, tried.root / name)
        finished = in_a_child(lambda tried=tried, steps=steps: add_and_die(tried, steps, monkeypatch)) == 0
        with tried.open() as repository:  # every target in the ring opens on its own
            named = [name for name, row in repository.target_rows().items() if row.host == tried.host]
            assert {tuple(tried.names(name, "keys")) for name in named} == {tuple(tried.names("a", "keys"))}, steps
        add(tried)
        with tried.open() as repository:
            assert (steps, repository.targets.writable(D), repository.manifest.check()) == (steps, True, [])
            assert repository.target_rows()[D].state == "active"
        shutil.rmtree(tried.root)
        if finished:
            assert steps > 4
            return
    raise AssertionError("it did not end")


def add_and_die(world, steps, monkeypatch):
    """Add d, and end the process instead of its write number `steps`, counted from 0."""
    write, left = LocalStore._write, [steps]

    def die(store, name, data, *, replace):
        if left[0] == 0:
            os._exit(9)
        left[0] -= 1
        return write(store, name, data, replace=replace)

    monkeypatch.setattr(LocalStore, "_write", die)
    add(world)


def test_the_name_of_a_target_that_was_lost_may_be_taken_and_its_old_disk_is_not_taken_for_it(world):
    old = world.root / "old-disk"
    world.directory("c").rename(old)
    with world.open() as repository:
        target = place_for(repository, SiteName("c"), SiteName("e"), None, f"file://{world.root}/e")
        replace_site(repository, SiteName("c"), target, gone_for_good=False, dry_run=False, emit=ignore)
    assert rows(world)["c/main"].state == "lost"
    assert add(world, "c/main").changed
    assert rows(world)["c/main"].state == "active"
    with world.open() as repository:
        assert repository.targets.writable(TargetName("c/main"))
    shutil.rmtree(world.directory("c"))
    old.rename(world.directory("c"))
    with world.open() as repository:
        assert "an earlier c/main" in repository.targets.failures["c/main"]


# concurrent changes of the ring


def test_two_concurrent_ring_changes_both_succeed(world):
    with world.open() as stale:
        add(world)
        change = set_target(stale, TargetName("a/main"), weight=5, dry_run=False, emit=ignore)
        assert (change.from_epoch, change.to_epoch) == (2, 3)
    assert {name: row.weight for name, row in rows(world).items()} == {"a/main": 5, "b/main": 1, "c/main": 1, D: 1}


def test_two_concurrent_additions_of_one_name_do_not_overwrite_each_other(world, place):
    with world.open() as stale:
        add(world)
        with pytest.raises(UsageError, match="target d/main already exists"):
            add_at(stale, D, place / "another")
    assert rows(world)[D].url == f"file://{world.directory('d')}"


def test_while_copies_are_taken_away_no_target_goes_and_the_refusal_names_the_mover(world, monkeypatch):
    monkeypatch.setattr(movers, "PATIENCE_S", 0.0)
    add(world)
    elsewhere = world.elsewhere("there")
    with elsewhere.open() as other:
        session = other.begin(other.writer(), "", "mover")
        assert drain(world, "d/main").changed, "any other change is harmless"
        with pytest.raises(Rejected, match=f"session {session.id.hex()[:8]}.*on there .*last heard of") as caught:
            remove(world, "d/main")
        assert f"drtool session expire {session.id.hex()[:8]} --force" in caught.value.hint
        session.abandon()
    assert remove(world, "d/main").changed


def test_a_short_turn_of_a_mover_is_waited_for(world, monkeypatch):
    add(world)
    drain(world, "d/main")
    with world.open() as other:
        session = other.begin(other.writer(), "", "mover")
        monkeypatch.setattr(movers.time, "sleep", lambda _s: session.abandon())
        assert remove(world, "d/main").changed


def test_no_mover_begins_between_the_look_at_the_copies_and_the_end_of_a_target(world, monkeypatch):
    add(world)
    drain(world, "d/main")
    plain, turned_away = removing.holdings, []

    def look(repository, names):
        with world.open() as other, pytest.raises(Rejected) as caught:
            other.begin(other.writer(), "", "mover")
        turned_away.append(caught.value.reason)
        return plain(repository, names)

    monkeypatch.setattr(removing, "holdings", look)
    assert remove(world, "d/main").changed
    assert turned_away == ["mover-open"]
    assert world.view().state.sessions == ()


def test_a_target_that_may_not_go_leaves_no_session_behind(world, monkeypatch):
    add(world)
    drain(world, "d/main")
    with monkeypatch.context() as patch:
        patch.setattr(removing, "_judged", lambda *_, **__: (_ for _ in ()).throw(Refused("it has the only copy")))
        with pytest.raises(Refused):
            remove(world, "d/main")
    assert world.view().state.sessions == ()


def test_a_mover_with_a_dead_process_blocks_nothing(world):
    def begin():
        with world.open() as repository:
            repository.begin(repository.writer(), "", "mover")
            os._exit(9)

    assert in_a_child(begin) == 9
    assert [row.kind for row in world.view().state.sessions] == ["mover"]
    add(world)
    assert remove(world, "d/main").changed
    assert world.view().state.sessions == ()


# target set


def test_weights_are_set_and_a_present_value_changes_nothing(world):
    assert set_to(world, "a/main", weight=4).to_epoch == 2
    again = set_to(world, "a/main", weight=4)
    assert (again.changed, again.advice) == (False, [])
    assert world.view().state.ring_epoch == 2


def test_a_directory_that_was_moved_is_found_where_it_is_now(world):
    stock(world, 1)
    add(world)
    world.backup(fill(world.root / "source", {"new": noise(200_000, 7)}))
    held = good_copies(world, "d")
    world.directory("d").rename(world.root / "moved")
    change = set_to(world, "d/main", url=f"file://{world.root}/moved")
    assert change.changed
    with world.open() as repository:
        assert repository.targets.specs[D].url == f"file://{world.root}/moved"
        assert repository.targets.writable(D)
    assert held


@pytest.mark.parametrize("what", ["a-copy", "another-target", "nothing"])
def test_an_address_where_the_target_is_not_is_refused(world, what):
    add(world)
    place = world.root / "there"
    if what == "a-copy":
        shutil.copytree(world.directory("d"), place)
    else:
        world.directory("d").rename(world.root / "away")
        if what == "another-target":
            shutil.copytree(world.directory("a"), place)
        else:
            place.mkdir()
    with pytest.raises(DrtoolError):
        set_to(world, "d/main", url=f"file://{place}")
    assert rows(world)[D].url == f"file://{world.directory('d')}"


def test_that_the_configuration_still_says_otherwise_is_said(world):
    world.directory("c").rename(world.root / "moved")
    change = set_to(world, "c/main", url=f"file://{world.root}/moved")
    assert any("configuration still says" in words for words in change.advice)


# target drain


def test_a_drained_target_gets_nothing_new_and_is_taken_into_use_again(world):
    drain(world, "b/main")
    stock(world, 2)
    assert world.objects("b") == []
    assert not world.status().problems
    assert set_to(world, "b/main", active=True).changed
    stock(world, 3)
    assert world.objects("b")


def test_a_target_that_all_copies_need_is_not_drained_nor_removed(world):
    drain(world, "b/main")
    with pytest.raises(Refused, match="1 site would be left for 2 copies"):
        drain(world, "a/main")
    vote(world, "c", plan_removal)
    with pytest.raises(Refused, match="1 site would be left for 2 copies"):
        remove(world, "c/main")
    assert not drain(world, "b/main").changed


@pytest.mark.parametrize("name", ["nowhere/main", "arbiter/main"])
def test_a_target_without_copies_has_no_weight_and_is_not_drained(world, place, name):
    two = World(place / "two", ("a/main", "b/main"))
    spec = two.spec()
    only = TargetSpec(name=TargetName("arbiter/main"), url=str(two.root / "arbiter"), vote="only")
    found(replace(spec, targets=(*spec.targets, only)), None, 1, ignore)
    for change in (lambda: drain(two, name), lambda: set_to(two, name, weight=2)):
        with pytest.raises(UsageError):
            change()


# target remove


@pytest.fixture
def four(world):
    """Four sites with packs of files at random places on each of them. Site d does not vote."""
    add(world)
    stock(world, 4)
    more = 0
    while not packs_on_d_and_another(world):
        more += 1
        world.backup(fill(world.root / "source", {f"more/{more}": noise(100_000, 500 + more)}))
    return world


def packs_on_d_and_another(world):
    """Return packs of files that d and one other site have. Trees are on all."""
    needed = live(world)
    copies = good_copies(world, *"abcd")
    return [name for name in sorted(needed) if copies[name] == 2 and (world.directory("d") / name).exists()]


def only_on_two_sites(world):
    return packs_on_d_and_another(world)[0]


def test_drained_moved_and_removed(four):
    drain(four, "d/main")
    move(four)
    change = remove(four, "d/main")
    assert (change.state, change.below_copies, change.to_epoch) == ("removed", 0, 4)
    assert D not in rows(four)
    found = four.verify("full")
    assert (found.missing, found.damaged, found.misplaced, found.degraded) == ([], [], 0, False)
    shutil.rmtree(four.directory("d"))
    four.restore(four.root / "out", path=four.root / "source")
    assert portrait(four.root / "out") == portrait(four.root / "source")


def test_a_target_that_has_the_only_copy_of_anything_is_not_removed(four):
    name = next(name for name in live(four) if (four.directory("d") / name).exists())
    kept = {}
    for site in "abc":
        path = four.directory(site) / name
        if path.exists():
            kept[path] = path.read_bytes()
            path.unlink()
    with pytest.raises(Refused, match="only good copy of 1 object") as caught:
        remove(four, "d/main")
    assert "drain d/main" in caught.value.hint
    assert "rebalance" in caught.value.hint
    assert rows(four)[D].state == "draining", "new runs write elsewhere"
    assert move(four).left == 0
    remove(four, "d/main")
    assert good_copies(four, *"abc")[name] >= 2


def test_a_copy_that_was_found_damaged_is_nothing_to_rely_on(four):
    name = only_on_two_sites(four)
    other = next(four.directory(site) / name for site in "abc" if (four.directory(site) / name).exists())
    other.write_bytes(bytes(other.stat().st_size))
    four.verify("full")
    with pytest.raises(Refused, match="only good copy"):
        remove(four, "d/main")


def test_an_undrained_target_is_removed_if_nothing_is_lost_and_missing_copies_are_reported(four):
    change = remove(four, "d/main")
    assert change.holds.objects > 0
    assert change.below_copies > 0
    assert any("repair" in words for words in change.advice)
    assert four.verify("structure").degraded


def test_a_target_that_is_away_may_have_the_only_copy_of_something(four):
    name = only_on_two_sites(four)
    for site in "abc":
        (four.directory(site) / name).unlink(missing_ok=True)
    four.directory("d").rename(four.root / "away")
    with pytest.raises(Refused, match="may have the only copy") as caught:
        remove(four, "d/main")
    assert "--gone" in caught.value.hint
    remove(four, "d/main", gone=True)
    assert any("may have been only on d/main" in words for words in four.warnings())
    with four.open() as repository:
        pack = bytes.fromhex(name.rpartition("/")[2])
        assert pack in repository.lost_packs(take_inventory(repository.targets)), "it is not waited for any more"
    four.backup(four.root / "source")
    assert four.restore(four.root / "out", path=four.root / "source").errors == []


def test_gone_requires_an_unreachable_target(four):
    with pytest.raises(UsageError, match="d/main is reachable"):
        remove(four, "d/main", gone=True)


def test_a_voter_keeps_its_register(world):
    with pytest.raises(Refused, match="holds the register through which site c votes") as caught:
        remove(world, "c/main")
    assert "site remove c" in caught.value.hint
    add(world)
    vote(world, "c", plan_removal)
    assert remove(world, "c/main").changed


def test_a_removed_target_does_not_count_though_the_configuration_names_it(four):
    four.targets = (*four.targets, "d/main")
    remove(four, "d/main")
    with four.open() as repository:
        assert repository.targets.reachable(D)
        assert D not in repository.targets.storing()
    assert four.verify("structure").degraded
    with four.open() as repository:
        assert repair(repository, RepairRequest(), ignore).copied.objects > 0
    assert not four.verify("structure").degraded


# backups meanwhile


class Trigger(list):
    """A list of events that does something once, when the first one of a kind is added."""

    def __init__(self, stage, action):
        super().__init__()
        self._stage, self._action = stage, action

    def append(self, event):
        super().append(event)
        if isinstance(event, Stage) and event.name == self._stage and self._action is not None:
            action, self._action = self._action, None
            action()


def backup_during(world, action):
    """A backup during which, with its session open, an action runs."""
    heard, world.heard = world.heard, Trigger("storing", lambda: action(World(world.root, keyrings=world.keyrings)))
    try:
        with world.open() as repository:
            (report,) = world.run_backup(repository, world.root / "source").snapshots
        assert world.heard._action is None, "the action never ran"
    finally:
        world.heard = heard
    return report


@pytest.mark.parametrize("change", ["join", "drain", "rebalance"])
@pytest.mark.spread(3)
def test_a_backup_goes_on_while_the_ring_changes_and_its_data_is_at_most_misplaced(four, change):
    def act(world):
        if change == "join":
            add(world, "e/main")
        else:
            drain(world, "d/main")
        if change == "rebalance":
            move(world)

    fill(four.root / "source", {f"new/{i}": noise(150_000, 1000 + i) for i in range(6)})
    report = backup_during(four, act)
    assert (report.degraded, report.errors) == (False, [])
    found = four.verify("full")
    assert (found.missing, found.damaged, found.degraded) == ([], [], False)
    four.restore(four.root / "out", path=four.root / "source")
    assert portrait(four.root / "out") == portrait(four.root / "source")
    move(four)
    after = four.verify("full")
    assert (after.missing, after.damaged, after.misplaced, after.degraded) == ([], [], 0, False)
    assert foresee(four).moves.objects == 0


def test_a_target_is_not_removed_while_a_run_may_still_store_there(four):
    refused = []

    def act(world):
        drain(world, "d/main")
        with pytest.raises(Refused, match="may still store there") as caught:
            remove(world, "d/main")
        refused.append(caught.value)

    fill(four.root / "source", {"new": noise(150_000, 77)})
    backup_during(four, act)
    assert "session expire" in refused[0].hint
    move(four)
    assert remove(four, "d/main").below_copies == 0
    assert four.verify("structure").missing == []


def test_a_backup_that_began_after_the_drain_stops_no_removal(four):
    drain(four, "d/main")
    move(four)
    fill(four.root / "source", {"new": noise(150_000, 78)})
    report = backup_during(four, lambda world: remove(world, "d/main"))
    assert not report.degraded
    found = four.verify("full")
    assert (found.missing, found.degraded) == ([], False)


def test_an_expired_run_that_stored_on_a_since_drained_target_starts_again(four):
    with four.open() as repository:
        session = repository.begin(repository.writer(), "")
        drain(four, "d/main")
        with four.open() as other:
            other.manifest.commit(ExpireSession(expired=session.id))
        with pytest.raises(Overtaken):
            session.checkpoint()
