"""A store with wrong answers: sizes, bytes, old objects, listings, and half of the written data.

Restore never writes a wrong byte. Verify names exactly the objects with wrong answers. Repair replaces objects that are
really missing, and everything is well once the wrong answers end.
"""

import shutil

import pytest
from three_sites import fill, noise, portrait

from drtool.config.faults import read_faults
from drtool.operations.repair import RepairRequest, repair
from drtool.repository import targets as targets_module
from drtool.repository.targets import Targets
from drtool.stores import NO_FAULTS, Faults, FaultyStore

OBJECTS = ["packs/", "index/"]
LIES = {
    "other bytes": {"damaged": OBJECTS},
    "other bytes, some": {"damaged": OBJECTS, "share": "40%", "seed": 3},
    "a wrong size": {"wrong-size": "-100"},
    "a size too large": {"wrong-size": "1MiB"},
    "some wrong sizes": {"wrong-size": "7", "share": "40%", "seed": 5},
    "a listing that omits": {"omitted": OBJECTS, "share": "40%", "seed": 2},
    "a listing that invents": {"invented": ["packs/00/" + "00" * 32, "index/ff/" + "ff" * 32]},
    "a flaky line": {"flaky": "15%", "seed": 4},
}


class Lying(FaultyStore):
    """A store with wrong answers about objects except the marker and the register, which the manifest's own tests cover."""

    def _begin(self, name):
        return super()._begin(name) if name.startswith(("packs/", "index/")) else NO_FAULTS


@pytest.fixture
def liars(monkeypatch):
    """Faults by target, for stores opened from then on."""
    chosen, plain = {}, targets_module.open_store

    def opener(spec):
        store = plain(spec)
        return Lying(store, chosen[spec.name]) if spec.name in chosen else store

    monkeypatch.setattr(Targets.__init__, "__defaults__", (opener,))
    return chosen


@pytest.fixture
def stocked(world):
    for number in range(5):
        fill(world.root / "source", {f"{number}": noise(60_000, number)})
        world.backup(world.root / "source")
    return world, world.root / "source"


def restores(world, source):
    out = world.root / "out"
    assert world.restore(out, path=source).errors == []
    assert portrait(out) == portrait(source)
    shutil.rmtree(out)


def run_repair(world, **more):
    with world.open() as repository:
        return repair(repository, RepairRequest(**more), world.heard.append)


def stored(world, site):
    """Return its objects by name."""
    return {name: path for kind in ("packs", "index") for name, path in _pairs(world, site, kind)}


def _pairs(world, site, kind):
    return zip(world.names(site, kind), world.objects(site, kind), strict=True)


def lied_about(world, site, spec):
    """Return the objects of `site` affected by these faults."""
    faults = read_faults(spec)
    if faults.size_error_bytes:
        return {name for name in stored(world, site) if faults.wrong_size(name, 500) != 500}
    return {name for name in stored(world, site) if faults.hits(faults.damaged | faults.omitted, name)}


@pytest.mark.parametrize("lie", LIES)
@pytest.mark.spread(4)
def test_one_liar_among_three(stocked, liars, lie):
    world, source = stocked
    spec = LIES[lie]
    before = {site: {name: path.read_bytes() for name, path in stored(world, site).items()} for site in "abc"}
    liars["b/main"] = read_faults(spec)
    restores(world, source)
    report = world.backup(fill(source, {"more": noise(50_000, 50)}))
    assert report.errors == []
    restores(world, source)
    found = world.verify("full")
    named = {(row.target, row.object) for row in found.damaged} | {(row.target, row.object) for row in found.missing}
    assert named == {("b/main", name) for name in lied_about(world, "b", spec)}
    assert found.unrepairable == []
    run_repair(world, read_all=True)
    restores(world, source)
    liars.clear()
    run_repair(world, read_all=True)
    last = world.verify("full")
    assert (last.missing, last.damaged, last.unrepairable, last.degraded) == ([], [], [], False)
    restores(world, source)
    for site in "abc":
        now = stored(world, site)
        assert all(now[name].read_bytes() == data for name, data in before[site].items() if name in now)


def test_with_every_copy_damaged_restore_fails_for_these_files_and_writes_no_wrong_byte(stocked, liars):
    world, source = stocked
    data = {name: path.stat().st_size for site in "abc" for name, path in stored(world, site).items()}
    lost = sorted(name for name, size_bytes in data.items() if name.startswith("packs/") and size_bytes > 50_000)[:2]
    for site in "abc":
        liars[f"{site}/main"] = read_faults({"damaged": lost})
    out = world.root / "out"
    result = world.restore(out, path=source)
    failed = {error.path.rpartition("/")[2] for error in result.errors}
    assert len(failed) == 2
    for path in source.iterdir():
        written = (out / path.name).read_bytes() if (out / path.name).exists() else b""
        if path.name not in failed:
            assert written == path.read_bytes()
        assert all(byte in {0, good} for byte, good in zip(written, path.read_bytes(), strict=False))  # at most a hole
    found = world.verify("full")
    assert {(row.target[0], row.object) for row in found.damaged} == {
        (site, name) for site in "abc" for name in stored(world, site) if name in lost
    }
    assert sorted(row.object for row in found.unrepairable) == lost
    liars.clear()
    shutil.rmtree(out)
    restores(world, source)


@pytest.mark.parametrize("kind", ["failing", "silent"])
def test_half_written_objects_are_found_and_healed(world, liars, kind):
    """With `silent` the store reports success. Its contents are known by reading, never from its answer."""
    source = fill(world.root / "source", {f"{number}": noise(60_000, number) for number in range(5)})
    liars["b/main"] = read_faults({"partial-writes": kind})
    report = world.backup(source)
    assert [row.target for row in report.owed] == (["b/main"] if kind == "failing" else [])
    restores(world, source)
    halves = {("b/main", name) for name in stored(world, "b")}
    assert halves
    liars.clear()
    found = world.verify("full")
    assert {(row.target, row.object) for row in found.damaged} == halves
    run_repair(world)
    last = world.verify("full")
    assert (last.missing, last.damaged, last.unrepairable, last.degraded) == ([], [], [], False)
    restores(world, source)


def test_an_object_replaced_by_an_older_one_does_not_match_its_name(stocked, liars, monkeypatch):
    """Names are hashes of the contents, so an old object under a name does not match it."""
    world, source = stocked
    packs = stored(world, "b")
    names = sorted(name for name in packs if name.startswith("packs/"))
    old, new = names[0], names[1]

    class Swapping(FaultyStore):
        def get(self, name, start=0, length=None):
            return super().get(old if name == new else name, start, length)

    plain = targets_module.open_store
    monkeypatch.setattr(
        Targets.__init__,
        "__defaults__",
        (lambda spec: Swapping(plain(spec), Faults()) if spec.name == "b/main" else plain(spec),),
    )
    restores(world, source)
    found = world.verify("full")
    assert [(row.target, row.object) for row in found.damaged] == [("b/main", new)]
    restores(world, source)


def test_a_stale_register_is_not_trusted(world, monkeypatch):
    """One site shows its register and objects as they were before, but the others have newer ones."""
    source = fill(world.root / "source", {"x": noise(50_000)})
    world.backup(source)
    shutil.copytree(world.directory("b"), world.root / "old-b")
    world.backup(fill(source, {"y": noise(50_000, 1)}))
    real = world.directory("b").rename(world.root / "new-b")
    (world.root / "old-b").rename(world.directory("b"))
    assert len(world.snapshots()) == 2
    restores(world, source)
    assert world.backup(fill(source, {"z": noise(50_000, 2)})).errors == []
    assert len(world.snapshots()) == 3
    restores(world, source)
    run_repair(world)
    last = world.verify("full")
    assert (last.missing, last.damaged, last.unrepairable, last.degraded) == ([], [], [], False)
    assert real.exists()
