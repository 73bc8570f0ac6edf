"""How many sites restore everything: the words of `init`, the kit and the README are true."""

import re
from itertools import combinations
from pathlib import Path

import pytest
from three_sites import fill, noise

from drtool.events import ignore
from drtool.operations.survive import SurviveRequest, survive
from drtool.operations.survive.judging import sites_that_suffice
from drtool.operations.survive.promise import Promise, promise_of

README = Path(__file__).parents[2] / "README.md"


def restores(left, placement, opening):
    """Return whether these sites hold a copy of everything, its segments, and a key slot. Each holds the catalogue."""
    packs, segments = placement
    return all(set(left) & set(needed) for needed in (packs, segments, opening))


@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_the_number_is_the_smallest_with_which_no_choice_of_sites_and_no_placement_fails(count):
    order = "abcd"[:count]
    groups = [[*group] for size in range(count + 1) for group in combinations(order, size)]
    for copies in range(1, count + 1):
        for segments in range(1, count + 1):
            placements = [
                (packs, lists) for packs in combinations(order, copies) for lists in combinations(order, segments)
            ]
            for opening in groups:
                good = [
                    size
                    for size in range(1, count + 1)
                    if all(
                        restores(left, placement, opening)
                        for left in combinations(order, size)
                        for placement in placements
                    )
                ]
                found = sites_that_suffice(order, opening, copies, segments)
                assert found == min(good, default=None), (copies, segments, opening)


def test_with_two_copies_on_three_sites_any_two_restore_everything_and_no_single_one_does(world, tmp_path):
    """Packs are stored until every pair of sites is the only home of one."""
    number = 0
    while True:
        world.backup(fill(tmp_path / "s", {f"{number}": noise(20_000, number)}))
        number += 1
        with world.open() as repository:
            state = repository.view.state
            promise = promise_of(state.targets, state.policy.copies)
            found = survive(repository, SurviveRequest(), ignore)
        restorable = {tuple(row.lost): row.summary.restorable for row in found.scenarios}
        assert all(restorable[site,] == number for site in "abc")
        if all(restorable[pair] < number for pair in combinations("abc", 2)):
            break
    assert promise == Promise(sites=3, needed=2)
    assert str(promise) == "any 2 of the 3 sites that store restore everything; fewer restore a part"


@pytest.mark.parametrize(
    ("sites", "needed", "words"),
    [
        (1, 1, "the only site restores everything, and its loss is the loss of everything"),
        (3, 1, "any one of the 3 sites that store restores everything"),
        (3, 3, "all 3 sites are needed to restore everything, so the loss of any one loses data"),
        (3, None, "nothing can be restored without a site that keeps key slots"),
    ],
)
def test_the_words_are_true(sites, needed, words):
    assert str(Promise(sites=sites, needed=needed)) == words


def test_the_promise_in_the_readmes_tour_is_true():
    text = README.read_text()
    assert f"protection: {Promise(sites=3, needed=2)}" in text
    assert not re.search(r"any one site, everything", text)
