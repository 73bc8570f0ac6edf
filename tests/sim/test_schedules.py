"""Directed schedules: histories that dice hardly ever throw, each the end of an argument about what must not happen."""

from dataclasses import replace

import pytest
from sim_options import limits_of
from sim_schedule import PEACE, Stage

from drtool.errors import NoQuorum
from drtool.manifest.ports import Failed, PutIfAbsent, Read


@pytest.fixture
def stage():
    with limits_of(PEACE):
        yield Stage()


def dies_after_its_first_promise(stage, name, elsewhere):
    """A proposer that only one site ever heard of."""
    stage.host(name)
    hold = stage.hold(name, *elsewhere, kind=PutIfAbsent)
    stage.append(name, name)
    stage.until_waiting(hold, 2)
    stage.for_s(0.3)
    stage.clients.pop(name).process.alive = False
    hold.waiting.clear()


def test_a_promise_that_a_wiped_site_has_forgotten_cannot_hurt(stage):
    """A proposer is slow between two promises; meanwhile the site that gave the first loses everything.

    If that site simply began anew, it would let a lower ballot pass, and what is chosen so would be overwritten.
    """
    forgetful, second, third = stage.world.sites
    for name in ("dead", "dead too"):
        dies_after_its_first_promise(stage, name, (second, third))
    stage.host("slow")
    at_second, at_third = (stage.hold("slow", site, kind=PutIfAbsent) for site in (second, third))
    slow = stage.append("slow", "slow")
    stage.until_waiting(at_second)
    stage.for_s(0.3)  # its promise at the first site is confirmed
    stage.world.sites[forgetful].objects.clear()
    stage.judge.faulty.add(forgetful)
    stage.until(stage.append("first", "first"))
    stage.for_s(1.0)
    at_first = stage.hold("slow", forgetful, kind=PutIfAbsent)
    accepting = stage.hold("slow", second, kind=PutIfAbsent, name="v-000000000005")
    at_second.release()
    stage.for_s(1.0)
    stage.world.cut["other", second] = stage.world.now + 1000.0
    stage.until(stage.append("other", "other"))
    for hold in (accepting, at_third, at_first):
        hold.release()
        stage.for_s(20.0)
    assert slow.answer
    assert not stage.conclude()


def test_a_promise_that_a_site_forgot_when_it_was_set_back_cannot_hurt(stage):
    """The same with a site that is restored from a backup: a host that notices must not let it vote as if nothing had been."""
    forgetful, second, third = stage.world.sites
    before = dict(stage.world.sites[forgetful].objects)
    stage.until(stage.append("first", "early"))
    for name in ("dead", "dead too"):
        dies_after_its_first_promise(stage, name, (second, third))
    stage.host("slow")
    at_second, at_third = (stage.hold("slow", site, kind=PutIfAbsent) for site in (second, third))
    slow = stage.append("slow", "slow")
    stage.until_waiting(at_second)
    stage.for_s(0.3)  # its promise at the first site is confirmed
    stage.world.sites[forgetful].objects.clear()
    stage.world.sites[forgetful].objects.update(before)
    stage.judge.faulty.add(forgetful)
    stage.until(stage.append("first", "first"))
    stage.for_s(1.0)
    at_first = stage.hold("slow", forgetful, kind=PutIfAbsent)
    accepting = stage.hold("slow", second, kind=PutIfAbsent, name="v-000000000007")
    at_second.release()
    stage.for_s(1.0)
    stage.world.cut["other", second] = stage.world.now + 1000.0
    stage.until(stage.append("other", "other"))
    for hold in (accepting, at_third, at_first):
        hold.release()
        stage.for_s(20.0)
    assert slow.answer
    assert not stage.conclude()


def test_two_recoveries_that_met_half_way_are_ended_by_a_third():
    """Each administrator sealed one of two survivors, so neither can go on; one site's name is enough to decide."""
    options = replace(PEACE, site_count=5)
    with limits_of(options):
        stage = Stage(options)
        one, other, *rest = stage.world.sites
        stage.until(stage.append("host", "before"))
        stage.lose(*rest)
        stage.hold("anna", other, kind=PutIfAbsent), stage.hold("ben", one, kind=PutIfAbsent)
        both = [stage.recover(name, one, other) for name in ("anna", "ben")]
        stage.for_s(60.0)
        assert both == [[], []]
        for name in ("anna", "ben"):
            stage.clients.pop(name).process.alive = False
        outcome = stage.recover("carla", one)
        stage.for_s(60.0)
        view, error = outcome
        assert error is None
        assert view.config.place == (3, 1)
        assert [row.source for row in view.state.snapshots] == ["before"]
        assert not stage.conclude()


def test_a_survivor_that_does_not_give_its_newest_record_is_asked_again(stage):
    """An older record would be there, and would be taken, with the loss of what was acknowledged and is not lost at all."""
    survivor, *rest = stage.world.sites
    stage.until(stage.append("host", "acknowledged"))
    stage.lose(*rest)
    site = stage.world.sites[survivor]
    newest = max(name for name in site.objects if "/v-" in name)
    answer = site.answer
    site.answer = lambda request, who: (
        Failed("timeout") if isinstance(request, Read) and request.name == newest else answer(request, who)
    )
    first = stage.recover("admin", survivor)
    stage.for_s(60.0)
    assert isinstance(first[1], NoQuorum)
    assert newest in first[1].message
    del site.answer
    second = stage.recover("admin", survivor)
    stage.for_s(60.0)
    assert [row.source for row in second[0].state.snapshots] == ["acknowledged"]
