"""The claims of a verification: nothing unread is recorded as read, and nothing broken as repaired."""

import threading

import pytest
from three_sites import World, fill, noise

from drtool.events import ignore
from drtool.manifest.ops import ForgetSnapshots
from drtool.model import segment_object
from drtool.operations.prune import PruneRequest, prune
from drtool.operations.repair import RepairRequest, repair
from drtool.operations.verify import Sample, VerifyRequest, reading, run, verify
from drtool.operations.verify.rounds import FULL
from drtool.operations.verify.run import healed
from drtool.repository.forgotten import forget_here


def stocked(world, count=14):
    """So many packs, one for each backup."""
    for number in range(count):
        fill(world.root / "source", {"f": noise(50_000, number)})
        world.backup(world.root / "source")
    return world


def away(world, target):
    world.directory(target).rename(str(world.directory(target)) + ".away")


def back(world, target):
    (world.root / (world.directory(target).name + ".away")).rename(world.directory(target))


def spoil(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def full_sites(world):
    return {row.site for row in world.view().state.coverage if row.level == FULL}


@pytest.fixture
def noted(monkeypatch):
    """The names that were read, in order."""
    read, lock, plain = [], threading.Lock(), reading.problem_with

    def noting(store, name, keyring):
        with lock:
            read.append(name)
        return plain(store, name, keyring)

    monkeypatch.setattr(reading, "problem_with", noting)
    return read


def test_of_one_site_everything_that_stands_there_is_read(world, noted):
    fill(world.root / "source", {"f": b"x"})
    away(world, "a")
    stocked(world)
    back(world, "a")  # b and c hold objects that belong to a
    result = world.verify("full", site="b")
    live = {segment_object(ref.id) for ref in world.view().state.segments}
    assert set(noted) >= set(world.names("b")) | (live & set(world.names("b", "index")))
    assert result.unreferenced.packs == 0
    assert "b" in full_sites(world)


def test_damage_in_misplaced_objects_is_found(world):
    away(world, "a")
    stocked(world)
    back(world, "a")
    for path in world.objects("b"):
        spoil(path)
    result = world.verify("full", site="b")
    assert len(result.damaged) == len(world.objects("b"))
    assert "b" not in full_sites(world)


@pytest.fixture
def two_disks(place):
    """Site a has two targets."""
    return stocked(World(place, ("a/main", "a/two", "b/main", "c/main")).found(2), 20)


def test_a_round_does_not_pass_over_a_target_that_is_away(two_disks, noted):
    world = two_disks
    away(world, "a/two")
    world.verify("sample", sample=Sample(share=0.8))
    back(world, "a/two")
    noted.clear()
    world.verify("sample", sample=Sample(share=1.0))
    assert "a" in full_sites(world)
    assert set(world.names("a/two")) <= set(noted)


def test_findings_of_one_host_in_a_round_count_for_the_host_that_ends_it(world):
    stocked(world)
    for path in world.objects("b"):
        spoil(path)
    found = world.verify("sample", sample=Sample(share=0.7))
    assert found.damaged
    other = world.elsewhere("there")
    ended = other.verify("sample", sample=Sample(share=1.0))
    assert all(row.finished for row in ended.rounds)
    assert not full_sites(world) & {"b"}
    # after a repair, a new round proves what it reads
    with world.open() as repository:
        repair(repository, RepairRequest(read_all=True, workers=1), ignore)
    other.verify("sample", sample=Sample(share=1.0))
    other.verify("sample", sample=Sample(share=1.0))
    assert full_sites(world) == {"a", "b", "c"}


def test_objects_that_a_target_deletes_are_not_reported_repaired(world):
    stocked(world, 3)
    (spoilt, *_) = world.objects("b")
    spoil(spoilt)
    found = world.verify("full")
    assert [row.target for row in found.damaged] == ["b/main"]
    away(world, "b")
    with world.open() as repository:
        good, bad, _ = healed(repository, found, ignore)
    assert good == []
    assert [row.target for row in bad] == ["b/main"]


def test_reads_of_a_target_that_left_prove_nothing_about_the_rest(world, monkeypatch):
    stocked(world)
    plain, lock, read = reading.problem_with, threading.Lock(), []

    def leaving(store, name, keyring):
        with lock:
            read.append(name)
            if len(read) == 12:
                away(world, "b")
        return plain(store, name, keyring)

    monkeypatch.setattr(reading, "problem_with", leaving)
    result = world.verify("sample", sample=Sample(share=1.0))
    live = {segment_object(ref.id) for ref in world.view().state.segments}
    elsewhere = sum(len(world.names(site)) + len(live & set(world.names(site, "index"))) for site in "ac")
    assert [row.target for row in result.offline] == ["b/main"]
    assert (result.bound_95.read, result.bound_95.of) == (elsewhere, elsewhere)


def test_a_copy_that_may_not_be_read_is_unread_and_not_damaged(world, monkeypatch):
    stocked(world, 3)
    plain = reading.problem_with
    (name, *_) = world.names("b")

    def refusing(store, asked, keyring):
        if asked == name:
            raise reading.StoreError("permission denied")
        return plain(store, asked, keyring)

    monkeypatch.setattr(reading, "problem_with", refusing)
    result = world.verify("full")
    assert result.damaged == []
    assert any("could not be read: permission denied" in words for words in world.warnings())
    holders = {site for site in "abc" if name in world.names(site)}
    assert full_sites(world) == {"a", "b", "c"} - holders


def test_one_site_read_whole_proves_nothing_about_others(world):
    stocked(world, 3)
    world.verify("full", site="a")
    (source,) = world.status().sources
    assert source.last_verified_ns is None
    with world.open() as repository:
        verify(repository, VerifyRequest(level="full", site="b", workers=2), ignore)
    (source,) = world.status().sources
    assert source.last_verified_ns is not None  # two copies on three sites: any two have everything


@pytest.mark.parametrize("level", ["structure", "full"])
def test_objects_that_prune_removes_meanwhile_are_neither_missing_nor_damaged(place, monkeypatch, level):
    """The catalogue was read before, the targets are listed or read after."""
    world = stocked(World(place).found(copies=2), 4)
    with world.open() as repository:
        old = [row.id for row in repository.view.state.snapshots][:-1]
        forget_here(repository, ForgetSnapshots(tuple(old)))
    calls = []

    def late(plain):
        def first(*words):
            if not calls:
                calls.append(words)
                with world.open() as repository:
                    request = PruneRequest(now_ns=10**18, yes=True)
                    assert prune(repository, request, ignore).removed.packs
            return plain(*words)

        return first

    if level == "structure":
        monkeypatch.setattr(run, "take_inventory", late(run.take_inventory))
    else:
        monkeypatch.setattr(reading, "problem_with", late(reading.problem_with))
    found = world.verify(level)
    assert calls
    assert (found.missing, found.damaged, found.affected, found.unrepairable) == ([], [], [], [])


def test_a_missing_object_is_also_missing_at_the_second_look(place):
    world = stocked(World(place).found(copies=2), 4)
    gone = next(iter(world.objects("a")))
    gone.unlink()
    assert [row.object for row in world.verify("structure").missing if row.target == "a/main"]
