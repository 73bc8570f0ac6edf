"""Verify reports exactly the faults, and status reports what a person must know."""

import os

import pytest
from three_sites import World, fill, noise

from drtool.model import TargetName
from drtool.operations.verify import Missing

A, B, C = map(TargetName, ("a/main", "b/main", "c/main"))


@pytest.fixture
def source(world):
    """Three backups: three data packs, three tree packs, three index segments."""
    source = world.root / "source"
    for number in range(3):
        world.backup(fill(source, {f"{number}/{i}": noise(30_000, 10 * number + i) for i in range(3)}))
    return source


def data_packs(world, site):
    """Tree packs are on all three sites, data packs on two."""
    others = [set(world.names(other)) for other in "abc" if other != site]
    return sorted(name for name in world.names(site) if not all(name in names for names in others))


def flip(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 3] ^= 4
    path.write_bytes(data)


def clean(result):
    return (result.missing, result.damaged, result.affected, result.unrepairable) == ([], [], [], [])


def test_a_whole_repository_is_clean_at_every_level(world, source):
    for level in ("structure", "full"):
        result = world.verify(level)
        assert clean(result)
        assert (result.degraded, result.misplaced, result.owed, result.unreferenced.packs) == (False, 0, 0, 0)
        assert result.checked.packs == 6
        assert result.checked.bytes == sum(
            path.stat().st_size for site in "abc" for kind in ("packs", "index") for path in world.objects(site, kind)
        )


@pytest.mark.parametrize("kind", ["packs", "index"])
def test_a_flipped_bit_is_found_by_reading(world, source, kind):
    for site in "abc":
        for path in world.objects(site, kind)[:1]:
            flip(path)
        name = world.names(site, kind)[0]
        result = world.verify()
        assert [(row.target, row.object) for row in result.damaged] == [(f"{site}/main", name)]
        assert (result.missing, result.affected) == ([], [])
        flip(world.objects(site, kind)[0])


def test_a_cut_object_is_found_by_its_size(world, source):
    for path in world.objects("b"):
        path.write_bytes(path.read_bytes()[:-1])
    for level in ("structure", "full"):
        result = world.verify(level)
        assert sorted((row.target, row.object) for row in result.damaged) == [(B, name) for name in world.names("b")]


def test_deleted_objects_are_missing(world, source):
    site = next(site for site in "abc" if data_packs(world, site))
    (name, *_) = data_packs(world, site)
    (world.directory(site) / name).unlink()
    for level in ("structure", "full"):
        result = world.verify(level)
        assert Missing(TargetName(f"{site}/main"), name) in result.missing
        assert {row.object for row in result.missing} == {name}
        assert (result.damaged, result.degraded) == ([], True)


def test_a_deleted_tree_is_missing_though_two_copies_are_left(world, source):
    """It was there and no longer is: that is loss, not something owed since the site was away."""
    (name, *_) = [name for name in world.names("a") if all(name in world.names(site) for site in "bc")]
    (world.directory("a") / name).unlink()
    result = world.verify("structure")
    assert result.missing == [Missing(A, name)]
    assert not result.degraded


def test_swapped_objects_are_both_found(world, source):
    first, second = world.objects("c")[:2]
    one, two = first.read_bytes(), second.read_bytes()
    first.write_bytes(two)
    second.write_bytes(one)
    result = world.verify()
    assert {row.object for row in result.damaged} == set(world.names("c")[:2])
    assert {row.target for row in result.damaged} == {C}


def test_all_kinds_of_damage_at_one_target_are_distinguished(world, source):
    packs = world.objects("b")
    flip(packs[0])
    packs[1].write_bytes(packs[1].read_bytes()[:50])
    names = world.names("b")
    world.objects("b", "index")[0].write_bytes(b"")
    result = world.verify()
    assert {row.object for row in result.damaged} == {*names[:2], world.names("b", "index")[0]}
    assert result.affected == []
    assert {row.target for row in result.damaged} == {B}
    bound = result.bound_95
    assert (bound.read, bound.bad) == (bound.of, 1), "those of the wrong size need not be read"
    assert bound.bad_fraction == 1 / bound.of


def test_an_offline_site_makes_degraded_and_nothing_missing(world, source):
    site = next(site for site in "abc" if data_packs(world, site))
    world.directory(site).rename(world.root / "away")
    result = world.verify()
    assert clean(result)
    assert [row.target for row in result.offline] == [TargetName(f"{site}/main")]
    assert result.degraded
    (world.root / "away").rename(world.directory(site))
    assert not world.verify("structure").degraded


def test_a_copy_too_few_and_a_foreign_object_are_counted(world, source):
    stray = "packs/00/" + "00" * 32
    path = world.directory("a") / stray
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b"left behind")
    result = world.verify()
    assert (result.unreferenced.packs, result.unreferenced.bytes) == (1, 11)
    assert clean(result)


def test_full_copies_in_other_places_are_misplaced_not_missing(world, source):
    site = next(site for site in "abc" if data_packs(world, site))
    (name, *_) = data_packs(world, site)
    (other,) = [other for other in "abc" if name not in world.names(other)]
    target = world.directory(other) / name
    target.parent.mkdir(exist_ok=True)
    os.rename(world.directory(site) / name, target)
    result = world.verify()
    assert (result.missing, result.damaged, result.misplaced, result.degraded) == ([], [], 1, False)


def test_objects_that_a_site_missed_while_away_are_owed(world, source):
    world.directory("c").rename(world.root / "away")
    report = world.backup(fill(source, {"new": noise(10_000, 88)}))
    assert [row.target for row in report.owed] == [C]
    (world.root / "away").rename(world.directory("c"))
    result = world.verify()
    assert clean(result)
    assert result.owed == 2, "a tree pack and an index segment"
    assert not result.degraded


def test_only_the_paths_that_need_a_lost_pack_are_affected(world, source):
    before = set(world.names("a")) | set(world.names("b")) | set(world.names("c"))
    world.backup(fill(source, {"late/x": noise(10_000, 5), "late/y": noise(10_000, 6)}))
    after = {
        name: [site for site in "abc" if name in world.names(site)] for site in "abc" for name in world.names(site)
    }
    (lost,) = [name for name, sites in after.items() if name not in before and len(sites) == 2]
    for site in after[lost]:
        flip(world.directory(site) / lost)
    result = world.verify()
    newest = world.snapshots()[-1].id.hex()
    assert {(row.snapshot, row.path) for row in result.affected} == {
        (newest, str(source / "late/x")),
        (newest, str(source / "late/y")),
    }
    assert [row.object for row in result.unrepairable] == [lost]
    assert len(result.damaged) == 2


def test_one_site_and_one_snapshot_alone(world, source):
    flip(world.objects("b")[0])
    assert clean(world.verify(site="a"))
    assert len(world.verify(site="b").damaged) == 1
    oldest = world.snapshots()[0]
    assert world.verify(snapshot=oldest).checked.packs == 2


def test_status_of_a_healthy_repository(world, source):
    world.verify()
    result = world.status()
    assert (result.healthy, result.problems) == (True, [])
    assert (result.quorum.needed, result.quorum.reachable) == (2, 3)
    assert [(site.name, site.reachable, site.votes) for site in result.sites] == [(s, True, True) for s in "abc"]
    for site in result.sites:
        (target,) = site.targets
        paths = [path for kind in ("packs", "index") for path in world.objects(site.name, kind)]
        assert (target.objects, target.bytes) == (len(paths), sum(path.stat().st_size for path in paths))
        assert target.free_bytes > 0
    (row,) = result.sources
    assert (row.host, row.copies, row.newest_snapshot) == ("here", 2, world.snapshots()[-1].id.hex())
    assert 0 <= row.age_seconds < 600
    assert row.last_verified_ns is not None


def test_status_names_the_faults(world, source):
    gone = max("abc", key=lambda site: len(world.names(site)))  # where the ring put the packs is chance
    world.directory(gone).rename(world.root / "away")
    result = world.status()
    assert not result.healthy
    assert (result.quorum.reachable, result.sources[0].copies) == (2, 1)
    assert any(f"{gone}/main is offline" in problem for problem in result.problems)
    assert any("fewer than 2 good copies" in problem for problem in result.problems)
    assert [site.name for site in result.sites if not site.reachable] == [gone]


def test_an_empty_repository_is_whole(place):
    world = World(place).found()
    assert clean(world.verify())
    assert world.status().sources == []


def test_a_site_with_damage_does_not_count_as_verified(world, source):
    world.backup(source)
    for pack in world.root.glob("*/packs/*/*"):
        pack.write_bytes(pack.read_bytes()[:-1] + b"?")
    assert world.verify().damaged
    assert [row.last_verified_ns for row in world.status().sources] == [None]
