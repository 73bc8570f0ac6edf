"""A target that becomes completely full, or read-only, in the middle of a backup, repair or prune.

No acknowledged data is lost, the exit code is right, the message names the target and the remedy, and once the disk is well
again the next run completes.
"""

import shutil

import pytest
from msgspec.structs import replace
from thoroughness import spread
from three_sites import World, fill, noise, portrait
from turning_disks import InjectedDisk, RealDisk, opened_through

from drtool.errors import DrtoolError
from drtool.events import TargetFailed
from drtool.manifest.ops import ForgetSnapshots
from drtool.operations.prune import PruneRequest, prune
from drtool.operations.repair import RepairRequest, repair
from drtool.operations.repair.run import exit_code
from drtool.packing import pack
from drtool.repository.forgotten import forget_here

C = "c/main"
MIB = 1 << 20
ADVICE = {"full": "free some space there", "read_only": "remount it for writing"}


@pytest.fixture(params=[RealDisk, InjectedDisk], ids=["real", "injected"])
def disk(request, place, monkeypatch):
    made = request.param(place / "c")
    made.mount()
    opened_through(monkeypatch, {C: made})
    monkeypatch.setattr(pack, "PACK_BYTES", MIB)  # more packs for less data
    yield made
    made.unmount()


@pytest.fixture(params=["full", "read_only"])
def turn(request):
    return request.param


class WithArbiter(World):
    """Site v votes and stores nothing."""

    def spec(self, **more):
        spec = super().spec(**more)
        rows = tuple(replace(row, vote="only") if row.name == "v/main" else row for row in spec.targets)
        return replace(spec, targets=rows)


def two_sites(place):
    return WithArbiter(place, ("a/main", "c/main", "v/main")).found(copies=2)


def run_repair(world):
    with world.open() as repository:
        return repair(repository, RepairRequest(), world.heard.append)


def run_prune(world):
    with world.open() as repository:
        return prune(repository, PruneRequest(now_ns=10**18, yes=True), world.heard.append)


def restores(world, source, **more):
    out = world.root / "out"
    with world.open(**more) as repository:
        assert world.run_restore(repository, out, path=source).errors == []
    assert portrait(out) == portrait(source)
    shutil.rmtree(out)


def whole(world):
    found = world.verify("full")
    assert (found.missing, found.damaged, found.unrepairable, found.degraded) == ([], [], [], False)


def failures_of(world):
    return [event for event in world.heard if isinstance(event, TargetFailed)]


def says_what_to_do(world, turn):
    told = [event for event in failures_of(world) if event.target == C]
    assert told, "no message names the target"
    assert ADVICE[turn] in told[0].reason


@pytest.mark.parametrize("write", spread([3, 1]))
def test_in_the_middle_of_a_backup(place, disk, turn, write):
    world = two_sites(place)
    source = fill(place / "source", {f"{i:02}": noise(MIB // 3, i) for i in range(12)})
    disk.at(write, turn)
    report = world.backup(source)
    assert disk.turned
    assert report.degraded  # exit 5
    assert [row.target for row in report.owed] == [C]
    assert ADVICE[turn] in report.owed[0].reason
    restores(world, source)
    again = world.backup(fill(source, {"more": noise(MIB, 99)}))
    assert again.degraded
    disk.mend()
    assert exit_code(run_repair(world)) == 0
    whole(world)
    shutil.rmtree(world.directory("a") / "packs")
    restores(world, source)


@pytest.mark.spread(4)
def test_the_only_target_in_the_middle_of_a_backup(place, disk, turn):
    """Nothing can be stored and no snapshot is claimed. Earlier data restores, and the next run completes."""
    world = World(place, (C,)).found(copies=1)
    before = fill(place / "before", {"x": noise(MIB)})
    world.backup(before)
    source = fill(place / "source", {f"{i:02}": noise(MIB // 3, i) for i in range(12)})
    disk.at(2, turn)
    with pytest.raises(DrtoolError) as caught:
        world.backup(source)
    assert caught.value.exit_code in (1, 6)  # too few sites for an object, or for the manifest
    assert str(world.directory("c")) in caught.value.message or C in caught.value.message
    assert len(world.snapshots()) == 1
    restores(world, before)
    disk.mend()
    report = world.backup(source)
    assert (report.degraded, report.errors) == (False, [])
    restores(world, source)
    whole(world)


@pytest.mark.parametrize("write", [2])
@pytest.mark.spread(4)
def test_in_the_middle_of_a_repair(place, disk, turn, write):
    world = two_sites(place)
    source = fill(place / "source", {f"{i:02}": noise(MIB // 3, i) for i in range(12)})
    world.backup(source)
    for kind in ("packs", "index"):
        shutil.rmtree(world.directory("c") / kind)
    world.heard.clear()
    disk.at(write, turn)
    result = run_repair(world)
    assert disk.turned
    assert exit_code(result) == 5
    assert [row.target for row in result.away] == [C]
    assert ADVICE[turn] in result.away[0].reason
    says_what_to_do(world, turn)
    restores(world, source)
    disk.mend()
    assert exit_code(run_repair(world)) == 0
    whole(world)
    shutil.rmtree(world.directory("a") / "packs")
    restores(world, source)


@pytest.fixture
def grown(place, disk):
    """Three snapshots of which two are forgotten: some packs to remove, and some to rewrite."""
    world = two_sites(place)
    source = place / "source"
    for number in range(3):
        fill(source, {f"{i:02}": noise(MIB // 3, 100 * number + i) for i in range(6 * number, 6 * number + 14)})
        world.backup(source)
    with world.open() as repository:
        old = [row.id for row in repository.view.state.snapshots][:-1]
        forget_here(repository, ForgetSnapshots(tuple(old)))
    world.heard.clear()
    return world, source


@pytest.mark.parametrize("write", spread([4, 1]))
def test_in_the_middle_of_a_prune(place, disk, turn, grown, write):
    world, source = grown
    disk.at(write, turn)
    # removals on a read-only disk are pending, a full disk still deletes, and prune continues in both cases
    first = run_prune(world)
    assert disk.turned
    restores(world, source)
    if first.pending.packs:
        says_what_to_do(world, turn)
    disk.mend()
    for _ in range(3):
        last = run_prune(world)
    assert (last.pending.packs, last.removed.packs, last.repacked.packs) == (0, 0, 0)
    assert exit_code(run_repair(world)) == 0
    whole(world)
    for site in "ac":
        stored = sum(path.stat().st_size for path in world.objects(site))
        live = sum(path.stat().st_size for path in source.iterdir())
        assert stored <= 1.35 * live
    shutil.rmtree(world.directory("a") / "packs")
    restores(world, source)


def test_a_disk_that_stays_read_only_keeps_what_is_pending(place, disk, grown):
    world, source = grown
    disk.read_only()
    for _ in range(2):
        result = run_prune(world)
        restores(world, source)
    assert result.pending.packs
    assert [row.reason for row in result.waiting if C in row.reason]
    disk.mend()


def test_prune_makes_room_on_a_disk_without_a_byte_left(place, disk, grown):
    """The other voters decide, and deleting needs no space."""
    world, source = grown
    before = sum(path.stat().st_size for path in world.objects("c"))
    disk.full()
    for _ in range(2):
        run_prune(world)
    assert sum(path.stat().st_size for path in world.objects("c")) < before
    restores(world, source)
    disk.mend()
