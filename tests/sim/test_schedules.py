"""Directed schedules: histories that dice hardly ever throw, each the end of an argument about what must not happen."""

from dataclasses import replace

import pytest
from sim_options import limits_of
from sim_plots import PLOTS, without_two_values
from sim_schedule import PEACE, Stage

from drtool.errors import NoQuorum
from drtool.manifest.ports import Failed, PutIfAbsent, Read


@pytest.fixture
def stage():
    with limits_of(PEACE):
        yield Stage()


@pytest.mark.parametrize("name", sorted(PLOTS))
@pytest.mark.spread(7)
def test_a_directed_schedule_violates_nothing(name):
    assert not PLOTS[name]()


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


def test_a_ballot_with_two_values_is_not_read_while_a_silent_site_may_have_made_either_the_chosen_one(stage):
    """One life got its value accepted at two sites, and died; the other life at the third, and died. The first site is away."""
    first_site, _, third = stage.world.sites
    one, _ = stage.frozen("vm", "one", "two")
    late = stage.hold("vm'", kind=PutIfAbsent)
    lost = stage.hold("vm", third, kind=PutIfAbsent)
    stage.until(one)
    lost.forget()
    late.release()  # what lands at once: the value at the third site
    stage.clients.pop("vm'").process.alive = False
    stage.world.cut["reader", first_site] = stage.world.now + 60.0
    early = stage.read("reader")
    stage.for_s(60.0)
    assert early.answer is None
    late = stage.read("reader")
    stage.until(late)
    assert late.answer[0] == ("one",)
    assert not without_two_values(stage.conclude())
