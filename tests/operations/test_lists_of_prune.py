"""The lists of what prune takes away: a site that missed one gets it, no restore depends on it, and status counts without it."""

import pytest
from test_catalogue_damage import pages, repaired
from test_prune import forget, run
from three_sites import fill, noise, portrait

from drtool.manifest.library import lists_of


@pytest.fixture
def pruned(world):
    """A repository of which site c was away during a prune; it is back. What the source looks like."""
    source = fill(world.root / "source", {"file": noise(300_000, 1)})
    world.backup(source)
    fill(source, {"file": noise(300_000, 2)})
    world.backup(source)
    away = world.root / "away"
    world.directory("c").rename(away)
    forget(world, world.snapshots()[0])
    run(world)
    away.rename(world.directory("c"))
    return world


def lists(world):
    """The lists that the catalogue names now."""
    with world.open() as repository:
        return {row.name.hex() for row in lists_of(repository.view.learned.state)}


def held(world, site):
    return {path.name for path in pages(world, site)}


def test_a_list_that_a_site_missed_is_owed_and_no_fault(pruned):
    result = pruned.verify()
    assert [row for row in (*result.missing, *result.damaged) if row.object.startswith("manifest/")] == []
    assert result.owed > 0


def test_a_site_gets_the_list_that_it_missed_before_it_takes_a_head_that_names_it(pruned):
    assert not lists(pruned) & held(pruned, "c")
    pruned.backup(pruned.root / "source")
    assert set() < lists(pruned) <= held(pruned, "c")


def test_packs_that_a_prune_has_yet_to_take_from_a_site_are_not_missing_copies(pruned):
    repaired(pruned)  # what the site missed while it was away
    seen = pruned.status()
    assert (seen.problems, seen.sources[0].copies) == ([], 2)


def test_a_restore_needs_no_list_of_what_goes(pruned):
    for site in "abc":
        for path in pages(pruned, site):
            path.unlink()
    out = pruned.root / "out"
    assert pruned.restore(out, path=pruned.root / "source").errors == []
    assert portrait(out) == portrait(pruned.root / "source")
