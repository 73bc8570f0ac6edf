"""A configuration with places of two repositories: the majority is used and reported, and a tie is refused."""

import pytest
from three_sites import World, fill

from drtool.errors import UsageError


@pytest.fixture
def mixed(world, place):
    other = World(place / "elsewhere", targets=("x/main", "y/main"))
    other.root.mkdir()
    other.found()
    for name in "xy":
        (other.root / name).rename(place / name)
    return world


def test_the_greater_part_counts_and_the_rest_is_named(mixed):
    everything = ("a/main", "b/main", "c/main", "x/main", "y/main")
    with mixed.open(targets=everything) as repository:
        assert set(repository.targets.online()) == {"a/main", "b/main", "c/main"}
    assert sum("belongs to another repository" in words for words in mixed.warnings()) == 2


def test_a_tie_is_refused(mixed):
    before = mixed.objects("a", "")
    with (
        pytest.raises(UsageError, match="belong to several repositories") as caught,
        mixed.open(targets=("a/main", "x/main"), derive=True),
    ):
        fill(mixed.root / "never", {})
    assert caught.value.exit_code == 2
    assert mixed.objects("a", "") == before
