"""When a person should look first: new snapshots that push others out by their dates or their number."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from retention_tables import NOW, Snap, rules_of, time_ns

from drtool.operations.retention import Calendar, Group, alarms, judge
from drtool.operations.retention.alarm import HOUR_NS


def utc():
    from zoneinfo import ZoneInfo

    return Calendar(ZoneInfo("UTC"))


def group(*times):
    """Snapshots in the order in which the manifest recorded them."""
    rows = [Snap(n.to_bytes(16), time_ns(when) if isinstance(when, str) else when, n) for n, when in enumerate(times)]
    return Group("host here, source home", tuple(sorted(rows, key=lambda row: (row.time_ns, row.sequence))))


def days(month, *numbers, at="20:00"):
    return [f"2026-{month:02}-{number:02} {at}" for number in numbers]


def kinds(snapshots, words, known, now=NOW):
    return {alarm.kind: alarm for alarm in alarms(snapshots, rules_of(words), utc(), time_ns(now), known)}


def test_back_dated_ones_that_displace_the_newest_of_each_day():
    """Garbage that is dated one minute before each midnight: the attack that append-only storage does not stop."""
    real = days(3, *range(1, 11))
    garbage = days(3, *range(3, 10), at="23:59")
    found = kinds(group(*real, *garbage), "daily 7", known=9)
    assert list(found) == ["back-dated"]
    assert [int.from_bytes(id_) for id_ in found["back-dated"].added] == [
        *range(10, 16)
    ]  # of the day before: that can be
    assert [int.from_bytes(id_) for id_ in found["back-dated"].pushed] == [10, 3, 4, 5, 6, 7]
    assert "6 snapshots added since the last run are dated long before snapshots" in found["back-dated"].message
    assert "6 snapshots to be removed" in found["back-dated"].message


def test_a_clock_that_fell_back_makes_fresh_backups_look_like_the_oldest():
    snapshots = group(*days(3, 1, 2, 3), "1970-01-01 00:10", "1970-01-01 01:10")
    found = kinds(snapshots, "last 3", known=2)
    assert [int.from_bytes(id_) for id_ in found["back-dated"].pushed] == [3, 4]


def test_old_snapshots_that_are_imported_and_harm_nothing_give_no_alarm():
    snapshots = group(*days(3, 1, 2, 3, 4), "2020-01-01 00:10", "2021-01-01 01:10")
    assert kinds(snapshots, "last 4, yearly 9", known=3) == {}


def test_a_day_late_is_no_alarm():
    """Long backups, and clocks in another time zone."""
    assert kinds(group(*days(3, 1, 2, 3), "2026-03-02 20:00"), "last 3", known=2) == {}
    assert "back-dated" in kinds(group(*days(3, 1, 2, 3), "2026-03-02 19:59"), "last 3", known=2)


def test_an_hour_late_is_an_alarm_if_it_costs_a_third():
    """Hourly snapshots are displaced by garbage of the same day."""
    real = [f"2026-03-06 {hour:02}:30" for hour in range(12)]
    garbage = [f"2026-03-06 {hour:02}:59" for hour in range(10)]
    assert kinds(group(*real, *garbage[7:]), "hourly 9", known=11) == {}  # three of nine are a third, not more
    found = kinds(group(*real, *garbage[6:]), "hourly 9", known=11)
    assert [int.from_bytes(id_) for id_ in found["back-dated"].pushed] == [6, 7, 8, 9]


def test_future_snapshots_make_nothing_back_dated():
    snapshots = group(*days(3, 1, 2, 3), "2027-01-01 00:00", *days(3, 4, 5))
    assert kinds(snapshots, "last 2", known=2, now="2026-03-06 00:00") == {}
    assert "back-dated" in kinds(snapshots, "last 2", known=2, now="2027-03-06 00:00")


def test_a_flood_that_ends_the_history():
    burst = [f"2026-03-10 20:{minute:02}" for minute in range(10, 17)]
    found = kinds(group(*days(3, *range(4, 11)), *burst), "last 7", known=6)
    assert list(found) == ["flood"]
    assert len(found["flood"].pushed) == 7
    assert (
        "would push out 7 of 7 that would stay: 0 hours of new snapshots would end a history of 6 days"
        in found["flood"].message
    )


@pytest.mark.parametrize(
    ("burst", "words", "alarm"),
    [
        (2, "last 6", False),  # 2 of 6
        (3, "last 9", False),  # a third, not more
        (3, "last 8", True),
        (2, "last 3", False),  # fewer than three
        (9, "last 3, daily 30", False),  # daily keeps the ones that last loses
        (9, "within 30d", False),
        (30, "tag x, last 30", True),
    ],
)
def test_more_than_a_third_and_at_least_three(burst, words, alarm):
    history = days(2, *range(1, 28))
    snapshots = group(*history, *(f"2026-02-27 21:{minute:02}" for minute in range(burst)))
    assert ("flood" in kinds(snapshots, words, known=26)) == alarm


def test_a_third_of_the_time_is_enough():
    """The same number, at about the group's own rhythm, is the meaning of keeping the last."""
    history = days(3, 1, 2, 3, 4, 5, 6)  # a history of five days
    for hours, alarm in ((39, True), (40, False)):
        last = time_ns("2026-03-06 20:00")
        added = [last + hours * HOUR_NS * step // 6 for step in range(1, 7)]
        snapshots = group(*map(time_ns, history), *added)
        assert ("flood" in kinds(snapshots, "last 6", known=5)) == alarm


def test_a_history_of_a_day_is_no_history():
    snapshots = group(
        *(f"2026-03-06 {hour:02}:00" for hour in range(24)), *(f"2026-03-06 23:{m:02}" for m in range(24))
    )
    assert kinds(snapshots, "last 24", known=23) == {}


def test_the_first_time_nothing_is_new():
    snapshots = group(*days(3, *range(1, 30)), "2026-03-01 23:59")
    assert kinds(snapshots, "last 1", known=None) == {}


def test_a_stricter_policy_is_no_alarm():
    assert kinds(group(*days(3, *range(1, 30))), "last 1", known=27) == {}


@given(
    st.integers(1, 20), st.integers(1, 12), st.integers(1, 12), st.integers(0, 60), st.sampled_from(["daily", "weekly"])
)
def test_backups_at_a_steady_rhythm_never_give_an_alarm(every_hours, last, number, backups, period):
    """Whenever forget runs: after each one, or after many."""
    times = [time_ns("2026-01-01 00:00") + step * every_hours * HOUR_NS for step in range(backups)]
    rules = rules_of(f"last {last}, {period} {number}")
    snapshots, known = [], None
    for number_, when in enumerate(times):
        snapshots.append(Snap(number_.to_bytes(16), when, number_))
        if number_ % 5 == 4:
            now = Group("g", tuple(snapshots))
            assert alarms(now, rules, utc(), time_ns(NOW), known) == []
            snapshots = [row.snapshot for row in judge(snapshots, rules, utc(), time_ns(NOW)).keep]
            known = number_


times = st.integers(0, 400).map(lambda step: time_ns("2026-01-01 00:00") + step * 7 * HOUR_NS)


@given(st.lists(times, max_size=20), st.integers(-1, 20), st.integers(1, 5), st.integers(0, 5))
def test_an_alarm_names_the_removed_and_the_new_snapshots(moments, known, last, daily):
    snapshots = group(*moments)
    rules = rules_of(f"last {last}, daily {daily}" if daily else f"last {last}")
    going = {row.id for row in judge(snapshots.snapshots, rules, utc(), time_ns(NOW)).remove}
    new = {row.id for row in snapshots.snapshots if row.sequence > known}
    for alarm in alarms(snapshots, rules, utc(), time_ns(NOW), known):
        assert alarm.pushed
        assert set(alarm.pushed) <= going
        assert alarm.added
        assert set(alarm.added) <= new
