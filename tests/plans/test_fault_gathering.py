"""The facts that the guards get from a real repository."""

from datetime import UTC, datetime

import pytest
from drill_faults import holder
from three_sites import fill, noise

from drtool.plans.faults.gathering import Standing
from drtool.plans.faults.guards import FaultRequest, Guards, judge

ANY = Guards()
NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)


@pytest.fixture
def stored(world):
    """Two copies of some packs at three sites, and segments at all of them."""
    world.backup(fill(world.root / "source", {f"{i}": noise(3_000_000, i) for i in range(3)}))
    return world


def ask(world, kind, target, *objects, guards=ANY, run="r1"):
    """Return the ruling on one victim, and the facts behind it."""
    with world.open() as repository:
        standing = Standing(repository)
        facts = standing.facts(NOW)
        victim = standing.victim(target, objects)
    (ruling,) = judge(FaultRequest(run=run, kind=kind, victims=(victim,), duration_s=60), facts, guards)
    return ruling, facts


def test_a_repository_that_is_well_can_do_without_one_site(stored):
    ruling, facts = ask(stored, "offline", "a/main")
    assert ruling.allowed
    assert (facts.sites, facts.quorum, facts.active) == ({"a", "b", "c"}, 2, ())
    assert [(voter.site, voter.target, voter.reachable) for voter in facts.voters] == [
        (site, f"{site}/main", True) for site in "abc"
    ]
    names = {name for site in "abc" for kind in ("packs", "index") for name in stored.names(site, kind)}
    assert sum(group.objects for group in facts.groups) == len(names)
    assert all(len(group.copies) >= 2 for group in facts.groups)


def test_the_faults_of_another_drill_count(stored):
    with holder(stored.root / stored.state, "b/main", stored.directory("b"), "offline"):
        ruling, facts = ask(stored, "offline", "a/main")
        assert [(active.run, active.kind, active.victim.target) for active in facts.active] == [
            ("killed", "offline", "b/main")
        ]
        assert {voter.site for voter in facts.voters if voter.reachable} == {"a", "c"}
    assert ruling.guard in {
        "min_healthy_copies",
        "quorum",
    }  # it depends on chance whether b had the other copy of an object
    assert ask(stored, "offline", "a/main")[0].allowed


def test_a_pack_whose_other_copy_is_gone_or_rotten_is_not_corrupted(stored):
    held = {site: stored.names(site) for site in "abc"}
    places = {name: [site for site in "abc" if name in held[site]] for names in held.values() for name in names}
    pack, (victim, other) = next((name, sites) for name, sites in places.items() if len(sites) == 2)
    assert ask(stored, "corrupt", f"{victim}/main", pack)[0].allowed
    path = stored.directory(other) / pack
    whole = path.read_bytes()
    path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    assert stored.verify().damaged
    ruling, _ = ask(stored, "corrupt", f"{victim}/main", pack)
    assert (ruling.guard, f"object {pack} would have 0 good copies" in ruling.reason) == ("min_healthy_copies", True)
    path.write_bytes(whole)
    assert stored.verify().damaged == []
    assert ask(stored, "corrupt", f"{victim}/main", pack)[0].allowed
    path.write_bytes(whole[:-1])
    assert not ask(stored, "corrupt", f"{victim}/main", pack)[0].allowed


def test_an_object_outside_the_index_has_no_known_copies(stored):
    ruling, _ = ask(stored, "corrupt", "a/main", "drtool.json")
    assert ruling.guard == "min_healthy_copies"


def test_sizes_are_counted(stored):
    packs = stored.names("a")[:2]
    size_bytes = sum((stored.directory("a") / name).stat().st_size for name in packs)
    assert ask(stored, "corrupt", "a/main", *packs, guards=Guards(max_bytes=size_bytes))[0].allowed
    refused, _ = ask(stored, "corrupt", "a/main", *packs, guards=Guards(max_bytes=size_bytes - 1))
    assert (refused.guard, str(size_bytes) in refused.reason) == ("max_bytes", True)
