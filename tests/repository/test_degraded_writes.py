"""Targets that are full, read-only, offline or die: copies go elsewhere, and missing ones are reported."""

import os
import stat
import subprocess

import pytest
from three_sites import World, fill, in_a_child, noise, portrait

from drtool.errors import DrtoolError
from drtool.model import TargetName
from drtool.repository import targets as targets_module
from drtool.repository.targets import Targets
from drtool.stores.faults import Faults, FaultyStore

A, B, C = map(TargetName, ("a/main", "b/main", "c/main"))
SIZE = 6_000_000


@pytest.fixture
def faults(monkeypatch):
    """Faults by target, in force for what is opened from then on, workers included. Only objects are affected, not registers."""
    chosen = {}
    plain = targets_module.open_store

    def opener(spec):
        store = plain(spec)
        return FaultyPacks(store, chosen[spec.name]) if spec.name in chosen else store

    monkeypatch.setattr(Targets.__init__, "__defaults__", (opener,))
    return chosen


class FaultyPacks(FaultyStore):
    """Faults for packs and index segments, but not for the register of the manifest."""

    def _begin(self, name):
        return super()._begin(name) if name.startswith(("packs/", "index/")) else Faults()

    def _check_reachable(self, name):
        if name.startswith(("packs/", "index/")):
            super()._check_reachable(name)


@pytest.fixture
def source(world):
    return fill(world.root / "source", {f"{i}": noise(SIZE // 6, i) for i in range(6)})


def restored(world, source):
    out = world.root / "out"
    assert world.restore(out).errors == []
    assert portrait(out.joinpath(*source.parts[1:])) == portrait(source)


@pytest.mark.parametrize(
    "fault",
    [Faults(full_after_bytes=0), Faults(full_after_bytes=600), Faults(read_only=True), Faults(offline=True)],
    ids=["full", "filling", "read-only", "offline"],
)
@pytest.mark.spread(4)
def test_one_target_that_takes_nothing_is_passed_over_and_named(world, source, faults, fault):
    faults[B] = fault
    report = world.backup(source)
    assert (report.copies.wanted, report.copies.minimum_written, report.degraded) == (2, 2, False)
    assert [row.target for row in report.owed] == [B]
    assert report.owed[0].reason
    faults.clear()
    result = world.verify()
    assert (result.missing, result.damaged, result.degraded) == ([], [], False)
    restored(world, source)


def test_below_the_promised_copies_is_degraded(world, source, faults):
    faults[B] = faults[C] = Faults(read_only=True)
    report = world.backup(source)
    assert (report.copies.minimum_written, report.degraded) == (1, True)
    assert [row.target for row in report.owed] == [B, C]
    faults.clear()
    restored(world, source)
    assert world.verify("structure").degraded


def test_below_the_minimum_nothing_is_committed(place, faults):
    world = World(place).found(minimum=2)
    source = fill(world.root / "source", {"file": noise(SIZE)})
    faults[B] = faults[C] = Faults(full_after_bytes=100_000)
    with pytest.raises(DrtoolError, match="of the 2 sites") as caught:
        world.backup(source)
    assert (caught.value.exit_code, bool(caught.value.hint)) == (1, True)
    assert world.snapshots() == []
    faults.clear()
    report = world.backup(source)
    assert not report.degraded
    assert len(world.view().state.sessions) == 0
    restored(world, source)


def test_when_every_target_refuses_the_run_fails_and_the_next_succeeds(world, source, faults):
    faults[A] = faults[B] = faults[C] = Faults(read_only=True)
    with pytest.raises(DrtoolError, match="of the 1 sites"):
        world.backup(source)
    assert world.snapshots() == []
    faults.clear()
    world.backup(source)
    assert len(world.snapshots()) == 1


@pytest.mark.parametrize("call", [1, 2, 3])
def test_one_failed_call_is_enough_to_go_elsewhere(world, source, faults, call):
    faults[A] = Faults(fail_calls=frozenset({call}))
    report = world.backup(source)
    assert not report.degraded
    assert {row.target for row in report.owed} <= {A}
    faults.clear()
    restored(world, source)


def test_a_target_that_vanishes_in_the_middle(world, source, monkeypatch):
    """The directory is moved away while packs are written: nothing is acknowledged into the moved directory."""
    from drtool.repository import writing

    put = writing.Writer._put
    moved = []

    def unmount(writer, target, name, data):
        if target == A and name.startswith("packs/") and not moved and os.path.exists(world.directory("a")):
            os.rename(world.directory("a"), world.root / "moved")
            moved.append(name)
        put(writer, target, name, data)

    monkeypatch.setattr(writing.Writer, "_put", unmount)
    report = world.backup(source)
    assert (report.degraded, [row.target for row in report.owed]) == (False, [A])
    assert not world.directory("a").exists()
    restored(world, source)


def test_a_file_system_that_is_really_full(place):
    """A small tmpfs as site b: the disk says no in the middle of a pack."""
    small = place / "b"
    small.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", small], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("this user may not mount")
    try:
        world = World(place).found()
        source = place / "source"
        for number in range(10):  # until the ring has wanted something on b that is too large for it
            report = world.backup(fill(source, {f"{number}": noise(2_500_000, number)}))
            if report.owed:
                break
        assert (report.degraded, [row.target for row in report.owed]) == (False, [B])
        assert "no room left" in report.owed[0].reason
        restored(world, source)
        assert not [name for name in os.listdir(small / "packs") if name.startswith(".tmp-")]
    finally:
        subprocess.run(["umount", small], check=True)


def test_a_read_only_directory_without_privileges(place):
    """Root may write anywhere, so another user backs up to a target with packs of a different owner."""
    if os.geteuid() != 0:
        pytest.skip("needs another user")
    world = World(place).found()
    source = fill(place / "source", {"file": noise(300_000)})
    os.chmod(place, 0o755)
    for top, dirs, files in os.walk(place):
        for name in [*dirs, *files]:
            os.chown(os.path.join(top, name), 65534, 65534)
    (world.directory("c") / "packs").mkdir(mode=0o755)
    (world.directory("c") / "index").mkdir(mode=0o755)
    ended = in_a_child(lambda: _owes_c(world, source), uid=65534)
    assert ended == 0
    assert stat.S_IMODE((world.directory("c") / "packs").stat().st_mode) == 0o755


def _owes_c(world, source):
    report = world.backup(source)
    assert (report.degraded, [row.target for row in report.owed]) == (False, [C])
    assert "is not writable" in report.owed[0].reason
