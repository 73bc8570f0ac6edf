"""Rounds of samples: every copy once, in an unpredictable order, across any interruptions, and their proof."""

import os
import random
import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from thoroughness import sample
from three_sites import fill, in_a_child, noise

from drtool.events import ignore
from drtool.manifest.facade import Manifest
from drtool.manifest.ops import Record
from drtool.manifest.records import Coverage
from drtool.operations.verify import Sample, VerifyRequest, covering, reading, rounds, verify
from drtool.operations.verify.bound import upper_bound
from drtool.operations.verify.rounds import FULL, LEVEL, ROUND_END, Copy, SiteRound, advanced, in_proportion, within
from drtool.repository.expected import Expected


def expected(name, size_bytes=10):
    return Expected(name, size_bytes, (), (), metadata=False)


def copies_of(site, number, size_bytes=10):
    return [Copy(f"{site}/main", expected(f"packs/{n}", size_bytes)) for n in range(number)]


def key_of(site, number):
    return f"{site}{number}".encode().ljust(32, b"\0")


# --- the bound ---


@pytest.mark.parametrize(
    ("read", "bad", "fraction"),
    [(59, 0, 0.0495), (300, 0, 0.00994), (100, 1, 0.0466), (100, 5, 0.1023), (10, 9, 0.9949), (1_000_000, 0, 2.996e-6)],
)
def test_the_bound_is_clopper_and_pearson_s(read, bad, fraction):
    assert upper_bound(read, bad, 10**9) == pytest.approx(fraction, rel=0.002)


def test_a_full_read_gives_an_exact_fraction():
    assert upper_bound(40, 3, 40) == 3 / 40
    assert upper_bound(0, 0, 40) is None
    assert upper_bound(0, 0, 0) == 0.0
    with pytest.raises(ValueError, match="4 bad of 3"):
        upper_bound(3, 4, 9)


@settings(max_examples=sample(200), deadline=None)
@given(st.integers(1, 3000), st.data())
def test_the_bound_falls_with_every_good_copy_and_rises_with_every_bad_one(read, data):
    bad = data.draw(st.integers(0, read - 1))
    bound = upper_bound(read, bad, 10**6)
    assert bad / read < bound <= 1
    assert upper_bound(read + 1, bad, 10**6) < bound
    assert upper_bound(read, bad + 1, 10**6) > bound


def test_the_bound_holds_nineteen_times_of_twenty():
    draw = random.Random(1)
    held = 0
    for _ in range(2000):
        population = [True] * 30 + [False] * 470
        sample = draw.sample(population, 60)
        held += upper_bound(60, sum(sample), 500) >= 30 / 500
    assert held >= 0.95 * 2000


# --- the order ---


@settings(max_examples=sample(50), deadline=None)
@given(st.integers(1, 60), st.integers(0, 60), st.integers(1, 25))
def test_runs_of_any_length_read_every_copy_once_in_a_round(here, there, a_run):
    every = [*copies_of("a", here), *copies_of("b", there)]
    coverage, read = [], []
    for _ in range(200):
        site_rounds = rounds.rounds_of(every, coverage, 7, key_of)
        if any(row.number > 1 for row in site_rounds if row.site == "a"):
            break
        chosen = [c for c in within(in_proportion(site_rounds), a_run, None) if c.target == "a/main" or there]
        read += [(c.target, c.expected.name) for c in chosen if c.target == "a/main"]
        new = advanced(site_rounds, {(c.target, c.expected.name): "" for c in chosen}, 1)
        coverage = list({(row.site, row.level): row for row in (*coverage, *new)}.values())
    assert sorted(read) == sorted((c.target, c.expected.name) for c in every if c.target == "a/main")
    ended = next(row for row in coverage if row.site == "a")
    assert (ended.sequence, ended.position) == (7, ROUND_END)


def test_the_order_changes_from_round_to_round_and_needs_the_key():
    every = copies_of("a", 50)
    orders = set()
    for number, key in ((1, b"k"), (2, b"k"), (1, b"l")):
        row = Coverage("a", LEVEL, number, 0, 1, 1)
        (one,) = rounds.rounds_of(every, [row], 1, lambda s, n, key=key: (key + bytes([n])).ljust(32, b"\0"))
        orders.add(tuple(copy.expected.name for copy in one.waiting))
    assert len(orders) == 3


def test_sites_contribute_in_proportion_to_their_waiting_copies():
    site_rounds = rounds.rounds_of([*copies_of("a", 60), *copies_of("b", 30), *copies_of("c", 10)], (), 1, key_of)
    for taken in range(1, 101):
        first = [copy.target[0] for copy in list(in_proportion(site_rounds))[:taken]]
        for site, share in (("a", 0.6), ("b", 0.3), ("c", 0.1)):
            assert abs(first.count(site) - share * taken) <= 1.5


def test_a_budget_is_kept_but_for_the_first_copy():
    big = copies_of("a", 5, size_bytes=100)
    assert len(list(within(big, None, 250))) == 2
    assert len(list(within(big, None, 1))) == 1
    assert len(list(within(big, 3, None))) == 3


def test_a_gap_ends_the_coverage_and_damage_does_not():
    waiting = tuple(Copy("a/main", expected(f"packs/{n}"), n + 1) for n in range(4))
    one = SiteRound("a", 3, 9, 0, waiting, 0, 40)
    names = [("a/main", f"packs/{n}") for n in range(4)]
    assert advanced([one], dict.fromkeys(names[:1] + names[2:], ""), 5) == [Coverage("a", LEVEL, 3, 1, 9, 5)]
    assert advanced([one], dict.fromkeys(names, "") | {names[1]: None}, 5) == [Coverage("a", LEVEL, 3, 1, 9, 5)]
    assert advanced([one], {}, 5) == []
    assert advanced([one], dict.fromkeys(names, "bad"), 5) == [Coverage("a", LEVEL, 3, ROUND_END, 9, 5)]


# --- on a repository ---


@pytest.fixture
def stocked(world, monkeypatch):
    """About a dozen packs, with a record of the reads."""
    for number in range(5):
        world.backup(fill(world.root / "source", {f"f{number}": noise(30_000, number)}))
    read = []
    problem_with = reading.problem_with

    def noting(store, name, keyring):
        read.append(name)
        return problem_with(store, name, keyring)

    monkeypatch.setattr(reading, "problem_with", noting)
    return world, read


def sample(world, **more):
    with world.open() as repository:
        request = VerifyRequest(level="sample", sample=Sample(**more), workers=2)
        return verify(repository, request, world.heard.append)


def test_hosts_go_on_where_others_stopped_until_every_copy_was_read_once(stocked):
    world, read = stocked
    every = sum(len(world.names(site)) + len(world.names(site, "index")) for site in "abc")
    hosts = [world, world.elsewhere("other")]
    for run in range(every):
        result = sample(hosts[run % 2], copies=4)
        assert result.recorded
        assert result.bound_95.bad == 0
        if all(row.finished for row in result.rounds):
            break
        assert result.bound_95.read == 4
    assert len(read) == every
    rows = {row.site: row for row in world.view().state.coverage if row.level == FULL}
    assert set(rows) == set("abc")
    assert [row.round for row in rows.values()] == [1, 1, 1]
    assert 2 in [row.round for row in sample(world, copies=1).rounds], "a new round begins"


def test_a_sample_is_a_twentieth_unless_something_else_is_said(stocked):
    world, read = stocked
    sample(world)
    assert len(read) == 2
    assert len(world.view().state.coverage) > 0
    sample(world, share=0.5)
    assert 15 <= len(read) <= 30
    before = len(read)
    sample(world, size_bytes=1)
    assert len(read) == before + 1
    sample(world, time_s=60.0)
    assert all(row.position == ROUND_END for row in world.view().state.coverage if row.level == LEVEL)


def test_damage_is_named_counts_and_is_remembered_and_the_site_is_not_verified(stocked):
    world, _ = stocked
    path = world.objects("b")[0]
    data = bytearray(path.read_bytes())
    data[100] ^= 4
    path.write_bytes(data)
    result = sample(world, share=1.0)
    assert [(row.target, row.object) for row in result.damaged] == [("b/main", world.names("b")[0])]
    assert result.bound_95.bad == 1
    assert result.bound_95.bad_fraction == 1 / result.bound_95.of
    assert {row.site for row in world.view().state.coverage if row.level == FULL} == {"a", "c"}
    with world.open() as repository:
        assert len(repository.findings.all()) == 1


@pytest.mark.parametrize("level", ["sample", "full"])
def test_a_site_that_misses_something_was_not_read_whole(stocked, level):
    world, _ = stocked
    world.objects("b")[0].unlink()
    with world.open() as repository:
        request = VerifyRequest(level=level, sample=Sample(share=1.0), workers=2)
        result = verify(repository, request, ignore)
    assert [row.target for row in result.missing] == ["b/main"]
    assert {row.site for row in world.view().state.coverage if row.level == FULL} == {"a", "c"}


def test_a_target_that_goes_away_stops_its_own_round_only(stocked, monkeypatch):
    world, read = stocked
    noting, lock = reading.problem_with, threading.Lock()

    def leaving(store, name, keyring):
        with lock:
            if len(read) >= 5 and not (world.root / "away").exists():
                world.directory("b").rename(world.root / "away")
        return noting(store, name, keyring)

    monkeypatch.setattr(reading, "problem_with", leaving)
    result = sample(world, share=1.0)
    assert [row.target for row in result.offline] == ["b/main"]
    assert result.damaged == []
    assert {row.site: row.finished for row in result.rounds} == {"a": True, "b": False, "c": True}
    (world.root / "away").rename(world.directory("b"))
    monkeypatch.setattr(reading, "problem_with", noting)
    result = sample(world, share=1.0)
    assert all(row.finished for row in result.rounds)


def test_without_a_quorum_everything_is_read_and_it_says_that_nothing_was_recorded(stocked):
    world, read = stocked
    for site in "ab":
        world.directory(site).rename(world.root / f"away-{site}")
    with world.open(manifest_from=("c",)) as repository:
        result = verify(repository, VerifyRequest(level="sample", sample=Sample(share=1.0)), ignore)
    assert len(read) > 0
    assert not result.recorded


def test_a_refused_record_is_reported_and_the_findings_stand(stocked, monkeypatch):
    world, _ = stocked
    commit = Manifest.commit

    def refusing(manifest, ops):
        if isinstance(ops, Record):
            raise covering.DrtoolError("nobody agrees")
        return commit(manifest, ops)

    monkeypatch.setattr(Manifest, "commit", refusing)
    result = sample(world, copies=3)
    assert not result.recorded
    assert any("nobody agrees" in warning for warning in world.warnings())


def test_a_killed_run_loses_little_of_its_coverage(stocked, monkeypatch):
    world, _ = stocked
    monkeypatch.setattr(covering, "RECORD_EVERY_S", 0.0)
    noting = reading.problem_with
    seen = []

    def dying(store, name, keyring):
        seen.append(name)
        if len(seen) > 12:
            os._exit(9)
        return noting(store, name, keyring)

    monkeypatch.setattr(reading, "problem_with", dying)
    assert in_a_child(lambda: sample(world, share=1.0)) == 9
    monkeypatch.setattr(reading, "problem_with", noting)
    assert any(row.position > 0 for row in world.view().state.coverage if row.level == LEVEL)
    result = sample(world, share=1.0)
    every = sum(len(world.names(site)) + len(world.names(site, "index")) for site in "abc")
    assert all(row.finished for row in result.rounds)
    assert result.bound_95.read < every


def test_one_snapshot_s_sample_leaves_the_rounds_alone(stocked):
    world, read = stocked
    with world.open() as repository:
        row = next(iter(repository.view.state.snapshots))
        request = VerifyRequest(level="sample", sample=Sample(share=1.0), snapshot=row)
        result = verify(repository, request, ignore)
    assert len(read) == result.bound_95.read > 0
    assert not result.recorded
    assert world.view().state.coverage == ()


def test_of_a_tree_that_is_lost_everywhere_only_its_own_directory_is_named(world):
    source = fill(world.root / "source", {f"d{n}/sub/file": noise(3000, n) for n in range(3)})
    world.backup(source)
    new = {}
    before = {name for site in "abc" for name in world.names(site)}
    fill(source, {"d1/sub/other": noise(2000, 77)})
    world.backup(source)
    for site in "abc":
        for path in world.objects(site):
            name = str(path.relative_to(world.directory(site)))
            if name not in before:
                new.setdefault(name, []).append(path)
    for paths in new.values():
        for path in paths:
            path.unlink()
    affected = {row.path for row in world.verify("structure").affected}
    assert affected
    assert not any("/d0" in path or "/d2" in path for path in affected)
