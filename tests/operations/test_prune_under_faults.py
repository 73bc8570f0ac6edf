"""Random targets fill up or go away while prune works: nothing that a snapshot needs ends on fewer sites than before.

Index segments that a full target had no room for are repair's, which prune says.
"""

import random
import shutil

import pytest
from test_prune import forget, run
from thoroughness import spread
from three_sites import World, fill, noise, portrait

from drtool.errors import DrtoolError, TargetFull
from drtool.operations.prune.run import OWED
from drtool.operations.repair import RepairRequest, repair
from drtool.stores import LocalStore
from drtool.trees import FileType, read_content, read_directory


@pytest.fixture
def faults(monkeypatch):
    """Which sites refuse which objects, and how often. The test changes it as it goes."""
    plan = {"sites": "", "kinds": (), "share": 0.0, "rng": random.Random(0)}
    plain = LocalStore.put

    def put(self, name, data):
        hit = self.root.name in plan["sites"] and name.startswith(plan["kinds"])
        if hit and plan["rng"].random() < plan["share"]:
            raise TargetFull("no space is left")
        plain(self, name, data)

    monkeypatch.setattr(LocalStore, "put", put)
    return plan


def break_something(faults, rng):
    kinds = rng.choice([("packs/",), ("index/",), ("packs/", "index/")])
    faults.update(sites=rng.choice(["a", "b", "c", "ab", "bc", "ac"]), kinds=kinds, share=rng.choice([0.2, 0.5, 1.0]))


def needed(repository):
    """Every chunk of every snapshot."""
    stack = [row.root for row in repository.view.state.snapshots]
    while stack:
        yield (tree := stack.pop())
        for entry in read_directory(tree, repository.chunks):
            if entry.type == FileType.DIRECTORY and entry.subtree:
                stack.append(entry.subtree)
            elif entry.type == FileType.FILE:
                yield from read_content(entry, repository.chunks)


def sites_with_it(world):
    """On how many sites each needed chunk can be found: its pack, and an index segment that says so."""
    held = {site: {path.name for kind in ("packs", "index") for path in world.objects(site, kind)} for site in "abc"}

    def sites(name):
        return sum(name.hex() in names for names in held.values())

    with world.open() as repository:
        best = {}
        for segment in repository.index.mapped():
            reader = repository.index.reader(segment)
            for row in reader.rows():
                there = min(sites(reader.location(row).pack.pack), sites(segment))
                best[row[:32]] = max(best.get(row[:32], 0), there)
        return {chunk: best[chunk] for chunk in needed(repository)}


@pytest.mark.parametrize(("copies", "seed"), spread([(1 + seed % 3, seed) for seed in range(9)], 4))
def test_nothing_ends_on_fewer_sites_than_before(place, faults, copies, seed):
    rng, faults["rng"] = random.Random(seed), random.Random(seed)
    world = World(place).found(copies)
    source, looks = place / "source", {}
    for _ in range(8):
        fill(
            source,
            {f"{name:02}": noise(rng.randrange(1000, 300_000), rng.random()) for name in range(rng.randrange(1, 9))},
        )
        looks[world.backup(source).id] = portrait(source)
        forget(world, *world.snapshots()[:-2])
        before = sites_with_it(world)
        away = rng.choice(["", "", *"abc"])
        if away:
            world.directory(away).rename(place / "away")
        break_something(faults, rng)
        world.heard.clear()
        try:
            run(world, unused_share=0.0, yes=True)
        except DrtoolError:
            pass  # it may fail, and harm nothing
        faults["share"] = 0.0
        if away:
            (place / "away").rename(world.directory(away))
        if OWED in world.warnings():  # where there was no room for the index
            with world.open() as repository:
                repair(repository, RepairRequest(), world.heard.append)
        after = sites_with_it(world)
        assert all(after[chunk] >= min(copies, before[chunk]) for chunk in before)
    for _ in range(3):
        run(world, unused_share=0.0, yes=True)
    for row in world.snapshots():
        shutil.rmtree(place / "out", ignore_errors=True)
        assert world.restore(place / "out", row, path=source).errors == []
        assert portrait(place / "out") == looks[row.id.hex()]
    with world.open() as repository:
        named = {row.pack.hex() for row in repository.index.packs()}
    assert {path.name for site in "abc" for path in world.objects(site)} <= named, "nothing is left behind"
