"""A backup counts observed copies, and stores data with too few of them again."""

import os
import shutil

import pytest
from three_sites import World, fill, noise, portrait, settle

from drtool.model import pack_object
from drtool.operations.backup import SourceJob
from drtool.packing import PackKind
from drtool.repository import repository as module

MIB = 1024 * 1024


@pytest.fixture
def source(world):
    made = fill(world.root / "source", {"big": noise(2 * MIB, 1), "sub/small": noise(5_000, 2)})
    world.backup(made)
    return made


def packs(world: World, kind: PackKind = PackKind.DATA) -> list[str]:
    with world.open() as repository:
        return [pack_object(pack.pack) for pack in repository.index.packs() if pack.kind == kind]


def holders(world: World, name: str) -> list[str]:
    return [site for site in "abc" if (world.directory(site) / name).exists()]


def flip(world: World, *names: str) -> None:
    """Change one byte of every copy."""
    for name in names:
        for site in holders(world, name):
            path = world.directory(site) / name
            data = bytearray(path.read_bytes())
            data[len(data) // 2] ^= 1
            path.chmod(0o644)
            path.write_bytes(data)


def away(world: World, site: str) -> None:
    world.directory(site).rename(world.root / f"away-{site}")


def is_whole(world: World, source, to="out") -> bool:
    """Return whether the newest snapshot restores to the source's state, without this host's cache."""
    shutil.rmtree(world.root / "cache", ignore_errors=True)
    out = world.root / to
    shutil.rmtree(out, ignore_errors=True)
    world.restore(out)
    return portrait(out / os.path.relpath(source, "/")) == portrait(source)


def test_an_unchanged_file_with_only_bad_copies_is_stored_again(world, source):
    settle(source)
    world.backup(source)
    flip(world, *packs(world))
    assert world.verify("full").damaged
    report = world.backup(source)
    assert (report.copies.minimum_written, report.degraded) == (2, False)
    assert report.files.unmodified == 2
    assert report.added_bytes > 2 * MIB
    assert is_whole(world, source)


def test_data_stored_again_is_not_stored_a_third_time(world, source):
    flip(world, *packs(world))
    world.verify("full")
    world.backup(source)
    settle(source)
    assert world.backup(source).added_bytes == 0
    assert is_whole(world, source)


def test_a_file_with_one_bad_copy_is_not_stored_again_but_counts_one(world, source):
    (name, *_) = packs(world)
    path = world.directory(holders(world, name)[0]) / name
    path.chmod(0o644)
    path.write_bytes(noise(path.stat().st_size, 9))
    world.verify("full")
    report = world.backup(source)
    assert (report.copies.minimum_written, report.degraded, report.added_bytes) == (1, True, 0)
    assert world.status().sources[0].copies == 1


def test_a_rotten_tree_of_the_parent_is_stored_again_by_the_run_that_meets_it(world, source):
    trees = packs(world, PackKind.TREES)
    flip(world, *trees)
    shutil.rmtree(world.root / "cache")
    report = world.backup(source)
    assert (report.copies.minimum_written, report.degraded) == (2, False)
    assert set(packs(world, PackKind.TREES)) - set(trees)
    assert is_whole(world, source)


def test_a_tree_in_a_whole_block_of_a_rotten_pack_is_stored_again_too(world):
    """The first directory is compared with a good block of the pack, the last one with a bad one."""
    source = fill(world.root / "many", {f"{d:02}/{'n' * 200}{f:04}": b"" for d in range(8) for f in range(700)})
    world.backup(source)
    settle(source)
    world.backup(source)
    with world.open() as repository:
        (pack,) = {row.pack: row for row in repository.index.packs()}.values()
        assert len(pack.blocks) > 1
        start, length = pack.span(0)
    for site in holders(world, pack_object(pack.pack)):
        path = world.directory(site) / pack_object(pack.pack)
        data = bytearray(path.read_bytes())
        data[start + length // 2] ^= 1
        path.chmod(0o644)
        path.write_bytes(data)
    (world.root / "many" / "00" / "new").write_bytes(b"new")
    world.backup(source)
    for site in "abc":
        (world.directory(site) / pack_object(pack.pack)).unlink(missing_ok=True)
    assert is_whole(world, source)


def test_a_pack_only_at_a_site_that_is_gone_is_stored_again(world, source):
    (name, *_) = packs(world)
    gone, other = holders(world, name)
    away(world, gone)
    (world.directory(other) / name).unlink()
    report = world.backup(source)
    assert (report.copies.minimum_written, report.degraded) == (2, False)
    assert is_whole(world, source)
    assert any("no good copy" in message and f"{gone}/main" in message for message in world.warnings())


def test_copies_at_a_site_that_is_gone_do_not_count_for_an_unchanged_source(world, source):
    settle(source)
    world.backup(source)
    away(world, holders(world, packs(world)[0])[0])
    report = world.backup(source)
    assert (report.copies.minimum_written, report.degraded, report.added_bytes) == (1, True, 0)
    assert world.status().sources[0].copies == 1
    assert world.verify("structure").degraded


def test_a_site_that_is_gone_and_has_nothing_of_the_snapshot_costs_it_no_copy(world):
    """Trees and the index are everywhere, so their two other copies keep the promise."""
    source = fill(world.root / "source", {"big": noise(2 * MIB, 1)})
    world.backup(source)
    (name,) = packs(world)
    (unused,) = set("abc") - set(holders(world, name))
    away(world, unused)
    report = world.backup(source)
    assert (report.copies.minimum_written, report.degraded) == (2, False)
    assert world.status().sources[0].copies == 2


def test_a_short_pack_that_another_source_needs_does_not_degrade_this_one(world, source):
    other = fill(world.root / "other", {"file": noise(MIB, 7)})
    world.backup(other)
    with world.open() as repository:
        (name,) = [
            pack_object(row.pack)
            for row in repository.index.packs()
            if row.kind == PackKind.DATA and row.size_bytes < 2 * MIB
        ]
    (world.directory(holders(world, name)[0]) / name).unlink()
    assert not world.backup(source).degraded
    assert world.backup(other).degraded


def test_a_pack_of_the_wrong_size_is_no_copy(world, source):
    (name, *_) = packs(world)
    path = world.directory(holders(world, name)[0]) / name
    path.chmod(0o644)
    os.truncate(path, path.stat().st_size - 1)
    report = world.backup(source)
    assert (report.copies.minimum_written, report.degraded) == (1, True)
    assert world.status().sources[0].copies == 1


def test_a_site_set_back_to_last_week_counts_only_for_listed_objects(world, source):
    for site in "abc":
        shutil.copytree(world.directory(site) / "packs", world.root / f"week-{site}")
    newer = fill(world.root / "newer", {"file": noise(MIB, 3)})
    world.backup(newer)
    name = max(packs(world), key=lambda name: (world.directory(holders(world, name)[0]) / name).stat().st_mtime_ns)
    site = holders(world, name)[0]
    shutil.rmtree(world.directory(site) / "packs")
    shutil.copytree(world.root / f"week-{site}", world.directory(site) / "packs")
    assert world.backup(newer).copies.minimum_written == 1
    assert world.backup(source).copies.minimum_written == 2


def test_with_one_copy_data_of_an_absent_site_is_stored_at_another(place):
    world = World(place).found(copies=1)
    source = fill(world.root / "source", {"big": noise(MIB, 1)})
    world.backup(source)
    (name,) = packs(world)
    away(world, holders(world, name)[0])
    report = world.backup(source)
    assert (report.copies.minimum_written, report.degraded) == (1, False)
    assert is_whole(world, source)


def test_below_a_minimum_of_two_one_good_copy_is_not_enough(place):
    world = World(place).found(copies=2, minimum=2)
    source = fill(world.root / "source", {"big": noise(MIB, 1)})
    world.backup(source)
    (name,) = packs(world)
    (world.directory(holders(world, name)[0]) / name).unlink()
    report = world.backup(source)
    assert report.added_bytes == MIB
    assert (report.copies.minimum_written, report.degraded) == (2, False)


def test_an_index_segment_that_no_site_has_is_stored_again_from_the_cache_of_this_host(world, source):
    packs(world)
    for site in "abc":
        for path in world.objects(site, "index"):
            path.unlink()
    report = world.backup(source)
    assert (report.copies.minimum_written, report.degraded) == (2, False)
    assert not world.verify("full").missing
    assert is_whole(world, source)


def test_without_the_cache_all_that_a_lost_segment_named_is_stored_again(world, source):
    for site in "abc":
        for path in world.objects(site, "index"):
            path.unlink()
    shutil.rmtree(world.root / "cache", ignore_errors=True)
    report = world.backup(source)
    assert (report.copies.minimum_written, report.degraded) == (2, False)
    assert report.added_bytes > 2 * MIB
    assert is_whole(world, source)


def test_an_index_segment_on_too_few_sites_is_said(world, source):
    for site in "ab":
        for path in world.objects(site, "index"):
            path.unlink()
    report = world.backup(source)
    assert (report.copies.minimum_written, report.degraded) == (1, True)
    assert world.status().sources[0].copies == 1


def test_a_dry_run_reports_files_that_would_be_read_again(world, source):
    settle(source)
    world.backup(source)
    before = [world.names(site) for site in "abc"]
    for name in packs(world):
        for site in holders(world, name):
            (world.directory(site) / name).unlink()
    report = world.backup(source, dry_run=True)
    assert report.files.changed == 2
    assert any("no good copy" in message for message in world.warnings())
    assert [world.names(site) for site in "abc"] != before


def test_two_sources_in_one_run_list_every_target_once(world, source, monkeypatch):
    taken = []
    plain = module.take_inventory
    monkeypatch.setattr(module, "take_inventory", lambda *args, **more: taken.append(args) or plain(*args, **more))
    other = fill(world.root / "other", {"file": noise(MIB, 7)})
    with world.open() as repository:
        jobs = [SourceJob(name=name, paths=(os.fsencode(path),)) for name, path in (("one", source), ("two", other))]
        first, second = world.run_jobs(repository, *jobs).snapshots
    assert [row.copies.minimum_written for row in (first, second)] == [2, 2]
    assert len(taken) == 1


def test_packs_of_another_host_since_the_listing_are_looked_for(world, source):
    other = fill(world.root / "other", {"file": noise(MIB, 7)})
    with world.open() as repository:
        world.run_backup(repository, source)
        world.elsewhere("there").backup(other)
        report = world.run_backup(repository, other).snapshots[0]
    assert (report.copies.minimum_written, report.degraded) == (2, False)
    assert report.added_bytes < 1000
