"""A dead site costs seconds, not minutes, in every command: counted in calls, and with a really hanging mount."""

import os
import subprocess
import sys
import time
from threading import Lock

import pytest
from hanging_mount import hung_mount
from msgspec.structs import replace
from thoroughness import spread
from three_sites import World, fill, noise, portrait

from drtool.errors import NoQuorum, TargetHung
from drtool.model import TargetName
from drtool.operations.prune import PruneRequest, prune
from drtool.operations.repair import RepairRequest, repair
from drtool.repository import TargetSpec, found
from drtool.repository import places as places_module
from drtool.repository import targets as targets_module
from drtool.repository.admitting import look_at_place
from drtool.repository.joining import target_at
from drtool.repository.places import vote_verdict
from drtool.repository.targets import Targets
from drtool.stores import NO_FAULTS, CallLimits, Circuit, Faults, FaultyStore, Guard

C = "c/main"


class Sick(FaultyStore):
    """A store that counts its calls and becomes faulty, with its register, from its `after`-th object on."""

    def __init__(self, inner, plan) -> None:
        super().__init__(inner)
        self.plan, self.lock = plan, Lock()

    def _begin(self, name):
        with self.lock:
            if name.startswith(("packs/", "index/")):
                self.plan.objects += 1
            if self.plan.objects > self.plan.after:
                self.plan.calls_while_ill += 1
                if self.faults != self.plan.faults:
                    self.faults = self.plan.faults
        return super()._begin(name)


class Plan:
    """When and how site c fails."""

    def __init__(self) -> None:
        self.stores, self.calls_while_ill, self.objects, self.after, self.faults = [], 0, 0, 0, NO_FAULTS

    def ill(self, faults, after=0) -> None:
        self.faults, self.after, self.objects, self.calls_while_ill = faults, after, 0, 0

    def well(self) -> None:
        self.faults = NO_FAULTS
        for store in self.stores:
            store.faults = NO_FAULTS  # hanging calls continue


@pytest.fixture
def plan(monkeypatch):
    """Apply the plan to site c. No call is waited for longer than a second."""
    made, plain = Plan(), targets_module.open_store

    def opener(spec):
        if spec.name != C:
            return plain(spec)
        store = Sick(plain(spec), made)
        made.stores.append(store)
        return store

    def guard(targets, name):
        fresh = Guard(call_limits=CallLimits(call_s=1.0, slowest_bytes_s=1e9), circuit=Circuit(rest_s=300.0))
        return targets._guards.setdefault(name, fresh)

    monkeypatch.setattr(Targets.__init__, "__defaults__", (opener,))
    monkeypatch.setattr(Targets, "guard", guard)
    yield made
    made.well()


@pytest.fixture
def stocked(world, plan):
    """Some dozens of objects over three sites."""
    for number in range(10):
        fill(world.root / "source", {f"{number}": noise(20_000, number)})
        world.backup(world.root / "source")
    return world


def run_repair(world):
    with world.open() as repository:
        return repair(repository, RepairRequest(read_all=True), world.heard.append)


def run_prune(world):
    with world.open() as repository:
        return prune(repository, PruneRequest(now_ns=10**18), world.heard.append)


VERBS = {
    "backup": lambda world: world.backup(fill(world.root / "source", {"new": noise(50_000, 999)})),
    "verify": lambda world: world.verify("full"),
    "repair": run_repair,
    "prune": run_prune,
    "status": World.status,
    "restore": lambda world: world.restore(world.root / "out"),
}


def _slow(verb):
    """Verification and a backup wait for the dead site, each for many seconds."""
    return [pytest.mark.thorough] if verb in ("verify", "backup") else []


@pytest.mark.parametrize("faults", spread([Faults(hang=True), Faults(offline=True)]), ids=["hangs", "offline"])
@pytest.mark.parametrize("verb", [pytest.param(verb, marks=_slow(verb)) for verb in VERBS])
def test_a_site_that_dies_in_the_middle_gets_a_few_calls(stocked, plan, verb, faults):
    plan.ill(faults, after=2 if verb in {"verify", "repair"} else 1)
    began = time.monotonic()
    VERBS[verb](stocked)
    assert time.monotonic() - began < 30  # not one full wait for each of dozens of objects
    assert plan.calls_while_ill <= 30
    if verb in {"verify", "repair", "prune", "status"}:  # commands that list every site must notice
        assert plan.calls_while_ill
    plan.well()
    found = stocked.verify("full")
    assert (found.damaged, found.unrepairable) == ([], [])


def test_verification_does_not_report_hanging_objects_as_damaged(stocked, plan):
    plan.ill(Faults(hang=True), after=3)
    found = stocked.verify("full")
    assert found.damaged == []
    plan.well()
    assert stocked.verify("full").damaged == []


@pytest.fixture
def hung_c(place):
    """Three sites; the mount of c hangs."""
    world = World(place).found()
    source = fill(place / "source", {f"{number}": noise(100_000, number) for number in range(5)})
    world.backup(source)
    world.directory("c").rename(place / "away")
    world.directory("c").mkdir()
    with hung_mount(world.directory("c")):
        yield world, source


def test_a_mount_that_hangs_for_real_is_one_site_away(hung_c, monkeypatch):
    monkeypatch.setattr(targets_module, "OPEN_TIMEOUT_S", 0.5)
    world, source = hung_c
    report = world.backup(fill(source, {"new": noise(50_000, 77)}))
    assert report.errors == []
    assert world.restore(world.root / "out", path=source).errors == []
    assert portrait(world.root / "out") == portrait(source)
    (row,) = [row for site in world.status().sites for row in site.targets if row.name == C]
    assert "did not answer within 0.5 s" in row.reason
    assert world.verify("full").damaged == []
    run_prune(world)
    run_repair(world)


@pytest.mark.thorough
def test_a_hanging_target_is_neither_connected_nor_added(hung_c, monkeypatch):
    monkeypatch.setattr(places_module, "OPEN_TIMEOUT_S", 0.3)
    world, _ = hung_c
    url = str(world.directory("c"))
    with pytest.raises(NoQuorum, match=r"did not answer within 0\.3 s"):
        target_at(url)
    spec = TargetSpec(name=TargetName("d/main"), url=url + "/below")
    with world.open() as repository:
        for look in (lambda: look_at_place(repository, spec), lambda: vote_verdict(spec)):
            with pytest.raises(TargetHung) as caught:
                look()
            assert caught.value.exit_code == 1
    with pytest.raises(TargetHung):
        found(replace(world.spec(), targets=(spec,)), 1, 1, world.heard.append)


def test_a_process_ends_though_a_mount_hangs(hung_c):
    """In a process of its own, as for a user: hanging calls do not keep it from ending."""
    world, _ = hung_c
    program = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from pathlib import Path\n"
        "from three_sites import World\n"
        "from drtool.repository import targets\n"
        "targets.OPEN_TIMEOUT_S = 0.5\n"
        "print(World(Path(sys.argv[2])).status().quorum.reachable)\n"
        "sys.exit(5)\n"
    )
    tests = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    done = subprocess.run(
        [sys.executable, "-c", program, tests, world.root], capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stderr) == (5, "")
