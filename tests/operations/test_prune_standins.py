"""Data in two packs: prune removes one of them only after it has read the other."""

from contextlib import suppress

import pytest
from test_prune import check, churn, run, thinned
from test_prune_copies import copies_of
from three_sites import fill, noise, portrait, stored_twice

from drtool.errors import Refused
from drtool.operations.prune import standins
from drtool.operations.repair import RepairRequest, repair
from drtool.stores import LocalStore


@pytest.fixture
def twice(world):
    """A source with its data in two packs, each on two sites, and the paths of the copies of both."""
    source = fill(world.root / "source", {"file": noise(30_000)})
    world.backup(source)
    first, second = stored_twice(world, source)
    world.heard.clear()
    return [copies_at(world, packs) for packs in (first, second)]


def copies_at(world, packs):
    return [path for site in "abc" for path in world.objects(site) if path.name in packs]


def rot(*paths):
    for path in paths:
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 1
        path.write_bytes(data)


def restores(world):
    out = world.root / "out"
    for row in world.snapshots():
        assert world.restore(out, row, path=world.root / "source").errors == []
        assert portrait(out) == portrait(world.root / "source")
        (out / "file").unlink()
        out.rmdir()


def site_in(world, path):
    return path.relative_to(world.root).parts[0]


def there(paths):
    return [path.exists() for path in paths]


@pytest.mark.parametrize("rotten", [0, 1])
def test_a_pack_that_is_damaged_everywhere_never_stays_in_place_of_a_whole_one(world, twice, rotten):
    rot(*twice[rotten])
    assert run(world).removed.packs == 1
    assert there(twice[rotten]) == [False, False]
    assert there(twice[1 - rotten]) == [True, True]
    restores(world)
    run(world)
    restores(world)


@pytest.mark.parametrize("rotten", [0, 1])
def test_a_pack_with_one_damaged_copy_does_not_stay_in_place_of_a_whole_one(world, twice, rotten):
    rot(twice[rotten][0])
    run(world)
    assert there(twice[1 - rotten]) == [True, True]
    assert copies_of(world) == 2
    restores(world)


def test_where_each_of_two_packs_has_a_damaged_copy_both_stay_until_repair_made_one_whole(world, twice):
    first, second = next((a, b) for a in twice[0] for b in twice[1] if site_in(world, a) != site_in(world, b))
    rot(*(path for path in (*twice[0], *twice[1]) if path not in (first, second)))  # the good ones are on two sites
    assert run(world).removed.packs == 0
    assert all(there([*twice[0], *twice[1]]))
    assert any("is kept" in words and "drtool repair first" in words for words in world.warnings())
    restores(world)
    with world.open() as repository:
        assert repair(repository, RepairRequest(), world.heard.append).rebuilt.objects == 2, (
            "prune recorded its findings"
        )
    assert run(world).removed.packs == 1
    restores(world)


def test_where_both_are_damaged_everywhere_neither_goes(world, twice):
    """A pack that is not whole may still have the block that the other one has lost."""
    rot(*twice[0], *twice[1])
    assert run(world).removed.packs == 0
    assert all(there([*twice[0], *twice[1]]))


@pytest.mark.parametrize("rotten", [0, 1])
def test_a_dry_run_counts_the_same_as_a_real_run_and_records_nothing(world, twice, rotten):
    rot(*twice[rotten], twice[1 - rotten][0])
    would = run(world, dry_run=True)
    with world.open() as repository:
        assert repository.findings.all() == frozenset()
    did = run(world)
    assert (would.removed, would.kept) == (did.removed, did.kept)


def test_a_condemned_pack_is_taken_back_if_the_other_one_rots_first(world, twice):
    """A backup from before is at work, so the removal waits for the next prune."""
    with world.elsewhere("there").open() as other:
        session = other.begin(other.writer(), "home")
        assert run(world).pending.packs == 1
        session.abandon()
    with world.open() as repository:
        (condemned,) = repository.going_packs(repository.view)
    kept, gone = sorted(twice, key=lambda paths: paths[0].name == condemned.hex())
    rot(*kept)
    run(world)
    assert there(gone) == [True, True], "it was condemned, and is the one that is whole"
    restores(world)
    run(world)
    restores(world)


def test_a_target_that_is_away_cannot_show_its_copy_so_a_pack_goes_only_for_one_that_two_others_have(world, twice):
    copies = [*twice[0], *twice[1]]
    site = next(site for site in "abc" if any(path.is_relative_to(world.directory(site)) for path in copies))
    world.directory(site).rename(world.root / "away")
    before = [path for path in copies if path.exists()]
    run(world)
    assert all(there(before)) or any(all(there(paths)) for paths in twice)
    (world.root / "away").rename(world.directory(site))
    run(world)
    restores(world)
    assert sum(path.exists() for path in copies) == 2


def test_nothing_is_read_without_duplicates(world, monkeypatch):
    churn(world, 5, 2)
    read = []
    monkeypatch.setattr(standins, "is_whole", lambda _targets, target, name: read.append((target, name)))
    assert run(world).removed.packs > 0
    assert read == []


@pytest.mark.parametrize("kind", ["packs/", "index/"])
def test_sites_that_store_other_bytes_than_they_were_given_cost_no_old_copy(world, monkeypatch, kind):
    """Rewritten packs are read back, since an acknowledged write is not proof of a copy."""
    look = thinned(world)
    plain = LocalStore.put

    def put(self, name, data):
        plain(self, name, bytes(len(data)) if name.startswith(kind) else data)

    with monkeypatch.context() as patch, suppress(Refused):  # of the index: its content is unknown
        patch.setattr(LocalStore, "put", put)
        run(world, unused_share=0.0)
    for site in "abc":  # it was never there
        for path in world.objects(site, kind.strip("/")):
            if not any(path.read_bytes()):
                path.unlink()
    with world.open() as repository:
        repair(repository, RepairRequest(), world.heard.append)
    (row,) = world.snapshots()
    check(world, [row], {row.id.hex(): look})
