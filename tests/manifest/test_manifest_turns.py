"""The order of proposers that yield to each other, with no clock but the one in the test."""

import pytest

from drtool.manifest import turns
from drtool.manifest.acceptor import SiteView
from drtool.manifest.ports import Draw, Now, Sleep
from drtool.manifest.proposer import Survey
from drtool.manifest.turns import Turns
from drtool.paxos import Ballot, Chain, Record

ME, OTHER = b"m" * 16, b"o" * 16
TRIP_S = 0.05


class Host:
    """The turns of one commit at a time set by the test. A draw gives `share`."""

    def __init__(self, share: float = 0.0, *, met_others: bool = False) -> None:
        self.now_s, self.share = 100.0, share
        self.turns = Turns(ME, self.now_s, 30.0, met_others=met_others)

    def answer(self, talk):
        reply = None
        while True:
            try:
                request = talk.send(reply)
            except StopIteration as end:
                return end.value
            match request:
                case Now():
                    reply = self.now_s
                case Draw(count):
                    reply = int(self.share * 256**count).to_bytes(count, "big")
                case Sleep(seconds):
                    self.slept_s, reply = seconds, None

    def sees(self, *promised: Ballot, accepted: Ballot = Ballot(5, OTHER), after_trips: float = 2) -> None:  # noqa: B008
        self.now_s += after_trips * TRIP_S
        views = {f"site{i}": view(ballot, accepted) for i, ballot in enumerate(promised)}
        self.answer(self.turns.look(Survey(views, {}, {}), self.now_s - 2 * TRIP_S))


def view(promised: Ballot, accepted: Ballot) -> SiteView:
    chain = Chain("site", bytes(16), bytes(16), 1, 1)
    return SiteView(Record(7, bytes(32), chain, promised, accepted, b"", bytes(16)), bytes(32))


IDLE = [Ballot(5, OTHER)] * 3
BUSY = [Ballot(6, OTHER), Ballot(5, OTHER), Ballot(5, OTHER)]


def test_a_host_without_competitors_does_not_wait():
    host = Host()
    host.sees(*IDLE)
    assert not host.turns.waits(None)
    assert not host.turns.met_others


def test_a_hosts_own_promise_is_no_competitor():
    host = Host()
    host.sees(*[Ballot(6, ME)] * 3)
    assert not host.turns.busy
    assert not host.turns.waits(None)


def test_a_promise_under_way_is_waited_for_until_nothing_has_changed_for_long():
    host = Host(share=0.5)
    host.sees(*BUSY)
    assert host.turns.busy
    assert host.turns.waits(None)
    host.sees(*BUSY, after_trips=turns.BUSY_TRIPS * 1.5 - 1)
    assert host.turns.waits(None)
    host.sees(Ballot(6, OTHER), Ballot(6, OTHER), Ballot(5, OTHER))  # nothing new: the same ballot, at one more site
    assert not host.turns.waits(None)
    host.sees(*[Ballot(7, OTHER)] * 3)  # somebody else has begun: from the start
    assert host.turns.waits(None)


def test_the_first_in_the_inbox_goes_at_once_and_the_others_one_by_one():
    hosts = [Host(met_others=True) for _ in range(4)]
    for ahead, host in enumerate(hosts):
        host.sees(*IDLE)
        assert host.turns.waits(ahead) is (ahead > 0)
        host.sees(*IDLE, after_trips=turns.AHEAD_TRIPS * 1.5)
        assert host.turns.waits(ahead) is (ahead > 1)


def test_nobody_waits_longer_for_a_queue_than_for_one_that_is_gone():
    host = Host(share=0.999, met_others=True)
    host.sees(*IDLE)
    assert host.turns.waits(10**6)
    host.sees(*IDLE, after_trips=turns.AHEAD_LIMIT_TRIPS * 1.5)
    assert not host.turns.waits(10**6)


def test_who_holds_up_the_others_tries_again_before_them():
    split = [Ballot(6, ME), Ballot(6, OTHER), Ballot(6, b"x" * 16)]
    holder, other = Host(share=0.5), Host(share=0.5)
    other.turns = Turns(b"z" * 16, other.now_s, 30.0, met_others=True)
    for host in (holder, other):
        host.sees(*split)
        assert host.turns.waits(None)
        host.sees(*split, after_trips=turns.SPLIT_TRIPS * 0.5)
    assert not holder.turns.waits(None)
    assert other.turns.waits(None)


def test_a_promise_of_ones_own_is_no_reason_to_break_in_on_who_has_most_sites():
    host = Host(share=0.5)
    most = [Ballot(6, ME), Ballot(6, OTHER), Ballot(6, OTHER)]
    host.sees(*most)
    host.sees(*most, after_trips=turns.SPLIT_TRIPS)
    assert host.turns.waits(None)


def test_what_is_left_of_ones_own_promise_is_taken_up_soon_though_many_are_before_us():
    host = Host(share=0.5, met_others=True)
    host.sees(Ballot(6, ME), Ballot(5, OTHER), Ballot(5, OTHER))
    assert host.turns.waits(50)
    host.sees(Ballot(6, ME), Ballot(5, OTHER), Ballot(5, OTHER), after_trips=turns.SPLIT_TRIPS * 0.5)
    assert not host.turns.waits(50)


def test_who_is_passed_by_too_often_insists_once_and_waits_again():
    host = Host()
    for number in range(5, 5 + turns.PASSED_ROUNDS + 1):
        host.sees(Ballot(number + 1, OTHER), accepted=Ballot(number, OTHER))
        assert host.turns.waits(1)
    number += 1
    host.sees(Ballot(number + 1, OTHER), accepted=Ballot(number, OTHER))
    assert host.turns.insists
    assert not host.turns.waits(1)
    host.sees(Ballot(number + 2, OTHER), accepted=Ballot(number + 1, OTHER))
    assert host.turns.waits(1)


@pytest.mark.parametrize(("trip_s", "least_s"), [(0.0, turns.TRIP_MIN_S), (10.0, turns.TRIP_MAX_S)])
def test_pauses_follow_the_distance_within_bounds(trip_s, least_s):
    host = Host(met_others=True)
    host.now_s += 2 * trip_s
    host.answer(host.turns.look(Survey({"site0": view(*BUSY[:2])}, {}, {}), host.now_s - 2 * trip_s))
    host.turns.waits(1)
    assert host.answer(host.turns.pause()) is True
    assert host.slept_s == pytest.approx(turns.POLL_TRIPS * least_s)


def test_failures_without_others_back_off_further_and_further():
    host, slept = Host(share=0.999), []
    host.sees(*IDLE)
    for _ in range(10):
        host.turns.failed(met_others=False)
        host.answer(host.turns.pause())
        slept.append(host.slept_s)
    assert slept[0] < 0.5
    assert slept == sorted(slept)
    assert slept[-1] == pytest.approx(turns.BACK_OFF_LIMIT_S, rel=0.01)


def test_patience_comes_to_an_end():
    host = Host()
    host.now_s += 29.9
    assert host.answer(host.turns.pause()) is True
    host.now_s += 0.2
    assert host.answer(host.turns.pause()) is False
