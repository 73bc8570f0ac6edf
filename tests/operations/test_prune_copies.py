"""Prune never reduces promised copies: packs that cannot be rewritten at enough sites are kept."""

import pytest
from test_prune import check, churn, forget, run, stored, thinned
from three_sites import World, fill, noise, portrait

from drtool.errors import TargetFull, TargetReadOnly
from drtool.operations.prune import PruneRequest, prune
from drtool.operations.repair import RepairRequest, repair
from drtool.repository.placement import distinct_sites
from drtool.stores import LocalStore


def copies_of(world):
    """The fewest sites that hold any pack which the index names."""
    with world.open() as repository:
        packs = {row.pack.hex() for row in repository.index.packs()}
    held = {pack: sum(any(path.name == pack for path in world.objects(site)) for site in "abc") for pack in packs}
    return min(held.values())


def full_for(monkeypatch, kind, *sites, error=TargetFull):
    """These sites accept no more objects of this kind, but seem writable until then."""
    plain = LocalStore.put

    def put(self, name, data):
        if self.root.name in sites and name.startswith(kind):
            raise error("no space is left")
        plain(self, name, data)

    monkeypatch.setattr(LocalStore, "put", put)


def only_to(world, *full):
    with world.open() as repository:
        for site in full:
            repository.targets.fail(f"{site}/main", "full")
        return prune(repository, PruneRequest(now_ns=10**18, unused_share=0.0), world.heard.append)


def test_nothing_is_rewritten_while_one_site_alone_takes_packs(world):
    look = thinned(world)
    before = {site: world.names(site) for site in "abc"}
    result = only_to(world, "b", "c")
    assert result.repacked.packs == 0
    assert {site: world.names(site) for site in "abc"} == before
    assert any("is kept: 1 sites accept packs now" in words for words in world.warnings())
    with world.open() as repository:
        repository.targets.fail("b/main", "full")
        repository.targets.fail("c/main", "full")
        request = PruneRequest(now_ns=10**18, unused_share=0.0, dry_run=True)
        assert prune(repository, request, world.heard.append).repacked.packs == 0
    assert run(world).repacked.packs == 1
    run(world)
    (row,) = world.snapshots()
    check(world, [row], {row.id.hex(): look})
    assert copies_of(world) >= 2


def test_a_site_that_fills_up_in_the_middle_leaves_the_old_packs_where_they_are(world, monkeypatch):
    look = thinned(world)
    full_for(monkeypatch, "packs/", "b", "c")
    result = run(world, unused_share=0.0)
    assert result.repacked.packs == 0
    assert copies_of(world) >= 2
    assert any("could be copied to 1 sites, but must be on 2" in words for words in world.warnings())
    monkeypatch.undo()
    assert run(world, unused_share=0.0).repacked.packs == 1
    live = {row.pack.hex() for row in _packs(world)}
    assert {path.name for site in "abc" for path in world.objects(site)} <= live, (
        "nothing of the failed attempt is left"
    )
    (row,) = world.snapshots()
    check(world, [row], {row.id.hex(): look})
    assert copies_of(world) >= 2


@pytest.mark.thorough
def test_sites_that_take_no_packs_at_all_cost_nothing(world, monkeypatch):
    """The index still has room there, and unwritten packs must not count as written."""
    source = fill(world.root / "source", {f"{i:02}": noise(1_500_000, i) for i in range(60)})
    world.backup(source)
    for number in range(0, 60, 3):
        (source / f"{number:02}").unlink()
    look = portrait(source)
    world.backup(source)
    forget(world, world.snapshots()[0])
    (row,) = world.snapshots()
    full_for(monkeypatch, "packs/", *"abc")
    assert run(world, unused_share=0.0).repacked.packs == 0
    monkeypatch.undo()
    check(world, [row], {row.id.hex(): look})
    assert run(world, unused_share=0.0).repacked.packs > 3
    check(world, [row], {row.id.hex(): look})


def test_prune_after_prune_while_a_site_is_full_leaves_nothing_behind(world, monkeypatch):
    thinned(world)
    full_for(monkeypatch, "packs/", "b", "c")
    run(world, unused_share=0.0)
    sizes = [stored(world)]
    for _ in range(3):
        run(world, unused_share=0.0)
        sizes.append(stored(world))
    assert sizes[-1] <= sizes[0]


def test_an_unreachable_site_counts_as_having_its_objects(place):
    """Three copies: with one site away two are left, and rewriting would make that the whole truth."""
    world = World(place).found(copies=3)
    look = thinned(world)
    before = {site: world.names(site) for site in "ab"}
    world.directory("c").rename(place / "away")
    assert run(world, unused_share=0.0).repacked.packs == 0
    assert {site: world.names(site) for site in "ab"} == before
    (place / "away").rename(world.directory("c"))
    assert run(world, unused_share=0.0).repacked.packs == 1
    (row,) = world.snapshots()
    check(world, [row], {row.id.hex(): look})
    assert copies_of(world) == 3


def test_a_pack_with_one_copy_may_be_rewritten_with_one(world):
    source = fill(world.root / "source", {f"{i:02}": noise(300_000, i) for i in range(12)})
    with world.open() as repository:
        repository.targets.fail("b/main", "full")
        repository.targets.fail("c/main", "full")
        world.run_backup(repository, source)
    for number in range(8):
        (source / f"{number:02}").unlink()
    with world.open() as repository:
        repository.targets.fail("b/main", "full")
        repository.targets.fail("c/main", "full")
        world.run_backup(repository, source)
    forget(world, world.snapshots()[0])
    assert only_to(world, "b", "c").repacked.packs == 1
    (row,) = world.snapshots()
    out = world.root / "out"
    assert world.restore(out, row, path=source).errors == []
    assert portrait(out) == portrait(source)


def test_index_segments_are_not_traded_for_fewer_copies_either(world, monkeypatch):
    kept, looks = churn(world, 5, 2)
    full_for(monkeypatch, "index/", "b", "c", error=TargetReadOnly)
    result = run(world, unused_share=1.0)
    assert (result.removed.packs, result.pending.packs > 0) == (0, True)
    assert any("index segments" in row.reason for row in result.waiting)
    assert min(distinct_sites(ref.targets) for ref in world.view().state.segments) >= 2
    monkeypatch.undo()
    result = run(world, unused_share=1.0)
    assert result.removed.packs > 0
    assert result.pending.packs == 0
    assert min(distinct_sites(ref.targets) for ref in world.view().state.segments) >= 2
    run(world)
    live = {ref.id.hex() for ref in world.view().state.segments}
    assert {path.name for site in "abc" for path in world.objects(site, "index")} == live, "and no try is left"
    check(world, kept, looks)


def test_a_site_without_room_gets_it_by_prune_and_then_its_index(world, monkeypatch):
    """Only deletion makes room there, and repair then stores the missing objects."""
    kept, looks = churn(world, 5, 2)
    full_for(monkeypatch, "index/", "b", "c")
    result = run(world, unused_share=1.0)
    assert result.removed.packs > 0
    assert any("drtool repair" in words for words in world.warnings())
    monkeypatch.undo()
    with world.open() as repository:
        repair(repository, RepairRequest(), world.heard.append)
    for ref in world.view().state.segments:
        assert sum(any(path.name == ref.id.hex() for path in world.objects(site, "index")) for site in "abc") >= 2
    check(world, kept, looks)


def _packs(world):
    with world.open() as repository:
        return list(repository.index.packs())
