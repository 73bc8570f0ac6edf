"""Repair on real repositories: everything that one site loses or falsifies is restored, byte for byte."""

import random
import shutil
import signal

import pytest
from three_sites import fill, in_a_child, noise, portrait

from drtool.errors import Interrupted, TargetHung
from drtool.operations.repair import RepairRequest, repair
from drtool.stores import LocalStore


def run(world, **more):
    with world.open() as repository:
        return repair(repository, RepairRequest(**more), world.heard.append)


def objects(world, site):
    root = world.directory(site)
    found = [path for kind in ("packs", "index") for path in (root / kind).rglob("*") if path.is_file()]
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(found)}


@pytest.fixture
def stocked(world):
    source = fill(world.root / "source", {f"d{i % 3}/{i:02}": noise(200_000 + i, i) for i in range(40)})
    world.backup(source)
    fill(source, {"d0/new": noise(70_000, 99)})
    world.backup(source)
    return source, portrait(source)


def check(world, stocked):
    source, look = stocked
    result = world.verify("full")
    assert (result.missing, result.damaged, result.unrepairable, result.degraded) == ([], [], [], False)
    out = world.root / "out"
    assert world.restore(out, path=source).errors == []
    assert portrait(out) == look
    shutil.rmtree(out)


def test_nothing_to_do_changes_nothing(world, stocked):
    before = [objects(world, site) for site in "abc"]
    result = run(world)
    assert (result.copied.objects, result.rebuilt.objects, result.removed.objects) == (0, 0, 0)
    assert [objects(world, site) for site in "abc"] == before


def test_everything_that_one_site_lost_comes_back_byte_for_byte(world, stocked):
    before = objects(world, "b")
    for kind in ("packs", "index"):
        shutil.rmtree(world.directory("b") / kind)
        (world.directory("b") / kind).mkdir()
    would = run(world, dry_run=True)
    did = run(world)
    assert did.copied == would.copied
    assert did.copied.objects == len(before)
    assert objects(world, "b") == before
    check(world, stocked)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.spread(4)
def test_any_damage_at_one_site_is_repaired(world, stocked, seed):
    rng = random.Random(seed)
    site = rng.choice("abc")
    root, before = world.directory(site), objects(world, site)
    harmed = rng.sample(sorted(before), len(before) // 2 + 1)
    for name in harmed:
        data = bytearray(before[name])
        match rng.choice(["flip", "cut", "empty", "delete", "swap"]):
            case "flip":
                data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
            case "cut":
                del data[rng.randrange(1, len(data)) :]
            case "empty":
                data.clear()
            case "swap":
                data = bytearray(before[rng.choice(sorted(before))])
            case "delete":
                (root / name).unlink()
                continue
        (root / name).write_bytes(data)
    changed = {name for name in harmed if objects(world, site).get(name) != before[name]}
    found = world.verify("full")
    assert {row.object for row in (*found.damaged, *found.missing)} == changed
    run(world)
    assert objects(world, site) == before
    check(world, stocked)
    with world.open() as repository:
        assert repository.findings.all() == frozenset()


def test_flipped_bits_are_found_without_verification_when_asked_to_read_all(world, stocked):
    before = objects(world, "c")
    name = next(name for name in before if name.startswith("packs/"))
    (world.directory("c") / name).write_bytes(bytes(len(before[name])))
    assert run(world).rebuilt.objects == 0
    assert run(world, read_all=True).rebuilt.objects == 1
    assert objects(world, "c") == before


def test_objects_without_a_whole_copy_are_named(world, stocked):
    name = next(name for name in objects(world, "a") if name.startswith("packs/"))
    for site in "abc":
        path = world.directory(site) / name
        if path.exists():
            path.write_bytes(bytes(path.stat().st_size))
    world.verify("full")
    result = run(world)
    assert [row.object for row in result.unrepairable] == [name]
    assert result.degraded


def test_a_site_that_was_away_is_filled_and_surplus_copies_are_removed(world):
    world.directory("c").rename(world.root / "away")
    for i in range(10):  # as many packs: where each belongs is chance
        source = fill(world.root / "source", {f"{i:02}": noise(200_000, i)})
        world.backup(source)
    (world.root / "away").rename(world.directory("c"))
    before = world.verify("full")
    assert before.misplaced
    result = run(world)
    assert result.copied.objects > 0
    assert result.removed.objects > 0
    after = world.verify("full")
    assert (after.misplaced, after.owed, after.missing, after.degraded) == (0, 0, [], False)
    check(world, (source, portrait(source)))


def test_a_full_target_is_reported_and_the_rest_is_done(world, stocked, monkeypatch):
    shutil.rmtree(world.directory("b") / "packs")
    (world.directory("b") / "packs").mkdir()
    (world.directory("b") / "packs").chmod(0o500)
    from drtool.errors import TargetFull
    from drtool.stores import LocalStore

    plain = LocalStore.put

    def put(self, name, data):
        if self.root.name == "b" and name.startswith("packs/"):
            raise TargetFull("no space is left")
        plain(self, name, data)

    monkeypatch.setattr(LocalStore, "put", put)
    result = run(world)
    assert any(row.target == "b/main" and "space" in row.reason for row in result.away)


def superfluous(world):
    """Make a surplus copy of some object, and return its place."""
    held = {site: objects(world, site) for site in "abc"}
    name, where = next(
        (name, [site for site in "abc" if name in held[site]])
        for names in held.values()
        for name in names
        if sum(name in other for other in held.values()) == 2
    )
    (without,) = set("abc") - set(where)
    extra = world.directory(without) / name
    extra.parent.mkdir(parents=True, exist_ok=True)
    extra.write_bytes(held[where[0]][name])
    return extra


def test_an_interruption_in_the_midst_of_a_deletion_leaves_the_mover_at_work(world, stocked, monkeypatch):
    """A requested deletion may still happen after the process that waited for it is gone."""
    extra = superfluous(world)

    def interrupted():
        def delete(_store, _name):
            raise Interrupted(signal.SIGINT)

        monkeypatch.setattr(LocalStore, "delete", delete)
        with pytest.raises(Interrupted):
            run(world)
        assert any("did not confirm a deletion" in warning for warning in world.warnings())

    assert in_a_child(interrupted) == 0
    assert [row.kind for row in world.view().state.sessions] == ["mover"]
    assert run(world).removed.objects == 1
    assert not extra.exists()
    assert list(world.view().state.sessions) == []


def test_a_deletion_with_unknown_outcome_keeps_the_mover_open_until_its_process_is_gone(world, stocked, monkeypatch):
    """Otherwise a late one could take a copy that a later ring promises."""
    extra = superfluous(world)

    def hanging(_store, _name):
        raise TargetHung("it did not answer")

    def unanswered():
        with monkeypatch.context() as patch:
            patch.setattr(LocalStore, "delete", hanging)
            assert run(world).removed.objects == 0
        assert any("did not confirm a deletion" in warning for warning in world.warnings())

    assert in_a_child(unanswered) == 0
    assert [row.kind for row in world.view().state.sessions] == ["mover"]
    assert run(world).removed.objects == 1
    assert not extra.exists()
    assert list(world.view().state.sessions) == []
