"""The predictions of `survive` are true: sites are really removed, and restores really tried."""

import shutil
from itertools import combinations

import pytest
from blake3 import blake3
from thoroughness import STRIDE
from three_sites import World, fill, noise, portrait, stored_twice

from drtool.errors import DrtoolError, UsageError
from drtool.events import ignore
from drtool.model import ChunkId, ChunkKind
from drtool.operations.repair import RepairRequest, repair
from drtool.operations.survive import SurviveRequest, needs, survive
from drtool.operations.survive.judging import Bits, are_met, is_met, losses, named_targets
from drtool.operations.survive.run import exit_code
from drtool.trees import read_directory

SITES = ("a/main", "b/main", "c/main", "d/main", "e/main")


@pytest.fixture
def stocked(place):
    """Five sites, two copies, six snapshots that share files: the cost of losing two sites depends on the snapshot."""
    world = World(place, targets=SITES).found(copies=2)
    source = place / "source"
    for number in range(6):
        fill(source, {f"d{number % 2}/file": noise(40_000, number), "same": b"same", "d2/deep/er": noise(900, 7)})
        world.backup(source)
    return world


def outlook(world, *lose):
    with world.open() as repository:
        return survive(repository, SurviveRequest(lose=lose), ignore)


def restorable(world, lost):
    """Return the snapshots that restore whole without these sites, or none if the catalogue is unreadable."""
    for site in lost:
        world.directory(site).rename(world.root / f"away-{site}")
    whole = set()
    try:
        with world.open(manifest_from=("any",)) as repository:
            for row in repository.view.state.snapshots:
                out = world.root / "out"
                shutil.rmtree(out, ignore_errors=True)
                try:
                    if not world.run_restore(repository, out, row).errors:
                        assert portrait(out)
                        whole.add(row.id.hex())
                except DrtoolError:
                    pass  # it is not restorable, which is the answer
    except DrtoolError:
        pass
    finally:
        for site in lost:
            (world.root / f"away-{site}").rename(world.directory(site))
    return whole


@pytest.mark.sampled
def test_every_loss_of_one_or_two_sites_is_predicted(stocked):
    told = outlook(stocked)
    assert (told.summary.restorable, told.summary.total, exit_code(told)) == (6, 6, 0)
    assert len(told.scenarios) == 5 + 10
    assert all(row.summary.restorable == 6 for row in told.scenarios if len(row.lost) == 1)
    costs = {row.summary.restorable for row in told.scenarios}
    assert len(costs) > 1, "some pairs cost something, others do not"
    for lost in [*combinations("abcde", 1), *combinations("abcde", 2)][::STRIDE]:
        one = outlook(stocked, *lost)
        scenario = next(row for row in told.scenarios if row.lost == list(lost))
        assert (scenario.summary, scenario.quorum) == (one.summary, one.quorum)
        assert {row.id for row in one.snapshots if row.restorable} == restorable(stocked, lost)
        assert all((row.missing_packs == 0) == row.restorable for row in one.snapshots)


def test_missing_and_damaged_copies_do_not_count(stocked):
    holders_of = {}
    for site in "abcde":
        for name in stocked.names(site):
            holders_of.setdefault(name, []).append(site)
    one, (first, second) = next(row for row in holders_of.items() if len(row[1]) == 2)
    (stocked.directory(first) / one).unlink()
    told = outlook(stocked)
    (row,) = (row for row in told.scenarios if row.lost == [second])
    assert row.promised
    assert row.summary.restorable < 6
    assert row.summary.restorable == len(restorable(stocked, second))
    assert exit_code(told) == 7
    data = bytearray((stocked.directory(second) / one).read_bytes())
    data[len(data) // 2] ^= 1
    (stocked.directory(second) / one).write_bytes(data)
    assert outlook(stocked).summary.restorable == 6, "it was not read"
    stocked.verify()
    told = outlook(stocked)
    assert told.summary.restorable < 6
    assert exit_code(told) == 4


def test_a_site_that_cannot_be_looked_at_counts_as_lost_and_is_named(stocked):
    stocked.directory("a").rename(stocked.root / "away")
    told = outlook(stocked)
    assert [row.target for row in told.away] == ["a/main"]
    (row,) = (row for row in told.scenarios if row.lost == ["b"])
    (stocked.root / "away").rename(stocked.directory("a"))
    assert row.summary == outlook(stocked, "a", "b").summary


def test_without_any_voter_or_key_slot_nothing_is_restorable_and_it_says_why(stocked):
    told = outlook(stocked, *"abcde")
    assert told.summary.restorable == 0
    assert any("no voter and no copy of the catalogue is left" in reason for reason in told.reasons)
    for site in "bcde":
        shutil.rmtree(stocked.directory(site) / "keys")
    told = outlook(stocked, "a/main")
    assert told.summary.restorable == 0
    assert any("no key slot is left" in reason for reason in told.reasons)
    assert told.quorum.reachable == 4


def test_a_damaged_key_slot_opens_nothing(stocked):
    for site in "abcde":
        for path in (stocked.directory(site) / "keys").iterdir():
            path.write_bytes(b"x")
    assert any("no key slot is left" in reason for reason in outlook(stocked).reasons)


def test_voters_that_lag_do_not_know_the_newest_snapshots(place):
    world = World(place).found(copies=3)
    source = place / "source"
    world.backup(fill(source, {"file": b"1"}))
    world.directory("c").rename(place / "away")
    world.backup(fill(source, {"file": b"2"}))
    (place / "away").rename(world.directory("c"))
    told = outlook(world, "a", "b")
    assert [row.restorable for row in told.snapshots] == [True, False]
    assert any("newest changes" in reason for reason in told.reasons)


def catalogue(world, site):
    """The objects of the catalogue at a site, registers apart."""
    return sorted(path for path in (world.directory(site) / "manifest" / "obj").rglob("*") if path.is_file())


def test_a_voter_counts_only_if_the_voters_that_are_left_have_all_of_its_catalogue(place):
    world = World(place).found(copies=3)
    for number in range(45):  # until some of it is in pages besides the heads
        world.backup(fill(place / "source", {"file": noise(5_000, number)}))
    pages = catalogue(world, "c")
    assert len(pages) > 1
    assert outlook(world, "a", "b").summary.restorable == 45
    for path in pages:
        path.unlink()
    told = outlook(world, "a", "b")
    assert (told.summary.restorable, told.quorum.reachable) == (0, 1)
    assert any("no whole copy of some pages of the catalogue" in reason for reason in told.reasons)
    assert all(row.missing_packs == 0 for row in told.snapshots)
    assert outlook(world, "a").summary.restorable == 45, "b has them"
    needed = {path.name for path in pages}
    (one, *_) = (path for path in catalogue(world, "b") if path.name in needed)
    (world.directory("c") / "manifest" / "obj" / one.name).write_bytes(one.read_bytes())
    one.unlink()
    assert outlook(world, "a").summary.restorable == 45, "together they have all"
    assert outlook(world, "a", "c").summary.restorable == 0


def test_a_copy_that_cannot_be_read_while_trees_are_walked_does_not_count_as_there(place):
    world = World(place).found(copies=3)
    world.backup(fill(place / "source", {"file": noise(5_000)}))
    with world.open() as repository:
        row = next(row for row in repository.index.packs() if row.kind == 2)
    first, *others = (target.partition("/")[0] for target in row.targets)
    assert outlook(world, *others).summary.restorable == 1
    path = next(path for path in world.objects(first) if path.name == row.pack.hex())
    path.write_bytes(bytes(path.stat().st_size))
    assert outlook(world).summary.restorable == 1
    told = outlook(world, *others)
    assert (told.summary.restorable, told.snapshots[0].missing_packs) == (0, 1)


def test_data_in_another_pack_is_not_missing_and_no_tree_is_walked_twice(world, monkeypatch):
    content = noise(30_000)
    source = fill(world.root / "source", {"twice": content})
    world.backup(source)
    packs = stored_twice(world, source)
    fill(source, {"once": noise(30_000, 1)})
    world.backup(source)
    with world.open() as repository:
        data = {row.pack.hex() for row in repository.index.packs() if row.kind == 1}
        chunk = ChunkId(blake3(content, key=repository.keyring.id_key(ChunkKind.DATA)).digest())
        assert chunk in chunks_of(repository, *packs)
        picked = repository.index.locate(chunk).pack.pack.hex()
    (other,) = set().union(*packs) - {picked}
    where = dict.fromkeys(data, "a") | {other: "b"}
    for pack, only in where.items():
        whole = next(path for site in "abc" for path in world.objects(site) if path.name == pack).read_bytes()
        for site in "abc":
            path = world.directory(site) / "packs" / pack[:2] / pack
            path.unlink(missing_ok=True)
            if site == only:
                path.parent.mkdir(exist_ok=True)
                path.write_bytes(whole)
    entered = []

    def read(tree, fetch):
        entered.append(tree)
        return read_directory(tree, fetch)

    monkeypatch.setattr(needs, "read_directory", read)
    told = outlook(world, "a")
    assert [row.missing_packs for row in told.snapshots] == [0, 0, 1]
    assert [row.restorable for row in told.snapshots] == [True, True, False]
    assert len(entered) == len(set(entered))


def chunks_of(repository, *packs):
    """Chunks that all of these packs hold."""
    numbers = [
        {row[:32] for reader in repository.index.readers() for row in reader.rows() if named(reader, row) in pack}
        for pack in packs
    ]
    return set.intersection(*numbers)


def named(reader, row):
    return reader.location(row).pack.pack.hex()


def test_missing_packs_are_distinguished_up_to_a_limit(world, monkeypatch):
    for number in range(5):
        world.backup(fill(world.root / "source", {f"{number}": noise(30_000, number)}))
    told = outlook(world, *"abc")
    assert [row.missing_packs for row in told.snapshots] == [2, 3, 4, 5, 6]
    monkeypatch.setattr(needs, "MISSING_MAX", 3)
    assert {row.missing_packs for row in outlook(world, *"abc").snapshots} <= {1, 2, 3}


def test_index_segments_count_like_their_packs(stocked):
    for site in "abcde":
        shutil.rmtree(stocked.directory(site) / "index")
    told = outlook(stocked)
    assert told.summary.restorable == 0
    assert any("index segments would be missing: `drtool repair`" in reason for reason in told.reasons)
    assert exit_code(told) == 4
    with stocked.open() as repository:
        repair(repository, RepairRequest(), ignore)
    assert outlook(stocked).summary.restorable == 6


def test_an_unknown_name_is_a_mistake_and_the_nearest_is_named(stocked):
    with pytest.raises(UsageError, match="'a/main'"):
        outlook(stocked, "a/mian")


def test_needs_are_met_by_any_place_that_is_whole():
    bits = Bits(["a", "b", "c"])
    a, b, c = (bits.mask([name]) for name in "abc")
    assert is_met(frozenset({(a | b, c)}), a)
    assert not is_met(frozenset({(a | b, c)}), c)
    assert is_met(frozenset({(a, a), (b, b)}), a)
    assert not is_met(frozenset({(a, b), (b, a)}), a)
    assert not is_met(frozenset(), 0)
    assert are_met([], a | b | c)


def test_losses_are_each_site_and_each_pair_that_leaves_one():
    assert losses(["a"]) == [("a",)]
    assert losses(["a", "b"]) == [("a",), ("b",)]
    assert len(losses(list("abcd"))) == 4 + 6


def test_names_mean_sites_and_targets():
    by_site = {"a": ["a/one", "a/two"], "b": ["b/one"]}
    assert named_targets(["a", "b/one", "x"], by_site) == (frozenset({"a/one", "a/two", "b/one"}), ["x"])
