"""Guards: each refuses by name, victim and number. All allowed faults together keep the guards' promises."""

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from drtool.model import SiteName, TargetName, site_of
from drtool.plans.faults.guards import (
    MUTES,
    Active,
    CopyGroup,
    Facts,
    FaultRequest,
    Guards,
    ObjectFacts,
    Victim,
    Voter,
    judge,
    refusals,
)
from drtool.plans.faults.windows import parse_window

SITES = ("paris", "oslo", "rome")
NOON = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)  # a Tuesday


def target(site, name="main"):
    return TargetName(f"{site}/{name}")


def targets(*sites):
    return frozenset(map(target, sites))


def pack(name, *sites, size_bytes=100):
    return ObjectFacts(name=f"packs/{name}", size_bytes=size_bytes, copies=targets(*sites))


def facts(**more):
    voters = tuple(Voter(site=SiteName(site), target=target(site), reachable=True) for site in SITES)
    groups = (
        CopyGroup(copies=targets("paris", "oslo"), objects=7),
        CopyGroup(copies=targets("oslo", "rome"), objects=3),
    )
    values = {"now": NOON, "sites": frozenset(map(SiteName, SITES)), "voters": voters, "quorum": 2, "groups": groups}
    return Facts(**{**values, **more})


def step_context(kind, *victims, run="r1", duration_s=60.0):
    rows = tuple(each if isinstance(each, Victim) else Victim(target=target(each)) for each in victims)
    return FaultRequest(run=run, kind=kind, victims=rows, duration_s=duration_s)


def rotten(site, *objects):
    return Victim(target=target(site), objects=objects)


def active(kind, site, *objects, run="other"):
    return Active(run=run, kind=kind, victim=rotten(site, *objects))


def test_one_site_may_go_away():
    (ruling,) = judge(step_context("offline", "paris"), facts(), Guards())
    assert (ruling.allowed, ruling.guard, ruling.reason, ruling.target) == (True, "", "", "paris/main")


REFUSED = {
    "kill_switch": (
        step_context("slow", "paris"),
        facts(kill_switch="state/faults/STOP"),
        Guards(),
        "state/faults/STOP exists",
    ),
    "victim": (
        step_context("slow", "lima"),
        facts(),
        Guards(),
        "there is no site lima; the sites are oslo, paris, rome",
    ),
    "only_sites": (
        step_context("slow", "paris"),
        facts(),
        Guards(only_sites=frozenset({"oslo"})),
        "only oslo may be affected",
    ),
    "never_sites": (
        step_context("slow", "paris"),
        facts(),
        Guards(never_sites=frozenset({"paris"})),
        "site paris must never be affected",
    ),
    "max_sites_affected": (
        step_context("slow", "paris"),
        facts(active=(active("slow", "rome"),)),
        Guards(max_sites_affected=1),
        "with rome it affects 2 sites, more than the limit of 1",
    ),
    "max_duration": (
        step_context("slow", "paris", duration_s=5401),
        facts(),
        Guards(max_duration_s=5400),
        "it would last 5401 s, more than the limit of 5400 s",
    ),
    "windows": (
        step_context("slow", "paris"),
        facts(),
        Guards(windows=(parse_window("Wed 09:00-15:00 Europe/Berlin", ZoneInfo),)),
        "Tue 12:00 UTC is outside the windows Wed 09:00-15:00 Europe/Berlin",
    ),
    "max_objects": (
        step_context("corrupt", rotten("paris", pack("1", "paris", "oslo"), pack("2", "paris", "oslo"))),
        facts(),
        Guards(max_objects=1),
        "this run would corrupt 2 objects, more than the limit of 1",
    ),
    "max_bytes": (
        step_context("corrupt", rotten("paris", pack("1", "paris", "oslo", size_bytes=11))),
        facts(),
        Guards(max_bytes=10),
        "would corrupt objects of 11 bytes, more than the limit of 10",
    ),
    "min_healthy_copies": (
        step_context("corrupt", rotten("paris", pack("1", "paris"))),
        facts(),
        Guards(),
        "object packs/1 would have 0 good copies on other sites instead of 1",
    ),
    "quorum": (
        step_context("read-only", "paris"),
        facts(active=(active("full", "rome"),)),
        Guards(),
        "it holds one of 3 votes; 1 would be left, but the manifest needs 2",
    ),
}


@pytest.mark.parametrize("guard", REFUSED)
def test_a_refusal_names_the_guard_the_victim_and_the_number(guard):
    request, how_it_is, guards, words = REFUSED[guard]
    (ruling,) = judge(request, how_it_is, guards)
    assert (ruling.allowed, ruling.guard) == (False, guard)
    assert ruling.reason.startswith(f"guard {guard} refuses {request.kind} at {request.victims[0].target}: ")
    assert words in ruling.reason
    assert refusals([ruling]) == (ruling.reason,)


def test_nothing_is_corrupted_that_is_not_named():
    (ruling,) = judge(step_context("corrupt", "paris"), facts(), Guards())
    assert (ruling.guard, "names no objects" in ruling.reason) == ("victim", True)


@pytest.mark.parametrize("duration_s", [0.0, -1.0, float("nan")])
def test_a_fault_lasts_some_time(duration_s):
    assert judge(step_context("slow", "paris", duration_s=duration_s), facts(), Guards())[0].guard == "max_duration"


def test_an_allowed_victim_counts_for_the_next():
    rulings = judge(step_context("slow", "paris", "oslo", "rome"), facts(), Guards(max_sites_affected=2))
    assert [ruling.allowed for ruling in rulings] == [True, True, False]
    rulings = judge(step_context("offline", "paris", "rome"), facts(), Guards())
    assert [(ruling.allowed, ruling.guard) for ruling in rulings] == [(True, ""), (False, "quorum")]


def test_a_refused_victim_does_not_count():
    guards = Guards(max_sites_affected=1, never_sites=frozenset({SiteName("paris")}))
    assert [ruling.allowed for ruling in judge(step_context("slow", "paris", "oslo"), facts(), guards)] == [False, True]


def test_two_targets_of_one_site_are_one_site():
    victims = (Victim(target=target("paris")), Victim(target=target("paris", "disk")))
    rulings = judge(step_context("slow", *victims), facts(), Guards(max_sites_affected=1))
    assert all(ruling.allowed for ruling in rulings)


def test_a_copy_that_another_fault_took_is_no_good_copy():
    one = pack("1", "paris", "oslo")
    request = step_context("corrupt", rotten("paris", one))
    assert judge(request, facts(), Guards())[0].allowed
    assert judge(request, facts(active=(active("offline", "oslo"),)), Guards())[0].guard == "min_healthy_copies"
    assert judge(request, facts(active=(active("corrupt", "oslo", one),)), Guards())[0].guard == "min_healthy_copies"
    assert judge(request, facts(active=(active("slow", "oslo"),)), Guards())[0].allowed
    other = pack("2", "oslo", "rome")
    assert judge(request, facts(active=(active("corrupt", "oslo", other),)), Guards())[0].allowed


def test_a_second_copy_on_the_same_site_is_no_copy_elsewhere():
    one = ObjectFacts(name="packs/1", size_bytes=1, copies=frozenset({target("paris"), target("paris", "disk")}))
    assert judge(step_context("corrupt", rotten("paris", one)), facts(), Guards())[0].guard == "min_healthy_copies"
    assert judge(step_context("corrupt", rotten("paris", one)), facts(), Guards(min_healthy_copies=0))[0].allowed


def test_a_site_does_not_go_away_with_the_last_good_copy():
    groups = (CopyGroup(copies=targets("paris"), objects=4),)
    (ruling,) = judge(step_context("offline", "paris"), facts(groups=groups), Guards())
    assert (ruling.guard, "4 objects would have 0 good copies" in ruling.reason) == ("min_healthy_copies", True)
    assert judge(step_context("offline", "oslo"), facts(groups=groups), Guards())[0].allowed
    rot = active("corrupt", "oslo", pack("1", "paris", "oslo"))
    (ruling,) = judge(step_context("offline", "paris"), facts(active=(rot,)), Guards())
    assert "object packs/1 would have 0 good copies" in ruling.reason


def test_a_voter_that_is_away_already_is_no_vote_left():
    away = tuple(replace(voter, reachable=voter.site != "rome") for voter in facts().voters)
    assert judge(step_context("offline", "paris"), facts(voters=away), Guards())[0].guard == "quorum"
    assert judge(step_context("offline", "paris"), facts(voters=away), Guards(quorum_may_be_lost=True))[0].allowed
    assert judge(step_context("slow", "paris"), facts(voters=away), Guards())[0].allowed


def test_a_target_without_the_register_takes_no_vote_away():
    away = tuple(replace(voter, reachable=voter.site != "rome") for voter in facts().voters)
    victim = Victim(target=target("paris", "disk"))
    assert judge(step_context("full", victim), facts(voters=away), Guards())[0].allowed


def test_a_corrupted_register_is_a_vote_less():
    away = tuple(replace(voter, reachable=voter.site != "rome") for voter in facts().voters)
    record = ObjectFacts(name="manifest/acc/paris/1", size_bytes=9, copies=targets("paris", "oslo"))
    assert judge(step_context("corrupt", rotten("paris", record)), facts(voters=away), Guards())[0].guard == "quorum"


def test_objects_are_counted_over_the_faults_of_one_run():
    before = active("corrupt", "paris", pack("1", "paris", "oslo"), run="r1")
    request = step_context("corrupt", rotten("paris", pack("2", "paris", "oslo")))
    assert judge(request, facts(active=(before,)), Guards(max_objects=1))[0].guard == "max_objects"
    assert judge(request, facts(active=(replace(before, run="r0"),)), Guards(max_objects=1))[0].allowed


@pytest.mark.parametrize(("duration_s", "allowed"), [(7200.0, True), (7201.0, False)])
def test_a_fault_ends_in_the_window_in_which_it_begins(duration_s, allowed):
    guards = Guards(windows=(parse_window("Tue-Thu 09:00-15:00 Europe/Berlin", ZoneInfo),))
    (ruling,) = judge(step_context("slow", "paris", duration_s=duration_s), facts(), guards)
    assert (ruling.allowed, ruling.guard) == (allowed, "" if allowed else "windows")


sites = st.sampled_from(SITES)
kinds = st.sampled_from(["offline", "slow", "read-only", "full", "corrupt"])
packs = st.builds(lambda n, where: pack(str(n), *where), st.integers(0, 3), st.sets(sites, min_size=1))
victims = st.builds(lambda site, objects: rotten(site, *objects), sites, st.lists(packs, max_size=3))


@given(
    kind=kinds,
    wanted=st.lists(victims, max_size=4),
    before=st.lists(st.builds(lambda k, v: Active(run="other", kind=k, victim=v), kinds, victims), max_size=2),
    guards=st.builds(
        Guards,
        only_sites=st.none() | st.frozensets(sites),
        never_sites=st.frozensets(sites, max_size=1),
        max_sites_affected=st.none() | st.integers(0, 3),
        min_healthy_copies=st.integers(0, 2),
        max_objects=st.none() | st.integers(0, 4),
        max_bytes=st.none() | st.integers(0, 500),
    ),
    up=st.sets(sites),
)
def test_all_allowed_faults_together_keep_the_promises_of_the_guards(kind, wanted, before, guards, up):
    # the same object has the same copies everywhere
    copies = {}
    rows = [each for v in [*wanted, *(a.victim for a in before)] for each in v.objects]
    for each in rows:
        copies[each.name] = copies.get(each.name, frozenset()) | each.copies
    whole = {name: ObjectFacts(name=name, size_bytes=100, copies=where) for name, where in copies.items()}

    def same(victim, its_kind):
        objects = tuple({each.name: whole[each.name] for each in victim.objects}.values())
        return replace(victim, objects=objects if its_kind == "corrupt" else ())

    before = tuple(replace(a, victim=same(a.victim, a.kind)) for a in before)
    request = replace(step_context(kind), victims=tuple(same(victim, kind) for victim in wanted))
    voters = tuple(Voter(site=SiteName(s), target=target(s), reachable=s in up) for s in SITES)
    groups = tuple(CopyGroup(copies=each.copies, objects=1) for each in whole.values())
    how_it_is = facts(active=before, voters=voters, groups=groups)
    rulings = judge(request, how_it_is, guards)
    assert len(rulings) == len(request.victims)
    assert judge(request, how_it_is, guards) == rulings
    suffering = [victim for victim, ruling in zip(request.victims, rulings, strict=True) if ruling.allowed]
    if not suffering:
        return
    in_force = [*before, *(Active(run="r1", kind=kind, victim=victim) for victim in suffering)]
    affected = {site_of(a.victim.target) for a in in_force}
    assert {site_of(v.target) for v in suffering} <= (
        guards.only_sites if guards.only_sites is not None else set(SITES)
    )
    assert not {site_of(v.target) for v in suffering} & guards.never_sites
    assert guards.max_sites_affected is None or len(affected) <= guards.max_sites_affected
    own = [each for v in suffering for each in v.objects]
    assert guards.max_objects is None or len(own) <= guards.max_objects
    assert guards.max_bytes is None or sum(each.size_bytes for each in own) <= guards.max_bytes
    muted = {site_of(a.victim.target) for a in in_force if a.kind in MUTES}
    if any(kind in MUTES for _ in suffering):
        assert len(up - muted) >= how_it_is.quorum
    away = {a.victim.target for a in in_force if a.kind == "offline"}
    for each in own:
        rot = {a.victim.target for a in in_force if any(o.name == each.name for o in a.victim.objects)}
        hit = {site_of(v.target) for v in suffering if each in v.objects}
        left = {site_of(t) for t in each.copies - away - rot}
        assert len(left - hit) >= guards.min_healthy_copies
