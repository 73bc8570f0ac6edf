"""Verify never reports unread data as good."""

import shutil
import threading

import pytest
from three_sites import fill, noise

from drtool.cli.commands.verify import verify_exit
from drtool.cli.core.text import document_of
from drtool.model import TargetName
from drtool.operations.verify import reading


@pytest.fixture
def source(world):
    return fill(world.root / "source", {f"{i}": noise(30_000, i) for i in range(3)})


def flip(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 3] ^= 4
    path.write_bytes(data)


@pytest.mark.parametrize("level", ["structure", "full"])
def test_an_index_segment_that_no_target_can_give_is_damage_at_every_level(world, source, level):
    """Without it the expected packs are unknown, so nothing else can be reported whole."""
    world.backup(source)
    for site in "abc":
        for path in world.objects(site, "index"):
            flip(path)
    shutil.rmtree(world.root / "cache", ignore_errors=True)
    result = world.verify(level)
    assert {(row.target, row.object) for row in result.damaged} >= {
        (TargetName(f"{site}/main"), name) for site in "abc" for name in world.names(site, "index")
    }
    assert len(result.damaged) == len({(row.target, row.object) for row in result.damaged}), "each once"
    assert verify_exit(document_of(result)) == 4
    assert world.view().state.coverage == (), "unread copies are not recorded as read"


def test_a_snapshot_with_lost_trees_is_reported_not_refused(world, source):
    world.backup(source)
    (snapshot,) = world.snapshots()
    common = set(world.names("a")) & set(world.names("b")) & set(world.names("c"))
    for name in common:
        for site in "abc":
            (world.directory(site) / name).unlink()
    result = world.verify("structure", snapshot=snapshot)
    assert {row.object for row in result.missing} >= common
    assert [row.snapshot for row in result.affected] == [snapshot.id.hex()]
    assert verify_exit(document_of(result)) == 4


def test_a_target_that_leaves_while_it_is_read_is_offline_not_damaged(world, source, monkeypatch):
    world.backup(source)
    read = reading.problem_with
    common = set(world.names("a")) & set(world.names("b")) & set(world.names("c"))
    site = next(site for site in "abc" if set(world.names(site)) - common)  # one that holds the data
    only_there = set(world.names(site)) - common
    one_at_a_time = threading.Lock()

    def leaving(store, name, keyring):
        with one_at_a_time:
            if name in only_there and world.directory(site).exists():
                world.directory(site).rename(world.root / "away")
        return read(store, name, keyring)

    monkeypatch.setattr(reading, "problem_with", leaving)
    result = world.verify("full")
    assert (result.damaged, result.missing, result.unrepairable, result.affected) == ([], [], [], [])
    assert [row.target for row in result.offline] == [f"{site}/main"]
    assert result.degraded
    assert verify_exit(document_of(result)) == 5
    assert sorted(row.site for row in world.view().state.coverage) == sorted(set("abc") - {site})
