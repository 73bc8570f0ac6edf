"""Many concurrent hosts at a distance of 50 ms, in virtual time: the promised rates, on shorter runs than the benchmark."""

import pytest

from benchmarks.contention import Crowd, continuous, tick
from drtool.manifest.head import RECENT_LIMIT

TRIP_S = 0.05


def percentile(values, percent):
    return sorted(values)[len(values) * percent // 100]


@pytest.mark.parametrize("mode", ["chain", "cas"])
def test_thirty_two_proposers_wait_seconds_and_waste_few_rounds(mode):
    crowd = Crowd(1, mode, TRIP_S)
    continuous(crowd, 32, seconds=10.0)
    tally, rounds = crowd.tally, crowd.world.phases["prepare"]
    commits = len(tally.latencies_s)
    assert tally.gave_up == 0
    assert percentile(tally.latencies_s, 99) <= 4.0
    assert (rounds - len(tally.heads)) / commits <= 0.3
    assert commits / 10 > 4 / (6 * TRIP_S)  # a round for each commit could not do a quarter of it


def test_a_hundred_hosts_at_one_tick_are_done_in_ten_seconds():
    crowd = Crowd(2, "chain", TRIP_S)
    tick(crowd, 100)
    assert len(crowd.tally.latencies_s) == 300
    assert max(crowd.tally.ended_s) - crowd.began_s <= 10.0
    assert crowd.tally.gave_up == 0


def test_a_single_host_does_not_pay_for_contention():
    """One host alone: six round trips a commit, one round each, nothing asked of the inbox but when a fold tidies it."""
    crowd = Crowd(3, "cas", TRIP_S)
    continuous(crowd, 1, seconds=5.0)
    commits = len(crowd.tally.latencies_s)
    assert commits < RECENT_LIMIT
    assert crowd.world.phases["prepare"] == commits
    assert percentile(crowd.tally.latencies_s, 50) <= 6.5 * TRIP_S
    assert crowd.world.requests["Put"] == 0
