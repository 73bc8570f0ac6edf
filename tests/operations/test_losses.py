"""Losses are reported with their snapshots, paths and remedies, and all commands agree."""

import os
import shutil

import pytest
from test_backup_evidence import away, flip, holders, is_whole, packs
from three_sites import World, fill, noise

from drtool.cli.commands.repair import repair_view
from drtool.cli.commands.verify import verify_exit, verify_view
from drtool.cli.core.text import document_of
from drtool.events import ignore
from drtool.manifest.ops import ForgetSnapshots
from drtool.operations.repair import RepairRequest, repair
from drtool.operations.repair.run import exit_code
from drtool.packing import PackKind

MIB = 1024 * 1024


@pytest.fixture
def source(world):
    made = fill(world.root / "source", {"big": noise(2 * MIB, 1), "sub/small": noise(5_000, 2)})
    world.backup(made)
    return made


def destroy(world, *names):
    for name in names:
        for site in holders(world, name):
            (world.directory(site) / name).unlink()


def mend(world):
    with world.open() as repository:
        return repair(repository, RepairRequest(), ignore)


def text_of(view):
    return "\n".join(line.text for line in view.parts)


def big(source) -> str:
    return str(source / "big")


def test_a_destroyed_pack_is_lost_and_said_so_by_status_verify_and_repair(world, source):
    destroy(world, *packs(world))
    status, found, mended = world.status(), world.verify("structure"), mend(world)
    (snapshot,) = world.snapshots()
    for report in (status.lost, found.lost, mended.lost):
        assert report.packs == len(packs(world))
        assert [row.snapshot for row in report.snapshots] == [snapshot.id.hex()]
        assert big(source) in report.snapshots[0].paths
        assert f"drtool backup {source} " in report.remedies[0]
    assert status.exit_code == 7
    assert any(" lost, no good copy is left" in text and big(source) in text for text in status.problems)
    assert verify_exit(document_of(found)) == 4
    assert exit_code(mended) == 4


def test_the_headline_of_verify_says_lost(world, source):
    destroy(world, *packs(world))
    text = text_of(verify_view(document_of(world.verify("structure"))))
    assert text.split(":")[0].startswith("1 pack LOST, ") or text.split(":")[0].startswith("2 packs LOST, ")
    assert "drtool repair" not in text


def test_repair_asks_for_no_missing_target_where_none_is_missing(world, source):
    destroy(world, *packs(world))
    text = text_of(repair_view(document_of(mend(world))))
    assert "bring" not in text
    assert f"drtool backup {source}" in text


def test_the_backup_that_is_named_brings_all_snapshots_back(world, source):
    (first,) = world.snapshots()
    destroy(world, *packs(world))
    world.backup(source)
    status, found, mended = world.status(), world.verify("full"), mend(world)
    assert (status.lost.packs, found.lost.packs, mended.lost.packs) == (0, 0, 0)
    assert (status.exit_code, verify_exit(document_of(found)), exit_code(mended)) == (0, 0, 0)
    assert found.affected == []
    assert status.lost.unneeded > 0
    assert any("drtool prune" in text for text in status.notices)
    world.restore(world.root / "first", first)
    assert (world.root / "first" / big(source)[1:]).read_bytes() == noise(2 * MIB, 1)


def test_data_missing_from_the_source_stays_lost(world, source):
    destroy(world, *packs(world))
    (source / "big").write_bytes(noise(2 * MIB, 5))
    world.backup(source)
    report = world.status().lost
    assert report.packs > 0
    assert [row.paths for row in report.snapshots] == [[big(source)]]
    assert world.verify("structure").affected[0].path == big(source)
    assert is_whole(world, source)


def test_rotten_everywhere_is_as_lost_as_destroyed(world, source):
    flip(world, *packs(world))
    found = world.verify("full")
    assert found.lost.packs == world.status().lost.packs == len(packs(world))
    assert {row.path for row in found.affected} == {big(source), str(source / "sub/small")}


def test_a_lost_tree_is_reported_by_its_directory(world, source):
    destroy(world, *packs(world, PackKind.TREES))
    report = world.status().lost
    assert [row.paths for row in report.snapshots] == [["/"]]
    (first,) = world.snapshots()
    world.backup(source)
    assert {row.snapshot for row in world.status().lost.snapshots} <= {first.id.hex()}
    assert is_whole(world, source)


def test_with_a_site_away_that_may_have_it_nothing_is_called_lost(world, source):
    (name, *_) = packs(world)
    site, other = holders(world, name)
    away(world, site)
    (world.directory(other) / name).unlink()
    status, found, mended = world.status(), world.verify("structure"), mend(world)
    for report in (status.lost, found.lost, mended.lost):
        assert (report.packs, report.perhaps, report.places) == (0, 1, [f"{site}/main"])
    assert any(f"{site}/main may have it" in text for text in status.problems)
    assert (status.exit_code, verify_exit(document_of(found)) in (4, 5)) == (7, True)


def test_a_bad_copy_at_a_site_that_is_away_gives_no_hope(world, source):
    names = packs(world)
    flip(world, *names)
    world.verify("full")
    site = holders(world, names[0])[0]
    away(world, site)
    report = world.status().lost
    assert report.packs >= 1
    assert report.perhaps == 0


def test_the_message_on_another_host_names_the_host_for_the_backup(world, source):
    destroy(world, *packs(world))
    report = world.elsewhere("there").status().lost
    assert report.remedies[0].startswith(f"on here: drtool backup {source}")
    assert report.snapshots[0].there is None


def test_a_source_is_named_by_its_name(world):
    source = fill(world.root / "source", {"big": noise(MIB, 1)})
    world.backup(source, source="my home")
    destroy(world, *packs(world))
    assert "drtool backup --source 'my home' stores again" in world.status().lost.remedies[0]
    assert world.status().lost.snapshots[0].there == 1
    os.unlink(source / "big")
    assert world.status().lost.snapshots[0].there == 0


def test_with_one_copy_a_lost_pack_is_lost(place):
    world = World(place).found(copies=1)
    source = fill(world.root / "source", {"big": noise(MIB, 1)})
    world.backup(source)
    destroy(world, *packs(world))
    assert world.status().lost.packs == 1
    assert world.verify("structure").lost.packs == 1
    world.backup(source)
    assert world.status().lost.packs == 0
    assert is_whole(world, source)


def test_a_pack_that_no_snapshot_needs_is_no_loss(world, source):
    names = packs(world)
    with world.open() as repository:
        repository.manifest.commit(ForgetSnapshots(tuple(row.id for row in repository.view.state.snapshots)))
    destroy(world, *names)
    status, found, mended = world.status(), world.verify("structure"), mend(world)
    for report in (status.lost, found.lost, mended.lost):
        assert (report.packs, report.unneeded) == (0, len(names))
    assert (status.exit_code, verify_exit(document_of(found)), exit_code(mended)) == (0, 0, 0)


def test_the_command_that_is_named_heals_a_lost_site_and_a_lost_pack_together(world, source):
    (name, *_) = packs(world)
    site, other = holders(world, name)
    shutil.rmtree(world.directory(site) / "packs")
    (world.directory(other) / name).unlink()
    assert world.status().lost.packs == 1
    world.backup(source)
    assert world.status().lost.packs == 0
    assert is_whole(world, source)
