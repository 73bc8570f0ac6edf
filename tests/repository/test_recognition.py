"""A target without a sound marker is recognised by its contents, used, and marked again. No other target is."""

import shutil
from pathlib import Path

import pytest
from msgspec.structs import replace
from three_sites import World, fill, noise, portrait

from drtool.errors import DrtoolError, NoQuorum, WrongPassword
from drtool.events import ignore
from drtool.manifest.ops import SetRing
from drtool.model import TargetName
from drtool.operations.repair import RepairRequest, repair
from drtool.repository.keys import check_kept
from drtool.repository.marker import MARKER_OBJECT, Marker


@pytest.fixture
def stocked(world):
    world.backup(fill(world.root / "source", {"file": noise(5_000)}))
    return world


def marker(world: World, target: str) -> Path:
    return world.directory(target) / MARKER_OBJECT


def flip(path: Path, at: int, mask: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= mask
    path.write_bytes(data)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:100])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def unmarked(world: World, **more: object) -> dict[str, str]:
    with world.open(**more) as repository:
        return dict(repository.targets.unmarked)


def offline(world: World, **more: object) -> dict[str, str]:
    with world.open(**more) as repository:
        return {
            name: why for name, why in repository.targets.failures.items() if not repository.targets.reachable(name)
        }


def repaired(world: World) -> list[str]:
    with world.open() as repository:
        return repair(repository, RepairRequest(), ignore).manifest


def other_name(path: Path) -> None:
    """Unlike another value, the MAC does not show it: the value that is missing then is the default."""
    path.write_bytes(path.read_bytes().replace(b'"format"', b'"vormat"'))


def upper_case(path: Path) -> None:
    head, mac = path.read_bytes().split(b'"mac"')
    path.write_bytes(head + b'"mac"' + mac.upper())


@pytest.mark.parametrize("damage", [empty, cut, Path.unlink, other_name, upper_case])
def test_a_target_with_a_damaged_marker_is_used_reported_and_marked_again(stocked, damage):
    damage(marker(stocked, "b"))
    assert (set(unmarked(stocked)), offline(stocked)) == ({"b/main"}, {})
    assert any("recognised" in words and "b/main" in words for words in stocked.status().problems)
    result = stocked.verify("structure")
    assert {(row.target, row.object) for row in (*result.missing, *result.damaged)} == {("b/main", MARKER_OBJECT)}
    assert any(words.startswith("wrote drtool.json at b/main again") for words in repaired(stocked))
    assert (unmarked(stocked), stocked.status().problems) == ({}, [])
    result = stocked.verify()
    assert (result.missing, result.damaged) == ([], [])


@pytest.mark.parametrize("mask", [0x01, 0x04, 0xFF])
def test_no_flipped_bit_of_a_marker_takes_a_target_offline(stocked, mask):
    held = marker(stocked, "b").read_bytes()
    fields = {
        held.index(b": ", held.index(name)) + 3 for name in (b"format", b"repository", b"site", b'"target"', b"mac")
    }
    for at in sorted(fields | set(range(0, len(held), 40))):
        marker(stocked, "b").write_bytes(held)
        flip(marker(stocked, "b"), at, mask)
        assert offline(stocked) == {}, held[: at + 1]


def test_backup_marks_a_recognised_target_again(stocked):
    empty(marker(stocked, "b"))
    stocked.backup(stocked.root / "source")
    with stocked.open() as repository:
        assert Marker.read(repository.targets.store("b/main")).authentic(repository.keyring)


def test_a_repository_without_a_single_sound_marker_is_read_and_mended(stocked):
    for site in "abc":
        empty(marker(stocked, site))
    assert set(unmarked(stocked, derive=True)) == {"a/main", "b/main", "c/main"}
    repaired(stocked)
    assert unmarked(stocked) == {}


def test_the_last_site_without_a_sound_marker_returns_its_data(place):
    world = World(place).found(copies=3)
    source = fill(place / "source", {"file": noise(5_000)})
    world.backup(source)
    for site in "ac":
        shutil.rmtree(world.directory(site))
    cut(marker(world, "b"))
    stranger = World(place, host="new", state="state-new")
    with stranger.open(manifest_from=("any",), derive=True) as repository:
        stranger.run_restore(repository, place / "out")
    assert portrait(place / "out" / source.relative_to("/"))[b"file"] == portrait(source)[b"file"]


def test_workers_in_processes_of_their_own_use_a_recognised_target(place):
    world = World(place, workers=2).found(copies=3)
    source = fill(place / "source", {f"file{number}": noise(5_000, number) for number in range(8)})
    world.backup(source)
    for site in "ac":
        shutil.rmtree(world.directory(site))
    empty(marker(world, "b"))
    with world.open(manifest_from=("any",)) as repository:
        assert world.run_restore(repository, place / "out").files == 8


def test_an_empty_disk_is_not_taken_for_a_target(stocked):
    shutil.rmtree(stocked.directory("b"))
    stocked.directory("b").mkdir()
    assert set(offline(stocked)) == {"b/main"}
    assert not repaired(stocked)
    assert list(stocked.directory("b").iterdir()) == []


def test_another_site_s_disk_without_a_marker_is_not_taken_for_a_target(stocked):
    shutil.rmtree(stocked.directory("b"))
    shutil.copytree(stocked.directory("c"), stocked.directory("b"))
    empty(marker(stocked, "b"))
    assert set(offline(stocked)) == {"b/main"}


def test_another_target_s_own_marker_is_believed(stocked):
    marker(stocked, "b").write_bytes(marker(stocked, "c").read_bytes())
    assert "it is target c/main" in offline(stocked)["b/main"]


def test_a_disk_of_another_repository_without_a_marker_is_not_taken_for_a_target(stocked, tmp_path):
    other = World(tmp_path).found()
    shutil.rmtree(stocked.directory("b"))
    shutil.copytree(other.directory("b"), stocked.directory("b"))
    empty(marker(stocked, "b"))
    assert set(offline(stocked)) == {"b/main"}
    for site in "ac":
        empty(marker(stocked, site))
    assert set(offline(stocked)) == {"b/main"}, "the key slots of most places identify the repository"


def test_the_voter_that_a_place_was_before_its_register_was_replaced_is_not_taken_for_a_target(stocked):
    shutil.copytree(stocked.directory("b"), stocked.root / "older")
    shutil.rmtree(stocked.directory("b") / "manifest")
    repaired(stocked)
    with stocked.open() as repository:
        rows = tuple(
            replace(row, id="ab" * 16) if row.name == "b/main" else row for row in repository.view.state.targets
        )
        repository.manifest.commit(SetRing(repository.view.state.ring_epoch + 1, rows))
    shutil.rmtree(stocked.directory("b"))
    (stocked.root / "older").rename(stocked.directory("b"))
    empty(marker(stocked, "b"))
    assert set(offline(stocked)) == {"b/main"}


def test_a_target_without_a_register_is_recognised_by_its_contents(place):
    world = World(place, targets=("a/main", "a/second", "b/main", "c/main")).found(copies=3)
    for number in range(6):
        world.backup(fill(place / "source", {"file": noise(50_000, number)}))
    assert world.objects("a/second")
    empty(marker(world, "a/second"))
    assert set(unmarked(world)) == {"a/second"}
    shutil.rmtree(world.directory("a/second") / "packs")
    assert set(offline(world)) == {"a/second"}, "not all of the sample is there"


def test_the_fault_of_a_marker_is_reported_if_nothing_proves_the_target(stocked):
    for name in ("manifest", "packs", "index", "keys"):
        shutil.rmtree(stocked.directory("b") / name)
    empty(marker(stocked, "b"))
    assert "does not parse" in offline(stocked)["b/main"]
    with pytest.raises(DrtoolError, match="b/main is offline"), stocked.open() as repository:
        repository.targets.store("b/main")


def test_a_target_that_took_the_name_of_an_earlier_one_gets_the_marker_that_the_manifest_names(stocked):
    name, id_ = TargetName("b/main"), "cd" * 16
    with stocked.open() as repository:
        rows = tuple(replace(row, id=id_) if row.name == name else row for row in repository.view.state.targets)
        repository.manifest.commit(SetRing(repository.view.state.ring_epoch + 1, rows))
    empty(marker(stocked, "b"))
    assert (set(unmarked(stocked)), offline(stocked)) == ({"b/main"}, {})
    repaired(stocked)
    with stocked.open() as repository:
        assert repository.targets.markers[name].target_id == id_


def test_a_slot_that_is_damaged_everywhere_is_put_back_from_the_copy_that_this_host_keeps(world):
    with world.open(derive=True):
        pass
    held = [path.read_bytes() for site in "abc" for path in world.objects(site, "keys")]
    for site in "abc":
        for path in world.objects(site, "keys"):
            path.write_bytes(b"")
    with pytest.raises(NoQuorum), world.open(derive=True, password=b"another"):
        pass
    with world.open(derive=True) as repository:
        assert "this host has a copy" in world.warnings()[-1]
        repair(repository, RepairRequest(), ignore)
    assert [path.read_bytes() for site in "abc" for path in world.objects(site, "keys")] == held


def test_the_slot_that_this_host_keeps_opens_nothing_once_it_was_removed(world):
    with world.open(derive=True) as repository:
        table, state_dir = repository.view.state.keys, repository.state_dir
    check_kept(state_dir, table)
    with pytest.raises(WrongPassword, match="removed or replaced"):
        check_kept(state_dir, replace(table, slots=()))
