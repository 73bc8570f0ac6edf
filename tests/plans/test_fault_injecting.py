"""Injection: the fault is active and proven, held, and gone afterwards, after any outcome of the block."""

import os
import signal
import threading
import time

import pytest
from drill_faults import BYTES, OTHER, PACK, Ground, holder
from killed_midway import every_step
from three_sites import in_a_child

from drtool.errors import DrtoolError, Interrupted, Refused, TargetOffline, UsageError
from drtool.plans.faults.injecting import Injection, Sufferer, inject
from drtool.repository.overlays import Overlays
from drtool.repository.places import open_store
from drtool.stores import FaultyStore
from drtool.stores.faults import Faults

KINDS = ("offline", "slow", "read-only", "full", "corrupt")


@pytest.fixture
def ground(tmp_path):
    return Ground(tmp_path)


def injection(ground, kind, **more):
    objects = (PACK, OTHER) if kind == "corrupt" else ()
    values = {
        "run": "r1",
        "step": "s1",
        "sufferers": (Sufferer(spec=ground.spec, objects=objects),),
        "duration_s": 60.0,
        "seed": "7",
        "latency_s": 0.02 if kind == "slow" else 0.0,
    }
    return Injection(kind=kind, **{**values, **more})


def stored(ground):
    return {path.name: path.read_bytes() for path in ground.place.rglob("*") if path.is_file()}


@pytest.mark.parametrize("kind", KINDS)
def test_it_is_in_force_in_the_block_and_gone_afterwards(kind, ground):
    before = stored(ground)
    with inject(ground.overlays, injection(ground, kind)) as fault:
        (record,) = Overlays(ground.state).in_force()
        assert (record.kind, record.target, record.run) == (kind, "a/main", "r1")
        assert fault.over() is None
        assert 59 < fault.latest_end_s <= 60
        assert stored(ground) == before
    assert (fault.removed, fault.left, fault.ended_by) == (True, [], "released")
    assert fault.injected_at < fault.ended_at
    assert fault.objects == ((PACK, OTHER) if kind == "corrupt" else ())
    assert fault.targets == ("a/main",)
    assert not ground.faults.exists()
    assert ground.store().get(PACK) == BYTES
    assert stored(ground) == before


def test_several_targets_are_faulted_together_or_not_at_all(ground, tmp_path):
    other = Ground(tmp_path, "b/main")
    both = (Sufferer(spec=ground.spec), Sufferer(spec=other.spec))
    with inject(ground.overlays, injection(ground, "offline", sufferers=both)) as fault:
        assert fault.targets == ("a/main", "b/main")
        for each in (ground, other):
            with pytest.raises(TargetOffline):
                each.store()
    for path in other.place.iterdir():
        path.rename(tmp_path / path.name)
    other.place.rmdir()
    with (
        pytest.raises(Refused, match="b/main, which does not answer now"),
        inject(ground.overlays, injection(ground, "offline", sufferers=both)),
    ):
        pass
    assert not ground.faults.exists()


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, SystemExit])
def test_an_exception_ends_it(error, ground):
    with pytest.raises(error), inject(ground.overlays, injection(ground, "offline")) as fault:
        raise error
    assert fault.removed
    assert not ground.faults.exists()


@pytest.mark.parametrize("kind", KINDS)
def test_sigterm_ends_it(kind, ground, monkeypatch):
    def interrupt(number, _frame):
        raise Interrupted(number)

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGTERM)).start()
        with pytest.raises(Interrupted), inject(ground.overlays, injection(ground, kind)) as fault:
            fault.hold(lambda: False)
        assert fault.removed
        assert not ground.faults.exists()
        assert signal.getsignal(signal.SIGTERM) is interrupt
    finally:
        signal.signal(signal.SIGTERM, before)


def test_a_signal_during_the_undo_waits_for_its_end(ground, monkeypatch):
    came = []
    before = signal.signal(signal.SIGTERM, lambda number, _frame: came.append((number, ground.faults.exists())))
    plain = os.unlink

    def unlink(*args, **more):
        os.kill(os.getpid(), signal.SIGTERM)
        return plain(*args, **more)

    monkeypatch.setattr(os, "unlink", unlink)
    try:
        with inject(ground.overlays, injection(ground, "offline")):
            pass
    finally:
        signal.signal(signal.SIGTERM, before)
    assert came[0] == (signal.SIGTERM, False)


def test_kill_9_leaves_nothing_that_the_next_command_does_not_drop(ground):
    with holder(ground.state, "a/main", ground.place, "corrupt", PACK) as process:
        assert ground.store().get(PACK) != BYTES
        process.kill()
        process.wait()
        assert len(ground.overlays.sweep().dropped) == 1
    assert not ground.faults.exists()
    assert ground.store().get(PACK) == BYTES


def test_a_fork_that_leaves_the_block_ends_nothing(ground):
    manager = inject(ground.overlays, injection(ground, "offline"))
    with manager:
        assert in_a_child(lambda: manager.__exit__(None, None, None)) == 0
        assert len(Overlays(ground.state).in_force()) == 1
    assert not ground.faults.exists()


def test_a_fault_is_held_while_it_is_needed(ground):
    turns = iter([False, False, True])
    with inject(ground.overlays, injection(ground, "offline")) as fault:
        assert fault.hold(lambda: next(turns), look_s=0.01) == "released"


def test_holding_ends_when_its_time_is_up(ground):
    with inject(ground.overlays, injection(ground, "offline", duration_s=0.5)) as fault:
        began = time.monotonic()
        assert fault.hold(lambda: False) == "expired"
        assert time.monotonic() - began < 30
        assert ground.store().get(PACK) == BYTES
    assert (fault.ended_by, fault.removed) == ("expired", True)


def test_holding_ends_when_somebody_clears_it(ground):
    with inject(ground.overlays, injection(ground, "offline")) as fault:
        Overlays(ground.state).files.remove(fault.records[0].id)
        assert fault.hold(lambda: False) == "cleared"
    assert (fault.ended_by, fault.removed) == ("cleared", True)


@pytest.mark.parametrize("own", [False, True])
def test_the_kill_switch_ends_it_and_prevents_the_next(own, ground, tmp_path):
    switch = tmp_path / "stop" if own else ground.faults / "STOP"
    wanted = injection(ground, "offline", kill_switch=str(switch) if own else "")
    with inject(ground.overlays, wanted) as fault:
        switch.touch()
        assert fault.hold(lambda: False) == "stopped"
        assert Overlays(ground.state).in_force() == ()
    assert fault.removed
    with pytest.raises(Refused, match=r"kill switch .* is on") as raised, inject(ground.overlays, wanted):
        pass
    assert str(switch) in raised.value.hint
    switch.unlink()
    with inject(ground.overlays, wanted):
        pass


def test_a_target_that_is_away_already_proves_nothing(ground):
    ground.place.rename(ground.root / "moved")
    with pytest.raises(Refused, match="no fault is injected at a/main, which does not answer now"):
        inject(ground.overlays, injection(ground, "offline")).__enter__()
    assert not ground.faults.exists()


def test_a_target_that_another_drill_keeps_away_proves_nothing(ground):
    ground.put("offline", run="r0")
    with pytest.raises(Refused, match="run r0"):
        inject(ground.overlays, injection(ground, "slow")).__enter__()
    assert len(list(ground.faults.glob("*.json"))) == 1


def test_an_object_that_is_not_there_cannot_be_corrupted(ground):
    wanted = injection(ground, "corrupt", sufferers=(Sufferer(spec=ground.spec, objects=(PACK, "packs/no/none")),))
    with pytest.raises(Refused, match=r"no fault is injected at a/main: .*packs/no/none"):
        inject(ground.overlays, wanted).__enter__()
    with ground.plain() as store:
        store.put("packs/em/empty", b"")
    wanted = injection(ground, "corrupt", sufferers=(Sufferer(spec=ground.spec, objects=("packs/em/empty",)),))
    with pytest.raises(Refused, match="nothing to corrupt"):
        inject(ground.overlays, wanted).__enter__()


@pytest.mark.parametrize("kind", KINDS)
def test_a_fault_that_is_not_in_force_is_no_fault(kind, ground, monkeypatch):
    monkeypatch.setattr(Overlays, "in_force", lambda _self: ())
    before = stored(ground)
    with pytest.raises(DrtoolError, match=f"the fault {kind} at a/main is not active"):
        inject(ground.overlays, injection(ground, kind)).__enter__()
    assert not ground.faults.exists()
    assert stored(ground) == before


def test_a_target_that_goes_away_meanwhile_is_not_taken_for_the_fault(ground):
    calls = []

    def opener(spec):
        calls.append(spec)
        return FaultyStore(open_store(spec), Faults(offline=len(calls) > 1))

    with pytest.raises(DrtoolError, match="the target failed for another reason: injected fault"):
        inject(ground.overlays, injection(ground, "slow"), opener).__enter__()
    assert not ground.faults.exists()


@pytest.mark.parametrize(
    ("kind", "more"),
    [
        ("offline", {"duration_s": 0.0}),
        ("offline", {"duration_s": 1e9}),
        ("slow", {"latency_s": 0.0}),
        ("corrupt", {"sufferers": ()}),
    ],
)
def test_a_meaningless_fault_is_refused(kind, more, ground):
    if "sufferers" in more:
        more = {"sufferers": (Sufferer(spec=ground.spec),)}
    with pytest.raises(UsageError):
        inject(ground.overlays, injection(ground, kind, **more)).__enter__()
    assert not ground.faults.exists()


def test_a_file_that_cannot_be_removed_is_named(ground, monkeypatch):
    with inject(ground.overlays, injection(ground, "offline")) as fault:

        def refuse(*_args, **_more):
            raise PermissionError(1, "Operation not permitted")

        monkeypatch.setattr(os, "unlink", refuse)
    assert (fault.removed, [path.parent for path in fault.left]) == (False, [ground.faults])


@pytest.mark.parametrize("kind", ["offline", "corrupt"])
@pytest.mark.sampled
def test_killed_at_any_step_it_leaves_nothing_after_the_next_command(kind, ground):
    before = stored(ground)

    def drill():
        with inject(Overlays(ground.state), injection(ground, kind)) as fault:
            assert fault.over() is None
            if kind == "corrupt":
                Overlays(ground.state).opened(ground.spec, open_store).put(OTHER, BYTES[::-1])

    for _step in every_step(drill):
        Overlays(ground.state).sweep()
        assert not ground.faults.exists()
        store = Overlays(ground.state).opened(ground.spec, open_store)
        assert (store.get(PACK), store.get(OTHER)) == (BYTES, BYTES[::-1])
        store.close()
    left = {name: data for name, data in stored(ground).items() if not name.startswith(".tmp-")}
    assert left == before
