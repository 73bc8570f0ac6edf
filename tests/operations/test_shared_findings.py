"""A copy that one host finds damaged is damaged for all, until a good read clears it for all."""

import msgspec
import pytest
from msgspec.structs import replace
from test_backup_evidence import away, flip, holders, is_whole, packs
from test_prune import run as prune_now
from test_prune import thinned
from three_sites import fill, noise, settle

from drtool.errors import DrtoolError
from drtool.events import ignore
from drtool.manifest.damage import DAMAGE_LIMIT
from drtool.manifest.ops import SetRing
from drtool.model import TargetName
from drtool.operations.mounting.serving import shown_now
from drtool.operations.repair import RepairRequest, repair
from drtool.packing import PackKind
from drtool.repository import findings as findings_module

MIB = 1024 * 1024


@pytest.fixture
def source(world):
    made = fill(world.root / "source", {"big": noise(2 * MIB, 1), "sub/small": noise(5_000, 2)})
    world.backup(made)
    return made


@pytest.fixture
def other(world):
    return world.elsewhere("there")


def known(world):
    with world.open() as repository:
        return set(repository.findings.all())


def mend(world):
    with world.open() as repository:
        return repair(repository, RepairRequest(), ignore)


def spoil(world, site, name):
    path = world.directory(site) / name
    path.chmod(0o644)
    path.write_bytes(noise(path.stat().st_size, 99))


def test_a_backup_stores_data_again_that_another_host_found_bad_everywhere(world, other, source):
    flip(world, *packs(world))
    other.verify("full")
    report = world.backup(source)
    assert report.added_bytes > 2 * MIB
    assert (report.copies.minimum_written, report.degraded) == (2, False)
    assert is_whole(world, source)


def test_a_backup_stores_data_again_that_a_restore_could_not_read(world, other, source):
    (name, *_) = packs(world)
    flip(world, name)
    with other.open() as repository:
        assert other.run_restore(repository, world.root / "partly").errors
    assert {(f"{site}/main", name) for site in holders(world, name)} <= known(world)
    assert world.status().sources[0].copies == 0
    assert world.backup(source).added_bytes > 2 * MIB
    assert is_whole(world, source)


def test_a_prune_that_could_not_read_a_pack_records_its_copies(world):
    thinned(world)
    (name,) = packs(world)
    for site in holders(world, name):
        spoil(world, site, name)
    assert prune_now(world).repacked.packs == 0
    assert known(world) == {(f"{site}/main", name) for site in holders(world, name)}
    world.backup(world.root / "source")
    assert is_whole(world, world.root / "source")


def test_a_rotten_tree_that_a_backup_met_is_known_to_every_host(world, other, source):
    (name,) = packs(world, PackKind.TREES)
    flip(world, name)
    settle(source)
    world.backup(source)
    assert {(f"{site}/main", name) for site in "abc"} <= known(other)


def test_a_mount_records_damage_at_each_refresh(world, other, source):
    (name,) = packs(world, PackKind.TREES)
    flip(world, name)
    with world.open() as repository:
        with pytest.raises(DrtoolError):
            repository.trees(next(iter(repository.view.state.snapshots)).root)
        assert known(other) == set()
        assert len(shown_now(repository, lambda _: True, ignore)) == 1
    assert known(other) == {(f"{site}/main", name) for site in "abc"}


def test_one_bad_copy_that_another_host_found_counts_in_status_and_backup(world, other, source):
    (name, *_) = packs(world)
    spoil(world, holders(world, name)[0], name)
    other.verify("full")
    assert world.status().sources[0].copies == 1
    report = world.backup(source)
    assert (report.copies.minimum_written, report.degraded) == (1, True)


def test_verify_without_reading_reports_earlier_findings_of_any_host(world, other, source):
    (name, *_) = packs(world)
    site = holders(world, name)[0]
    spoil(world, site, name)
    other.verify("full")
    result = world.verify("structure")
    assert [(row.target, row.object) for row in result.damaged] == [(f"{site}/main", name)]
    assert result.degraded


def test_a_repair_by_one_host_clears_it_for_the_others(world, other, source):
    (name, *_) = packs(world)
    spoil(world, holders(world, name)[0], name)
    other.verify("full")
    assert known(world) == known(other) != set()
    mend(world)
    assert known(world) == known(other) == set()
    assert not other.verify("structure").damaged


def test_a_copy_that_reads_whole_again_is_cleared(world, other, source):
    (name, *_) = packs(world)
    site = holders(world, name)[0]
    path = world.directory(site) / name
    before = path.read_bytes()
    spoil(world, site, name)
    other.verify("full")
    path.write_bytes(before)
    world.verify("full")
    assert known(other) == set()


def test_findings_at_an_unreachable_site_stand(world, other, source):
    (name, *_) = packs(world)
    site = holders(world, name)[0]
    spoil(world, site, name)
    other.verify("full")
    away(world, site)
    mend(world)
    world.verify("full")
    assert (f"{site}/main", name) in known(other)


def test_found_without_a_quorum_it_is_recorded_by_the_next_backup(world, other, source, monkeypatch):
    (name, *_) = packs(world)
    site = holders(world, name)[0]
    spoil(world, site, name)

    def refuse(self, own, sound, judged, read_whole):
        return "no quorum"

    with monkeypatch.context() as without:
        without.setattr(findings_module.Findings, "_record", refuse)
        world.verify("full")
    assert known(other) == set()
    assert known(world) == {(f"{site}/main", name)}
    world.backup(source)
    assert known(other) == {(f"{site}/main", name)}


def test_a_verification_that_finds_the_same_twice_records_it_once(world, source):
    (name, *_) = packs(world)
    spoil(world, holders(world, name)[0], name)
    world.verify("full")
    rows = world.view().state.damage
    world.verify("structure")
    assert world.view().state.damage == rows
    world.verify("full")
    assert [row.objects for row in world.view().state.damage] == [row.objects for row in rows]


def test_more_damage_than_the_list_takes_distrusts_the_whole_target_until_it_was_read(
    world, other, source, monkeypatch
):
    (name, *_) = packs(world)
    site = holders(world, name)[0]
    many = {(TargetName(f"{site}/main"), f"packs/{n:02x}/{n:064x}") for n in range(DAMAGE_LIMIT + 1)}
    with world.open() as repository:
        assert repository.findings.update(many, ()) == ""
    assert len(world.view().state.damage) == 1
    assert world.view().state.damage[0].more
    assert (f"{site}/main", name) in known(other)
    assert other.backup(source).degraded
    mend(other)
    assert known(world) == set()
    assert not other.backup(source).degraded


def test_a_replaced_target_has_no_findings(world, source):
    (name, *_) = packs(world)
    site = holders(world, name)[0]
    spoil(world, site, name)
    world.verify("full")
    with world.open() as repository:
        state = repository.view.state
        moved = tuple(
            replace(row, url="file:///elsewhere") if row.name == f"{site}/main" else row for row in state.targets
        )
        repository.manifest.commit(SetRing(state.ring_epoch + 1, moved))
    assert world.view().state.damage == ()


def test_findings_of_an_earlier_version_are_handed_on(world, other, source):
    """They are in this host's state directory, in the original format."""
    (name, *_) = packs(world)
    copy = (f"{holders(world, name)[0]}/main", name)
    directory = next((world.root / "state" / "repositories").iterdir())
    (directory / "damage").write_bytes(msgspec.msgpack.encode([copy]))
    world.backup(source)
    assert known(other) == {copy}
