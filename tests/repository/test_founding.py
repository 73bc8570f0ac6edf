"""Creating and opening: existing data is never overwritten, and foreign data is never used."""

import errno
import json
import os
import shutil
import time
from types import SimpleNamespace

import pytest
from three_sites import World, everything, fill, noise

from drtool.errors import NoQuorum, NoRepository, Refused, StoreError, TargetOffline, UsageError, WrongPassword
from drtool.events import Progress, Stage
from drtool.manifest.facade import Manifest
from drtool.model import TargetName
from drtool.repository import founding, trials
from drtool.stores import LocalStore

A, B, C = map(TargetName, ("a/main", "b/main", "c/main"))


def test_a_created_repository_opens_with_its_password(world):
    with world.open(derive=True) as repository:
        assert repository.targets.online() == [A, B, C]
        assert repository.view.state.policy.copies == 2
        assert [voter.site for voter in repository.view.config.voters] == ["a", "b", "c"]
    assert {path.name for path in world.directory("a").iterdir()} == {"drtool.json", "keys", "manifest"}
    assert world.directory("a").stat().st_mode & 0o777 == 0o700


def test_a_wrong_password_has_its_own_error(world):
    with pytest.raises(WrongPassword) as caught, world.open(derive=True, password=b"battery staple"):
        pass
    assert caught.value.exit_code == 12


def test_no_repository_is_distinguished_from_no_answer(place):
    nowhere = World(place)
    with pytest.raises(NoRepository) as caught, nowhere.open():
        pass
    assert caught.value.exit_code == 10
    for site in "abc":
        nowhere.directory(site).mkdir()
    with pytest.raises(NoRepository), nowhere.open():
        pass


def test_a_target_that_fails_to_answer_is_not_an_absent_repository(place, monkeypatch):
    """A stale network mount may well hold the repository: 6, not 10."""

    def stale(root):
        raise TargetOffline(f"{root} cannot be reached") from OSError(errno.ESTALE, "stale")

    monkeypatch.setattr(LocalStore, "open", stale)
    with pytest.raises(NoQuorum), World(place).open():
        pass


def test_one_site_of_three_is_no_quorum_and_can_still_be_read(world):
    world.backup(fill(world.root / "source", {"file": noise(10_000)}))
    for site in "bc":
        world.directory(site).rename(world.root / f"away-{site}")
    with pytest.raises(NoQuorum) as caught, world.open():
        pass
    assert caught.value.exit_code == 6
    assert "--manifest-from any" in caught.value.hint
    with world.open(manifest_from=("a",)) as repository:
        assert repository.view.tentative
        assert len(list(repository.view.state.snapshots)) == 1


@pytest.mark.parametrize("how", ["unmounted", "other-target", "other-repository"])
def test_a_target_that_is_not_ours_stays_offline_and_untouched(world, tmp_path, how):
    directory = world.directory("b")
    if how == "other-target":
        shutil.copy(world.directory("c") / "drtool.json", directory / "drtool.json")
    else:
        directory.rename(world.root / "away")
        directory.mkdir()
    if how == "other-repository":
        shutil.copytree(World(tmp_path).found().directory("b"), directory, dirs_exist_ok=True)
    before = everything(directory)
    report = world.backup(fill(world.root / "source", {"file": noise(100_000)}))
    assert [row.target for row in report.owed] == [B]
    assert not report.degraded
    assert everything(directory) == before


def test_a_repository_is_never_founded_over_another(world):
    world.backup(fill(world.root / "source", {"file": noise(10_000)}))
    before = [everything(world.directory(site)) for site in "abc"]
    with pytest.raises(Refused) as caught:
        world.found()
    assert caught.value.exit_code == 11
    assert [everything(world.directory(site)) for site in "abc"] == before


def found_again(world, **options):
    return founding.found(world.spec(), None, 1, world.heard.append, **options)


@pytest.mark.parametrize("mount_point", ["empty", "with an empty directory of that name", "gone"])
@pytest.mark.spread(3)
def test_where_a_disk_is_not_mounted_nothing_is_founded(place, mount_point):
    """Another directory stands where the disk was, as under its mount point."""
    disk = World(place / "disk").found()
    disk.backup(fill(place / "source", {"file": noise(10_000)}))
    world = World(place / "disk", state=str(place / "state"))
    shutil.copytree(place / "disk" / "state", place / "state")
    (place / "disk").rename(place / "unmounted")
    if mount_point != "gone":
        (place / "disk").mkdir()
    if mount_point.startswith("with"):
        world.directory("a").mkdir()
    with pytest.raises(Refused, match="may not be mounted") as caught:
        found_again(world)
    assert "--replace-known" in caught.value.hint
    assert not list((place / "disk").rglob("*.json")) if mount_point != "gone" else not (place / "disk").exists()
    found_again(world, replaces_known=True)
    assert (world.directory("a") / "drtool.json").exists()


def test_where_a_repository_was_deleted_another_is_founded(world):
    world.backup(fill(world.root / "source", {"file": noise(10_000)}))
    for site in "ab":
        shutil.rmtree(world.directory(site))
    for row in [*world.directory("c").iterdir()]:
        shutil.rmtree(row) if row.is_dir() else row.unlink()
    world.keyrings.clear()
    found_again(world)
    with world.open(derive=True) as repository:
        assert not repository.view.state.snapshots


def test_a_directory_with_something_else_in_it_is_not_taken(place):
    fill(place / "b", {"thesis.tex": b"years of work"})
    with pytest.raises(Refused, match=r"thesis\.tex"):
        World(place).found()
    assert (place / "b/thesis.tex").read_bytes() == b"years of work"
    assert not (place / "b/drtool.json").exists()


def test_a_wait_for_targets_being_tried_is_reported(place, monkeypatch):
    honest = LocalStore.vote_verdict

    def slow(store):
        time.sleep(2.5 * trials.SIGN_OF_LIFE_S)
        return honest(store)

    monkeypatch.setattr(LocalStore, "vote_verdict", slow)
    told = [event for event in World(place).found().heard if isinstance(event, Stage | Progress)]
    assert told[0] == Stage(name="testing the targets")
    assert [event.files for event in told[1:3]] == [0, 0]
    assert told[1].total_files == 3
    assert set(told[1].waiting_s) == {"a/main", "b/main", "c/main"}
    assert told[-1] == Stage(name="founding")


@pytest.mark.parametrize(("copies", "minimum"), [(4, 1), (0, 1), (2, 3), (2, 0)])
def test_impossible_promises_are_refused_before_anything_is_made(place, copies, minimum):
    with pytest.raises(UsageError):
        World(place).found(copies=copies, minimum=minimum)
    assert list(place.iterdir()) == []


@pytest.mark.parametrize("puts", [0, 3, 5, 6, 7, 8, 10])
@pytest.mark.spread(4)
def test_an_interrupted_founding_can_be_repeated(place, monkeypatch, puts):
    """However many objects were there when it stopped: either it is founded, or `init` can be run again."""
    left = SimpleNamespace(puts=puts)
    write = LocalStore._write

    def stop_after(store, name, data, *, replace):
        if left.puts == 0:
            raise StoreError("the power went out")
        left.puts -= 1
        return write(store, name, data, replace=replace)

    world = World(place)
    with monkeypatch.context() as patch:
        patch.setattr(LocalStore, "_write", stop_after)
        try:
            world.found()
        except (StoreError, NoQuorum):
            pass
    try:
        world.found()
    except Refused:
        assert puts >= 8, "three slots, three markers and two acceptors make a repository"
    else:
        assert puts < 8
    with world.open(derive=True) as repository:
        assert len(repository.targets.online()) == 3


def test_an_acceptor_with_company_is_never_taken_for_a_leftover(world):
    """Two sites lost their registers, the third remembers: that is a repository in trouble, not an interrupted `init`."""
    world.backup(fill(world.root / "source", {"file": noise(10_000)}))
    for site in "bc":
        for path in world.objects(site, "manifest"):
            path.unlink()
    with pytest.raises(Refused):
        world.found()
    assert world.objects("a", "manifest")


def test_two_targets_of_a_site_and_an_only_site(place):
    world = World(place, ("a/main", "a/second", "b/main")).found(copies=2)
    report = world.backup(fill(place / "source", {"file": noise(200_000)}))
    assert not report.degraded
    assert report.copies.minimum_written == 2
    alone = World(place / "alone", ("a/main",)).found()
    assert alone.backup(place / "source").copies.wanted == 1
    assert any("one site" in message for message in alone.warnings())


def test_a_damaged_key_slot_at_one_site_locks_no_user_out(world):
    """One bad object never blocks opening, because the other sites have intact copies of the same slot."""
    (slot,) = world.objects("a", "keys")
    document = json.loads(slot.read_bytes())
    first = document["wrapped"][0]
    slot.write_text(json.dumps(document | {"wrapped": ("A" if first != "A" else "B") + document["wrapped"][1:]}))
    with world.open(derive=True) as repository:
        assert repository.targets.online() == [A, B, C]


def test_slots_that_are_no_slots_are_passed_over(world):
    for site in "ab":
        (slot,) = world.objects(site, "keys")
        slot.write_bytes(b"\0" * 100)
    with world.open(derive=True):
        pass


def test_a_target_without_keys_stores_none(place, monkeypatch):
    world = World(place)
    spec = world.spec()
    bare = [row if row.site != "c" else type(row)(name=row.name, url=row.url, keys=False) for row in spec.targets]
    monkeypatch.setattr(world, "spec", lambda **more: _with_targets(spec, bare))
    world.found()
    assert world.objects("a", "keys")
    assert not world.objects("c", "keys")


def _with_targets(spec, targets):
    return type(spec)(**{name: getattr(spec, name) for name in spec.__struct_fields__} | {"targets": tuple(targets)})


def test_a_target_that_only_the_manifest_names_is_reached_by_its_own_host(place):
    world = World(place).found()
    with world.open(targets=("a/main", "b/main")) as repository:
        assert repository.targets.online() == [A, B, C]
    other = world.elsewhere("there")
    with other.open(targets=("a/main", "b/main")) as repository:
        assert repository.targets.online() == [A, B]
        assert set(repository.owing()) == {C}


def test_the_host_is_distinguished_from_its_clone(world, monkeypatch):
    """An image that was copied with its state directory gets a new host id on another machine-id."""
    from drtool.repository import identity

    state = world.root / "state"
    first = identity.author(state, "").host_id
    assert identity.author(state, "").host_id == first
    read = identity._read
    monkeypatch.setattr(identity, "_read", lambda path: "other" if path == "/etc/machine-id" else read(path))
    assert identity.author(state, "").host_id != first


def test_founding_says_so_if_no_quorum_confirmed(place, monkeypatch):
    def unreachable(*_args, **_more):
        raise NoQuorum("founding needs 2 of 3 sites and 1 confirmed")

    monkeypatch.setattr(Manifest, "found", unreachable)
    with pytest.raises(NoQuorum):
        World(place).found()
    monkeypatch.undo()
    World(place).found()


def test_a_lost_state_directory_costs_nothing_but_the_memory_of_it(world):
    source = fill(world.root / "source", {"file": noise(10_000)})
    world.backup(source)
    os.rename(world.root / "state", world.root / "lost")
    if (world.root / "cache").exists():
        os.rename(world.root / "cache", world.root / "lost-cache")
    assert world.backup(source).parent is not None
    assert len(world.snapshots()) == 2
