"""Backup, restore, verify, repair, rebalance and fault on a real repository: previews without effects, real programs."""

import threading
import time

import pytest
from repository_world import Ground
from three_sites import everything, fill, founded, noise, place, portrait, world

from drtool.errors import DrtoolError
from drtool.plans.actions import restoring
from drtool.plans.language.model import Guards

__all__ = ["founded", "place", "world"]
WHOLE = {"to": {"scratch": True}}


@pytest.fixture
def ground(world):
    return Ground(world)


@pytest.fixture
def stored(ground):
    ground.world.backup(ground.home, source="home")
    return ground


def lose(ground, site, name=None):
    """Remove an object from a site."""
    victim = name or ground.world.names(site)[0]
    (ground.world.directory(site) / victim).unlink()
    return victim


def fullest(ground):
    """Return a site that has both the data's pack and the trees'."""
    return max("abc", key=lambda site: len(ground.world.names(site)))


def rot(ground, site):
    path = ground.world.objects(site)[0]
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.chmod(0o600)
    path.write_bytes(data)
    return str(path.relative_to(ground.world.directory(site)))


def test_a_backup_is_foreseen_and_made(ground):
    seen = ground.preview("backup", {"source": "home"})
    assert seen.verdict == "would change"
    done = ground.act("backup", {"source": "home", "tags": ["drill"]})
    assert done.status == "passed", done
    (row,) = ground.world.snapshots()
    assert done.outputs["snapshot_id"] == row.id.hex()
    assert (done.outputs["files"], done.outputs["bytes"]) == (4, 1_200_000)
    assert row.tags == ("drill",)


@pytest.mark.parametrize(
    ("source", "why"), [("void", "is empty"), ("nothing", "there is no"), ("hom", "home")], ids=str
)
def test_a_backup_that_would_hold_nothing_cannot_run(ground, source, why):
    seen = ground.preview("backup", {"source": source})
    assert seen.verdict == "cannot run"
    assert why in seen.detail


def test_a_backup_with_a_site_away_says_what_it_owes(ground):
    (ground.world.root / "a").rename(ground.world.root / "gone")
    done = ground.act("backup", {"source": "home"})
    assert (done.status, done.outputs["degraded"]) == ("passed", False)
    (ground.world.root / "b").rename(ground.world.root / "gone-too")
    assert "cannot" in ground.preview("backup", {"source": "home"}).verdict


def test_a_restore_pins_its_snapshot_and_compares_what_came_back(stored):
    seen = stored.preview("restore", WHOLE)
    (row,) = stored.world.snapshots()
    assert (seen.verdict, seen.pins["snapshot"]) == ("ok", row.id.hex())
    (stored.home / "later").write_bytes(noise(1000, 9))
    stored.world.backup(stored.home, source="home")
    done = stored.act("restore", WHOLE, pins=seen.pins)
    assert done.status == "passed", done
    assert done.evidence["verified"]
    assert done.outputs["snapshot_id"] == row.id.hex()
    assert done.outputs["file_count"] == 4
    assert not list(stored.scratch_root.rglob("later"))
    assert len(list(stored.scratch_root.rglob("3"))) == 1


def test_a_restore_of_a_source_without_a_snapshot_cannot_run(stored):
    with pytest.raises(Exception, match="source orders has no snapshot; there are snapshots of home"):
        stored.preview("restore", {"snapshot": {"source": "orders"}, **WHOLE})


def test_a_restore_before_the_first_snapshot_cannot_run(stored):
    choice = {"source": "home", "select": "at", "at": "2001-01-01T00:00:00Z"}
    with pytest.raises(Exception, match="no snapshot at or before 2001"):
        stored.preview("restore", {"snapshot": choice, **WHOLE})


def test_a_pack_that_no_permitted_site_has_is_named(stored):
    at = {site: set(stored.world.names(site)) for site in "abc"}
    victim, other = next((name, site) for site in "abc" for name in sorted(set().union(*at.values()) - at[site]))
    holder = next(site for site in "abc" if site != other)
    inputs = {"from_sites": [holder, other], **WHOLE}
    assert stored.preview("restore", inputs).verdict == "ok"
    lose(stored, holder, victim)
    seen = stored.preview("restore", inputs)
    assert (seen.verdict, victim in seen.detail) == ("cannot run", True)
    assert f"are not at {min(holder, other)}, {max(holder, other)}" in seen.detail
    assert stored.preview("restore", WHOLE).verdict == "ok"


def test_a_path_that_is_not_in_the_snapshot_is_named(stored):
    with pytest.raises(Exception, match=r"/no/such is not in snapshot"):
        stored.preview("restore", {"paths": ["/no/such"], **WHOLE})


def test_a_destination_without_room_is_refused_beforehand(stored, monkeypatch):
    from drtool.plans.scratch.space import Room

    small = Room(free_bytes=1_250_000, inodes=None)
    monkeypatch.setattr("drtool.plans.scratch.space.room_at", lambda root: small)
    monkeypatch.setattr("drtool.plans.actions.restoring.room_at", lambda root: small)
    for to in ({"scratch": True}, {"path": str(stored.out)}):
        seen = stored.preview("restore", {"to": to})
        assert seen.verdict == "cannot run"
        assert "a tenth more than 1200000" in seen.detail


def test_an_engine_that_is_not_there_is_named(stored):
    seen = stored.preview("restore", {"to": {"scratch": True, "engine": "postgresql"}})
    assert (seen.verdict, "postgresql" in seen.detail) == ("cannot run", True)


def test_a_destination_that_is_not_empty_needs_overwrite(stored):
    stored.out.mkdir()
    (stored.out / "mine").write_text("x")
    seen = stored.preview("restore", {"to": {"path": str(stored.out)}})
    assert (seen.verdict, "is not empty" in seen.detail) == ("cannot run", True)


def clutter(out):
    """Fill a destination with entries that are not in the snapshot, and one changed file."""
    fill(out, {"extra": b"x", "more/of/it": b"x", "0": b"other"})


def test_the_preview_of_a_deleting_restore_equals_the_command(stored):
    inputs = {"to": {"path": str(stored.out)}, "paths": [str(stored.home)], "delete": True}
    clutter(stored.out)
    other = stored.world.root / "other"
    clutter(other)
    seen = stored.preview("restore", inputs)
    assert (seen.verdict, seen.evidence["deleted"]) == ("would change", 4)
    assert "4 names that are not in the snapshot would be deleted" in seen.detail
    done = stored.act("restore", inputs, pins=seen.pins)
    assert (done.status, done.evidence["deleted"]) == ("passed", 4), done
    stored.world.restore(other, path=stored.home, delete=True)
    assert sorted(portrait(stored.out)) == sorted(portrait(other))
    assert sorted(path.name for path in stored.out.iterdir()) == ["0", "1", "2", "3"]
    assert (stored.out / "0").read_bytes() == noise(300_000, 0)


def test_excluded_files_are_not_deleted(stored):
    clutter(stored.out)
    inputs = {"to": {"path": str(stored.out)}, "paths": [str(stored.home)], "delete": True}
    inputs |= {"exclude": ["more"], "verify": "none"}
    assert stored.preview("restore", inputs).evidence["deleted"] == 1
    done = stored.act("restore", inputs)
    assert (done.status, done.evidence["deleted"]) == ("passed", 1), done
    assert (stored.out / "more/of/it").exists()


def test_an_obstacle_to_a_restore_is_reported_in_advance(stored):
    """The repository is at the destination of the snapshot."""
    inputs = {"to": {"path": str(stored.world.root)}, "paths": [str(stored.home)], "delete": True}
    seen = stored.preview("restore", inputs)
    assert (seen.verdict, "this repository lives there" in seen.detail) == ("cannot run", True), seen


@pytest.mark.parametrize("delete", [False, True])
def test_a_file_goes_back_where_it_was_and_nothing_beside_it_is_touched(stored, delete):
    victim = stored.home / "1"
    victim.write_bytes(b"spoilt")
    (stored.home / "new").write_text("beside it")
    before = everything(stored.home)
    inputs = {"to": {"path": str(victim)}, "paths": [str(victim)], "overwrite": "always", "delete": delete}
    seen = stored.preview("restore", inputs)
    assert (seen.verdict, f"{victim}: snapshot" in seen.detail) == ("would change", True)
    done = stored.act("restore", inputs, pins=seen.pins)
    assert (done.status, done.outputs["path"], done.outputs["file_count"]) == ("passed", str(victim), 1), done
    assert victim.read_bytes() == noise(300_000, 1)
    after = everything(stored.home)
    beside = {name for name in before if name not in (b"", b".", b"1")}
    assert len(beside) == 4
    assert {name: after[name] for name in beside} == {name: before[name] for name in beside}
    victim.unlink()
    assert stored.act("restore", inputs).status == "passed"
    assert victim.read_bytes() == noise(300_000, 1)


def test_a_file_goes_into_a_directory_even_of_its_own_name(stored):
    source = str(stored.home / "1")
    fill(stored.out / "1", {"mine": b"x"})
    inputs = {"to": {"path": str(stored.out / "1")}, "paths": [source], "overwrite": "always", "delete": True}
    done = stored.act("restore", inputs)
    assert (done.status, done.outputs["path"]) == ("passed", str(stored.out / "1/1")), done
    assert sorted(path.name for path in (stored.out / "1").iterdir()) == ["1", "mine"]


def test_the_seed_determines_the_sample(stored):
    inputs = {"level": "sample", "sample": {"count": 3}, "seed": "weekly"}
    one, two = (stored.preview("verify", inputs) for _ in range(2))
    assert one.evidence["sample"] == two.evidence["sample"]
    assert len(one.evidence["sample"]) == 3
    assert 0 < one.evidence["bound_if_clean"] < 1
    others = [stored.preview("verify", {**inputs, "seed": f"other {n}"}).evidence["sample"] for n in range(4)]
    assert any(other != one.evidence["sample"] for other in others)
    done = stored.act("verify", inputs)
    assert (done.status, done.outputs["checked"]) == ("passed", 3), done
    assert done.outputs["upper_bound_bad_fraction"] == pytest.approx(one.evidence["bound_if_clean"])


def test_damage_fails_a_verification_and_tolerance_is_counted(stored):
    victim = rot(stored, "a")
    done = stored.act("verify", {"level": "full"})
    assert (done.status, done.outputs["bad_objects"]) == ("failed", [victim])
    done = stored.act("verify", {"level": "full", "tolerance": {"damaged": 1}})
    assert done.status != "failed"
    assert done.outputs["damaged"] == 1
    done = stored.act("verify", {"level": "full", "objects": [victim], "sites": ["a"], "tolerance": {"damaged": 1}})
    assert (done.outputs["checked"], done.outputs["damaged"]) == (1, 1)


def test_damage_to_the_catalogue_fails_a_sample_and_is_healed_by_name_as_the_weekly_plan_does(stored):
    register = max((stored.world.root / "a/manifest/acc").rglob("v-*"))
    slot = next((stored.world.root / "b/keys").iterdir())
    for path in (register, slot):
        path.write_bytes(path.read_bytes()[:-1])
    done = stored.act("verify", {"level": "sample", "sample": {"count": 3}})
    bad = done.outputs["bad_objects"]
    assert (done.status, len(bad)) == ("failed", 2)
    assert stored.act("repair", {"objects": bad, "max_objects": 200}).status == "passed"
    done = stored.act("verify", {"level": "full", "objects": bad}, pins={"snapshots": []})
    assert (done.status, done.outputs["damaged"]) == ("passed", 0), done.detail
    assert done.outputs["checked"] >= 2


def test_verifying_nothing_proves_nothing(stored):
    assert stored.act("verify", {"level": "full", "objects": []}, pins={"snapshots": []}).status == "unproven"
    pins = stored.preview("verify", {"level": "structure", "sites": ["a"]}).pins
    (stored.world.root / "a").rename(stored.world.root / "gone")
    done = stored.act("verify", {"level": "structure", "sites": ["a"]}, pins=pins)
    assert (done.status, "a/main" in done.detail) == ("unproven", True)


def test_an_object_that_should_not_be_is_no_object_to_verify(stored):
    done = stored.act("verify", {"level": "full", "objects": ["packs/ab/abcd"]}, pins={"snapshots": []})
    assert (done.status, done.cause) == ("failed", "error")
    assert "packs/ab/abcd is not an object of this repository" in done.detail


def test_a_trial_restore_is_a_verification(stored):
    done = stored.act("verify", {"level": "restore", "snapshot": {"source": "home"}})
    assert (done.status, done.outputs["checked"]) == ("passed", 1), done


def test_trial_restores_of_several_sources_tell_of_each_snapshot(stored):
    stored.world.backup(stored.home, source="other")
    done = stored.act("verify", {"level": "restore"})
    assert (done.status, done.outputs["checked"]) == ("passed", 2), done
    assert all(row.id.hex()[:8] in done.detail for row in stored.world.snapshots()), done.detail


def test_a_retired_source_does_not_block_the_trials_of_others(stored):
    stored.world.backup(stored.home, source="retired", time_ns=time.time_ns() - 100 * 86_400 * 10**9)
    seen = stored.preview("verify", {"level": "restore", "snapshot": {"select": "random", "within": "90d"}})
    assert (seen.verdict, len(seen.pins["snapshots"])) == ("ok", 1), seen
    by_name = {"level": "restore", "snapshot": {"source": "retired", "select": "random", "within": "90d"}}
    with pytest.raises(DrtoolError, match="source retired has no snapshot from the last 90d"):
        stored.preview("verify", by_name)


def test_a_repair_is_foreseen_and_goes_no_further_than_allowed(stored):
    assert stored.preview("repair", {}).verdict == "ok"
    site = fullest(stored)
    other = next(each for each in "abc" if each != site)
    names = stored.world.names(site)[:2]
    for name in names:
        lose(stored, site, name)
    seen = stored.preview("repair", {})
    assert seen.verdict == "would change"
    assert seen.evidence["copied"]["copies"] == 2
    assert "2 objects" in stored.preview("repair", {"max_objects": 1}).detail
    refused = stored.act("repair", {"max_objects": 1}, pins={})
    assert (refused.status, refused.cause) == ("failed", "refused"), refused
    assert stored.preview("repair", {"site": other}).verdict == "ok"
    done = stored.act("repair", {"objects": names[:1], "site": site})
    assert (done.outputs["copied"], names[0] in stored.world.names(site)) == (1, True)
    assert names[1] not in stored.world.names(site)


def test_an_object_without_a_good_copy_cannot_be_repaired(stored):
    victim = next(n for n in stored.world.names("a") if n)
    for site in "abc":
        if victim in stored.world.names(site):
            lose(stored, site, victim)
    seen = stored.preview("repair", {})
    assert (seen.verdict, victim in seen.detail) == ("cannot run", True)


def test_a_rebalance_with_nothing_to_move_says_so(stored):
    assert stored.preview("rebalance", {}).verdict == "ok"
    done = stored.act("rebalance", {})
    assert (done.status, done.outputs["copied"]) == ("passed", 0)


def corrupting(site):
    return {"type": "corrupt", "target": {"site": site, "object": "random:2"}, "duration": "60s", "seed": "7"}


def held(ground, inputs, pins, until):
    """Inject in a thread other than the main one. `until` is called once the fault is active."""
    work, came, done = ground.work(), threading.Event(), []
    work.injected = lambda outputs: (done.append(outputs), came.set())
    thread = threading.Thread(target=lambda: done.append(ground.act("fault", inputs, pins=pins, work=work)))
    thread.start()
    assert came.wait(20)
    until(work, done[0])
    thread.join(20)
    return done[-1]


def test_a_fault_corrupts_its_victims_is_found_and_leaves_nothing(stored):
    site = fullest(stored)
    fault = corrupting(site)
    seen = stored.preview("fault", fault)
    victims = seen.pins["victims"][f"{site}/main"]
    assert (seen.verdict, len(victims)) == ("would change", 2)
    found = []

    def look(work, outputs):
        assert outputs["objects"] == sorted(victims)
        found.append(stored.act("verify", {"level": "full", "objects": outputs["objects"], "sites": [site]}))
        found.append(stored.act("restore", WHOLE))
        work.released.set()

    proof = held(stored, fault, seen.pins, look)
    assert (found[0].status, found[0].outputs["bad_objects"]) == ("failed", sorted(victims))
    assert found[1].status == "passed"
    assert (proof.status, proof.evidence["ended_by"], proof.evidence["removed"]) == ("passed", "released", True)
    assert not list((stored.run_context.state_dir / "faults").glob("*.json"))


def test_a_cancelled_fault_is_removed(stored):
    inputs = {"type": "offline", "target": {"site": "a"}, "duration": "60s"}
    pins = stored.preview("fault", inputs).pins
    proof = held(stored, inputs, pins, lambda work, _: work.cancelled.set())
    assert (proof.status, proof.evidence["removed"]) == ("aborted", True)


def test_guards_are_asked_again_right_before_the_injection(stored):
    inputs = {"type": "offline", "target": {"site": "a"}, "duration": "60s"}
    pins = stored.preview("fault", inputs).pins
    (stored.world.root / "b").rename(stored.world.root / "gone")  # after the dry run
    refused = stored.act("fault", inputs, pins=pins)
    assert (refused.status, refused.cause) == ("failed", "refused")
    assert not list(stored.run_context.state_dir.glob("faults/*.json"))


def test_a_plan_that_excludes_every_site_verifies_none(world):
    seen = Ground(world, Guards(never_sites=("a", "b", "c"))).preview("verify", {"level": "structure"})
    assert (seen.verdict, "excludes every site" in seen.detail) == ("cannot run", True)


def test_the_kill_switch_and_forbidden_sites_are_reported_in_advance(world):
    ground = Ground(world, Guards(never_sites=("a",), kill_switch=str(world.root / "STOP")))
    inputs = {"type": "slow", "target": {"site": "a"}, "amount": {"latency": "1s"}, "duration": "60s"}
    assert "site a must never be affected" in ground.preview("fault", inputs).detail
    (world.root / "STOP").touch()
    inputs["target"] = {"site": "b"}
    assert "STOP exists" in ground.preview("fault", inputs).detail


def test_a_step_that_is_not_done_in_time_is_ended(stored):
    began = time.monotonic()
    done = stored.act("verify", {"level": "full"}, pins={"snapshots": []}, work=stored.work(within_s=0.2))
    assert (done.status, done.cause) == ("failed", "timeout")
    assert time.monotonic() - began < 20


@pytest.mark.parametrize("limit", [{"max_objects": 1}, {"max_bytes": "1KiB"}], ids=str)
def test_a_rebalance_of_more_than_is_allowed_touches_nothing(stored, limit):
    site = fullest(stored)
    lost = stored.world.names(site)[:2]
    for name in lost:
        lose(stored, site, name)
    seen = stored.preview("rebalance", limit)
    assert (seen.verdict, "are allowed" in seen.detail) == ("cannot run", True)
    done = stored.act("rebalance", limit, pins={})
    assert (done.status, done.cause) == ("failed", "refused"), done
    assert not set(lost) & set(stored.world.names(site))
    assert stored.preview("rebalance", {}).verdict == "would change"


def test_with_a_site_away_only_what_was_read_is_proven(stored):
    steps = {
        "full": {"level": "full"},
        "structure": {"level": "structure"},
        "sample": {"level": "sample", "sample": {"count": 2}},
        "restore": {"level": "restore", "snapshot": {"source": "home"}},
    }
    names = {site: set(stored.world.names(site)) for site in "abc"}
    away = next(site for site in "abc" if names[site] - set.intersection(*names.values()))  # it has one of two copies
    (stored.world.root / away).rename(stored.world.root / "gone")
    foreseen = {level: stored.preview("verify", inputs).provable for level, inputs in steps.items()}
    assert foreseen == {"full": False, "structure": False, "sample": True, "restore": True}
    found = {level: stored.act("verify", inputs) for level, inputs in steps.items()}
    assert {level: one.status for level, one in found.items()} == {
        "full": "unproven",
        "structure": "unproven",
        "sample": "passed",
        "restore": "passed",
    }
    assert all(f"{away}/main" in one.detail for one in found.values())


@pytest.mark.parametrize(("captured", "status"), [(False, "passed"), (True, "failed")])
def test_an_attribute_that_was_never_captured_fails_no_restore(captured, status):
    row = {"path": "/home/x", "message": "xattr user.a: not permitted", "restored": True, "captured": captured}
    document = {"errors": [row], "files": 3, "bytes": 5, "deleted": 0, "verified": True}
    outcome = restoring._judged(document, 3)
    assert (outcome.status, outcome.outputs["not_captured"]) == (status, 1 - captured)
    assert restoring._judged(document | {"errors": []}, 3).status == "failed"
