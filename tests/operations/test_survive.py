"""What `survive` says would be left is what is left: sites are really taken away, and restores really tried."""

import shutil
from itertools import combinations

import pytest
from three_sites import World, fill, noise, portrait

from drtool.errors import DrtoolError, UsageError
from drtool.events import ignore
from drtool.operations.survive import SurviveRequest, survive
from drtool.operations.survive.judging import Bits, are_met, is_met, losses, named_targets
from drtool.operations.survive.run import exit_code

SITES = ("a/main", "b/main", "c/main", "d/main", "e/main")


@pytest.fixture
def stocked(place):
    """Five sites, two copies, six snapshots that share files: what one loss of two sites costs depends on the snapshot."""
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
    """The snapshots that come back whole when these sites are gone; none where the catalogue cannot be read."""
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


def test_every_loss_of_one_or_two_sites_is_told_as_it_is(stocked):
    told = outlook(stocked)
    assert (told.summary.restorable, told.summary.total, exit_code(told)) == (6, 6, 0)
    assert len(told.scenarios) == 5 + 10
    assert all(row.summary.restorable == 6 for row in told.scenarios if len(row.lost) == 1)
    seen = set()
    for lost in [*combinations("abcde", 1), *combinations("abcde", 2)]:
        one = outlook(stocked, *lost)
        scenario = next(row for row in told.scenarios if row.lost == list(lost))
        assert (scenario.summary, scenario.quorum) == (one.summary, one.quorum)
        assert {row.id for row in one.snapshots if row.restorable} == restorable(stocked, lost)
        assert all((row.missing_packs == 0) == row.restorable for row in one.snapshots)
        seen.add(one.summary.restorable)
    assert len(seen) > 1, "some pairs cost something, others do not"


def test_what_is_gone_or_damaged_already_does_not_count_as_there(stocked):
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
    assert outlook(stocked).summary.restorable == 6, "nobody has read it"
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
    assert any("no voter is left" in reason for reason in told.reasons)
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


def test_index_segments_count_as_what_they_name_does(stocked):
    for site in "abcde":
        shutil.rmtree(stocked.directory(site) / "index")
    told = outlook(stocked)
    assert told.summary.restorable == 0
    assert exit_code(told) == 4


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
