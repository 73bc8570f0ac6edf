"""Lists of objects that prune removes: a site that missed one gets it, and neither a restore nor status depends on it."""

import shutil
from contextlib import closing
from pathlib import Path

import pytest
from test_catalogue_damage import flip, pages, repaired
from test_prune import forget, run
from three_sites import fill, noise, portrait

from drtool.errors import ObjectMissing
from drtool.events import ignore
from drtool.manifest.library import lists_of
from drtool.operations.catalogue import plan_recovery, recover
from drtool.operations.repair.run import exit_code as repair_exit_code
from drtool.operations.survive import SurviveRequest, survive
from drtool.repository.lost_lists import lost_lists


@pytest.fixture
def pruned(world):
    """A repository with site c back after it was away during a prune, and the source's state."""
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
    repaired(pruned)  # the objects that the site missed while it was away
    seen = pruned.status()
    assert (seen.problems, seen.sources[0].copies) == ([], 2)


def test_a_restore_needs_no_list_of_prune(pruned):
    for site in "abc":
        for path in pages(pruned, site):
            path.unlink()
    out = pruned.root / "out"
    assert pruned.restore(out, path=pruned.root / "source").errors == []
    assert portrait(out) == portrait(pruned.root / "source")


def lose_lists(world, damage=Path.unlink):
    """No site and no cache has a list any more."""
    gone = lists(world)
    assert gone
    for site in "abc":
        for path in pages(world, site):
            if path.name in gone:
                damage(path)
    shutil.rmtree(world.root / "cache")


def is_usable(world):
    """Whether a backup works, and after a prune every byte is as it should be and nothing is pending."""
    report = world.backup(world.root / "source")
    pending = [run(world) for _ in range(2)][-1].pending.packs
    verified = world.verify()
    return not (report.degraded or pending or verified.missing or verified.damaged or verified.unreferenced.packs)


def condemned(world):
    """Objects that are only condemned, because a backup is in progress."""
    source = fill(world.root / "source", {"file": noise(300_000, 1)})
    world.backup(source)
    world.backup(fill(source, {"file": noise(300_000, 2)}))
    forget(world, world.snapshots()[0])
    with world.open() as repository, closing(repository.writer()) as writer:
        session = repository.begin(writer, "other")
        assert run(world).pending.packs > 0
        session.abandon()
    assert world.view().state.condemned is not None
    return world


def test_nothing_but_writing_waits_for_a_list_that_every_site_lost(pruned):
    lose_lists(pruned)
    assert any("missing or cut short: drtool repair" in line for line in pruned.status().problems)
    assert {row.object for row in pruned.verify().missing} != set()
    with pruned.open() as repository:
        assert survive(repository, SurviveRequest(), ignore).summary.restorable == 1
    with pytest.raises(ObjectMissing) as failed:
        pruned.backup(pruned.root / "source")
    assert "drtool prune" in failed.value.hint


@pytest.mark.parametrize("remedy", [run, repaired])
@pytest.mark.parametrize("state", ["being removed", "condemned"])
@pytest.mark.spread(4)
def test_prune_and_repair_take_back_the_change_of_a_lost_list(world, remedy, state, request):
    if state == "condemned":
        condemned(world)
    else:
        request.getfixturevalue("pruned")
    lose_lists(world)
    remedy(world)
    assert world.status().problems == []
    assert is_usable(world)


@pytest.mark.parametrize("damage", [Path.unlink, flip])
def test_a_repair_that_takes_a_list_back_has_nothing_left_to_complain_of(pruned, damage):
    lose_lists(pruned, damage)
    result = repaired(pruned)
    assert (result.unrepairable, repair_exit_code(result)) == ([], 0)
    assert pruned.status().problems == []
    assert [row for row in pruned.verify().damaged if row.object.startswith("manifest/")] == []


def test_a_list_at_an_unreachable_site_is_waited_for(pruned):
    away = pruned.root / "away"
    pruned.directory("a").rename(away)
    for path in pages(pruned, "b"):
        if path.name in lists(pruned):
            path.unlink()
    shutil.rmtree(pruned.root / "cache")
    with pruned.open() as repository:
        assert not list(lost_lists(repository, repository.view))
    away.rename(pruned.directory("a"))
    assert is_usable(pruned)


def test_a_forced_recovery_takes_back_lists_of_lost_sites(pruned):
    lose_lists(pruned)
    for site in "bc":
        pruned.directory(site).rename(pruned.root / f"gone-{site}")
    with pruned.open(anyhow=True) as repository:
        recover(repository, plan_recovery(repository, ["a"], dry_run=False), ignore)
        assert not list(lists_of(repository.view.state))
    assert pruned.backup(pruned.root / "source").id
