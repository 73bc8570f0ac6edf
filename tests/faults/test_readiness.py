"""Targets that could not store the next backup: `status` fails, `backup` and `verify` name them, and all three agree."""

import errno
import os
import subprocess
import time

import pytest
from msgspec.structs import replace
from three_sites import World, everything, fill, noise
from turning_disks import InjectedDisk, RealDisk, opened_through

from drtool.errors import NoQuorum
from drtool.events import TargetFailed
from drtool.repository import readiness as readiness_module
from drtool.repository import targets as targets_module
from drtool.repository.targets import Targets
from drtool.stores import CallLimits, Circuit, Faults, FaultyStore, Guard

C = "c/main"
ADVICE = {"full": "free some space there", "read_only": "remount it for writing"}
MIB = 1 << 20


@pytest.fixture(params=[RealDisk, InjectedDisk], ids=["real", "injected"])
def disk(request, place, monkeypatch):
    """The disk of site c, which may become full or read-only."""
    made = request.param(place / "c")
    made.mount()
    opened_through(monkeypatch, {C: made})
    yield made
    made.unmount()


@pytest.fixture
def stored(disk, place):
    """One snapshot at three sites."""
    world = World(place).found()
    world.backup(fill(place / "source", {"file": noise(500_000)}))
    return world


@pytest.fixture
def faulty(monkeypatch):
    """Faults by target, for stores opened from then on. `only` restricts them to some objects."""
    chosen, plain = {}, targets_module.open_store

    def opener(spec):
        store = plain(spec)
        return Partly(store, *chosen[spec.name]) if spec.name in chosen else store

    def guard(targets, name):
        fresh = Guard(call_limits=CallLimits(call_s=0.5, slowest_bytes_s=1e9), circuit=Circuit(rest_s=300.0))
        return targets._guards.setdefault(name, fresh)

    monkeypatch.setattr(Targets.__init__, "__defaults__", (opener,))
    monkeypatch.setattr(Targets, "guard", guard)
    return chosen


class Partly(FaultyStore):
    """Faults only for objects below `prefix`."""

    def __init__(self, inner, faults, prefix="") -> None:
        super().__init__(inner, faults)
        self._prefix = prefix

    def _begin(self, name):
        return super()._begin(name) if name.startswith(self._prefix) else Faults()


def target_of(result, name=C):
    return next(row for site in result.sites for row in site.targets if row.name == name)


def named(lines, *words):
    return any(all(word in line for word in words) for line in lines)


@pytest.mark.parametrize("turn", ["full", "read_only"])
@pytest.mark.spread(2)
def test_a_target_that_refuses_writes_is_named_by_status_backup_and_verify(stored, disk, turn):
    assert (stored.status().problems, stored.verify().refusing) == ([], [])
    disk.turn(turn)
    told = stored.status()
    assert (told.exit_code, told.healthy, target_of(told).writable) == (7, False, False)
    assert named(told.problems, f"target {C} cannot be written", ADVICE[turn])
    assert named(told.problems, "voter c cannot vote", "register cannot be written")
    assert told.quorum.reachable == 2
    stored.heard.clear()
    report = stored.backup(stored.root / "source")
    assert [(row.target, ADVICE[turn] in row.reason) for row in report.owed] == [(C, True)], (
        "nothing was new, so a test object was written"
    )
    assert [event.target for event in stored.heard if isinstance(event, TargetFailed)] == [C]
    assert named(stored.warnings(), "voter c cannot vote")
    found = stored.verify()
    assert ([row.target for row in found.refusing], [row.site for row in found.voters]) == ([C], ["c"])
    disk.mend()
    assert stored.status().problems == []


def test_the_trial_leaves_nothing_and_changes_no_record(world):
    world.backup(fill(world.root / "source", {"file": b"x"}))
    before = {site: files(world, site) for site in "abc"}
    assert world.status().problems == []
    assert {site: files(world, site) for site in "abc"} == before


def test_a_verification_of_one_site_writes_nowhere_else(world, faulty):
    world.backup(fill(world.root / "source", {"file": b"x"}))
    faulty["b/main"] = faulty[C] = (Faults(read_only=True),)
    assert [row.target for row in world.verify(site="b").refusing] == ["b/main"]
    assert world.verify(site="a").refusing == []


def files(world, site):
    return {name: row for name, row in everything(world.directory(site)).items() if row[0].startswith("0o10")}


def test_without_a_quorum_of_writable_voters_there_is_no_quorum(world, faulty):
    world.backup(fill(world.root / "source", {"file": b"x"}))
    faulty["b/main"] = faulty[C] = (Faults(read_only=True),)
    told = world.status()
    assert (told.exit_code, told.healthy, told.quorum.needed, told.quorum.reachable) == (6, False, 2, 1)
    with pytest.raises(NoQuorum):
        world.backup(world.root / "source")


def test_a_voter_that_cannot_write_its_register_alone_is_seen(world, faulty):
    faulty[C] = (Faults(read_only=True), "manifest/acc/")
    told = world.status()
    assert told.exit_code == 7
    assert named(told.problems, "voter c cannot vote", "read-only")
    assert not named(told.problems, f"target {C} cannot be written")
    assert target_of(told).writable


def test_a_hanging_target_is_waited_for_once_and_reported(world, faulty, monkeypatch):
    world.backup(fill(world.root / "source", {"file": b"x"}))
    faulty["b/main"] = faulty[C] = (Faults(hang=True), "probe/")
    began = time.monotonic()
    told = world.status()
    assert time.monotonic() - began < 25
    for target in ("b/main", C):
        assert named(told.problems, f"target {target} cannot be written")


def test_an_endless_call_is_bounded(world, faulty, monkeypatch):
    monkeypatch.setattr(readiness_module, "TRIAL_TIMEOUT_S", 0.3)
    monkeypatch.setattr(Targets, "guard", lambda targets, name: targets._guards.setdefault(name, Guard()))
    faulty[C] = (Faults(hang=True), "probe/")
    began = time.monotonic()
    assert named(world.status().problems, f"target {C} cannot be written", "did not answer within")
    assert time.monotonic() - began < 25


class WithArbiter(World):
    """Site v votes and stores nothing."""

    def spec(self, **more):
        spec = super().spec(**more)
        rows = tuple(replace(row, vote="only") if row.name == "v/main" else row for row in spec.targets)
        return replace(spec, targets=rows)


@pytest.mark.parametrize("where", ["", "manifest/acc/"], ids=["disk", "register"])
def test_an_arbiter_that_cannot_vote_is_named(place, faulty, where):
    world = WithArbiter(place, ("a/main", "b/main", "v/main")).found(copies=2)
    faulty["v/main"] = (Faults(read_only=True), where)
    told = world.status()
    assert told.exit_code == 7
    assert named(told.problems, "voter v cannot vote", "read-only")


def small(point, options):
    if os.geteuid() != 0:
        pytest.skip("only root can mount a small disk")
    point.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", options, "drtool-test", point], capture_output=True, check=False
    )
    if done.returncode:
        pytest.skip(f"this machine lets root mount nothing: {done.stderr!r}")


@pytest.fixture
def mounted(place):
    """Mount a tmpfs with these options at site c."""
    yield lambda options: small(place / "c", options)
    subprocess.run(["umount", "-l", place / "c"], check=False, capture_output=True)


def test_a_disk_without_inodes_is_full_though_it_has_room(place, mounted):
    mounted("size=256m,nr_inodes=200")
    world = World(place).found()
    try:
        for number in range(1000):
            (place / f"c/{number}").touch()
    except OSError:
        pass
    told = world.status()
    assert told.exit_code == 7
    assert named(told.problems, f"target {C} cannot be written", "the number of files")


def test_a_disk_with_less_room_than_the_last_backup_took_is_a_problem_of_today(place, mounted):
    mounted("size=64m")
    world = World(place).found(copies=3)
    source = fill(place / "source", {"first": noise(MIB)})
    world.backup(source)
    world.backup(fill(source, {"second": noise(20 * MIB, 2)}))
    assert world.status().problems == []
    with open(place / "c/ballast", "wb") as ballast:
        ballast.truncate(0)
        os.posix_fallocate(ballast.fileno(), 0, 30 * MIB)
    told = world.status()
    assert named(told.problems, f"target {C} has", "its share of the last backup was 20 MiB", "target add")
    row = target_of(told)
    assert row.free_bytes < row.last_backup_bytes
    world.backup(source)
    assert named(world.status().problems, f"target {C} has"), "an empty backup does not predict the next one"


def test_a_disk_with_room_for_records_and_for_no_pack_is_a_problem(place, mounted):
    mounted("size=16m")
    world = World(place).found(copies=3)
    with open(place / "c/ballast", "wb") as ballast:
        os.posix_fallocate(ballast.fileno(), 0, os.statvfs(place / "c").f_bavail * 4096 - 5 * MIB)
    told = world.status()
    assert (told.exit_code, target_of(told).writable) == (7, True)
    assert named(told.problems, f"target {C} has no room for the next backup", "add a target")


def test_a_quota_that_the_file_system_does_not_show_is_a_problem(world, monkeypatch):
    """The claimed space represents a quota. Small objects still fit."""
    plain = os.posix_fallocate

    def refuses(descriptor, start, length):
        if "/c/" in os.readlink(f"/proc/self/fd/{descriptor}"):
            raise OSError(errno.EDQUOT, "quota")
        plain(descriptor, start, length)

    monkeypatch.setattr(os, "posix_fallocate", refuses)
    told = world.status()
    assert (told.exit_code, target_of(told).writable) == (7, True)
    assert named(told.problems, f"target {C} has no room for the next backup", "a quota or the number of files")
    assert [line for line in told.problems if C not in line] == []


def test_half_a_disk_taken_by_the_first_backup_is_a_notice(place, mounted):
    mounted("size=64m")
    world = World(place).found(copies=3)
    world.backup(fill(place / "source", {"first": noise(40 * MIB)}))
    told = world.status()
    assert (told.problems, told.exit_code) == ([], 0)
    assert named(told.notices, f"target {C} has", "the first of its source")
