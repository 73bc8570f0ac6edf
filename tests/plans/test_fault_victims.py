"""The objects that a seed draws."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drtool.model import ObjectInfo
from drtool.plans.faults.victims import choose_victims

PACKS = [ObjectInfo(f"packs/{n:02x}/{n:04x}", 100 + n) for n in range(40)]
REST = [ObjectInfo("drtool.json", 300), ObjectInfo("index/ab", 50), ObjectInfo("manifest/log/1", 9)]


@given(order=st.permutations(PACKS + REST), seed=st.text(max_size=8), count=st.integers(1, 40))
def test_the_same_seed_draws_the_same_packs_in_whatever_order_they_come(order, seed, count):
    drawn = choose_victims(f"random:{count}", order, seed)
    assert drawn == choose_victims(f"random:{count}", PACKS, seed)
    assert len(set(drawn)) == count
    assert list(drawn) == sorted(drawn, key=lambda info: info.name)
    assert set(drawn) <= set(PACKS)


def test_another_seed_draws_others():
    assert len({choose_victims("random:5", PACKS, str(seed)) for seed in range(20)}) > 15


@given(seed=st.text(max_size=8), gone=st.sampled_from(PACKS))
def test_an_object_more_changes_at_most_one_lot(seed, gone):
    few = set(choose_victims("random:5", [info for info in PACKS if info != gone], seed))
    assert len(few & set(choose_victims("random:5", PACKS, seed))) >= 4


def test_every_object_can_be_drawn():
    seen = {info for seed in range(200) for info in choose_victims("random:3", PACKS, str(seed))}
    assert seen == set(PACKS)


def test_other_kinds_are_drawn_by_prefix_and_single_ones_by_name():
    assert choose_victims("random:1:index/", PACKS + REST, "1") == (REST[1],)
    assert choose_victims("index/ab", PACKS + REST, "1") == (REST[1],)


@pytest.mark.parametrize(
    ("selector", "words"),
    [
        ("random:41", "asks for 41 objects below packs/, but there are 40"),
        ("random:2:index/", "there are 1"),
        ("random:0", "write random:5"),
        ("random", "write random:5"),
        ("random:x", "write random:5"),
        ("packs/zz", "there is no object 'packs/zz'"),
        ("empty", "there is nothing to corrupt"),
    ],
)
def test_too_few_objects_are_refused_with_the_reason(selector, words):
    with pytest.raises(ValueError, match=words):
        choose_victims(selector, [*PACKS, *REST, ObjectInfo("empty", 0)], "1")
