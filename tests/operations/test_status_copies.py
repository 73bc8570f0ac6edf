"""`status` says of each source on how many sites its newest snapshot is."""

import pytest
from three_sites import fill, founded, noise, place, world

from drtool.events import ignore
from drtool.operations.status import copies as copies_module
from drtool.operations.status import status

__all__ = ["founded", "place", "world"]


@pytest.fixture
def two_sources(world, tmp_path):
    """Each has its own packs, and `poor` has lost one copy of a pack."""
    rich = fill(tmp_path / "rich", {"f": noise(200_000, 1)})
    poor = fill(tmp_path / "poor", {"f": noise(200_000, 2)})
    world.backup(rich, source="rich")
    before = {site: set(world.objects(site)) for site in "abc"}
    world.backup(poor, source="poor")
    new = {
        path.name: path for site in "abc" for path in set(world.objects(site)) - before[site] if "packs" in path.parts
    }
    largest = max(new.values(), key=lambda path: path.stat().st_size)
    largest.unlink()
    return world


def copies(world):
    with world.open() as repository:
        return {row.name: row.copies for row in status(repository, ignore).sources}


def test_a_missing_copy_of_one_source_is_not_reported_for_the_other(two_sources):
    assert copies(two_sources) == {"rich": 2, "poor": 1}


def test_on_a_timeout_the_fewest_of_all_are_reported(two_sources, monkeypatch):
    monkeypatch.setattr(copies_module, "WALK_S", 0.0)
    assert copies(two_sources) == {"rich": 1, "poor": 1}


def test_an_unreadable_tree_never_raises_the_count(two_sources):
    with two_sources.open() as repository:
        rich = next(row for row in repository.view.state.snapshots if row.source == "rich")
        repository.load_index()
        trees = repository.index.locate(rich.root).pack.pack.hex()
    for site in "abc":
        for path in two_sources.objects(site):
            if path.name == trees:
                path.write_bytes(b"rotten" * 100)
    (two_sources.root / "cache").rename(two_sources.root / "old-cache")
    assert copies(two_sources)["rich"] in (0, 1)
