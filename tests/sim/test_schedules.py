"""Directed schedules: histories that dice hardly ever throw, each the end of an argument about what must not happen."""

import pytest
from sim_options import limits_of
from sim_schedule import PEACE, Stage

from drtool.manifest.ports import PutIfAbsent


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
