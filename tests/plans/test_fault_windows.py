"""The windows in which faults may be injected."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drtool.plans.faults.windows import DAYS, closing_time, parse_window


def at(text):
    return datetime.fromisoformat(text)


def closes(window, now):
    found = closing_time(parse_window(window, ZoneInfo), at(now))
    return found.strftime("%a %H:%M") if found else None


@pytest.mark.parametrize(
    ("window", "now", "closing"),
    [
        ("Tue-Thu 09:00-15:00 Europe/Berlin", "2026-11-24T07:59:59+00:00", None),  # a Tuesday in winter
        ("Tue-Thu 09:00-15:00 Europe/Berlin", "2026-11-24T08:00:00+00:00", "Tue 14:00"),
        ("Tue-Thu 09:00-15:00 Europe/Berlin", "2026-11-24T13:59:59+00:00", "Tue 14:00"),
        ("Tue-Thu 09:00-15:00 Europe/Berlin", "2026-11-24T14:00:00+00:00", None),
        ("Tue-Thu 09:00-15:00 Europe/Berlin", "2026-07-21T07:00:00+00:00", "Tue 13:00"),  # in summer
        ("Tue-Thu 09:00-15:00 Europe/Berlin", "2026-11-27T10:00:00+00:00", None),
        ("09:00-15:00", "2026-11-28T10:00:00+00:00", "Sat 15:00"),
        ("Mon,Sat 09:00-15:00 UTC", "2026-11-28T10:00:00+00:00", "Sat 15:00"),
        ("Sat-Mon 00:00-24:00", "2026-11-29T10:00:00+00:00", "Mon 00:00"),
        ("Sat-Mon 00:00-24:00", "2026-12-01T10:00:00+00:00", None),
        ("Fri 22:00-06:00", "2026-11-28T05:59:00+00:00", "Sat 06:00"),  # the night that began on Friday
        ("Fri 22:00-06:00", "2026-11-27T05:59:00+00:00", None),
        ("Sat 00:00-24:00 Pacific/Auckland", "2026-11-27T12:00:00+00:00", "Sat 11:00"),
        ("Sun 01:00-04:00 Europe/Berlin", "2026-10-25T00:30:00+00:00", "Sun 03:00"),  # the hour that comes twice
    ],
)
def test_a_window_is_open_by_the_clocks_of_its_zone(window, now, closing):
    assert closes(window, now) == closing


@pytest.mark.parametrize(
    "text",
    ["", "always", "Tue-Thu", "9:00-15:00", "09:00-09:00", "24:00-02:00", "25:00-26:00", "09:00-24:30", "Moo 09:00-10:00",
     "Mon-Tue-Wed 09:00-10:00", "Mon 09:00-10:00 Mars/Olympus", "Mon 09:00-10:00 ../../etc/passwd", "Mon 09:00"],
)  # fmt: skip
def test_an_invalid_window_is_refused_with_the_reason(text):
    with pytest.raises(ValueError, match=r"window|time|days"):
        parse_window(text, ZoneInfo)


@given(
    days=st.sets(st.sampled_from(DAYS), min_size=1),
    begins=st.integers(0, 1439),
    ends=st.integers(0, 1440),
    minute=st.integers(0, 7 * 1440 - 1),
)
def test_it_is_open_exactly_as_long_as_it_says(days, begins, ends, minute):
    if begins == ends:
        return
    text = f"{','.join(sorted(days))} {begins // 60:02}:{begins % 60:02}-{ends // 60:02}:{ends % 60:02}"
    window = parse_window(text, ZoneInfo)
    monday = datetime(2026, 11, 23, tzinfo=UTC)
    long = (ends - begins) % 1440 or 1440
    starts = [day * 1440 + begins for day in range(-1, 7) if DAYS[day % 7] in days]
    expected = next((start + long for start in starts if start <= minute < start + long), None)
    found = closing_time(window, monday + timedelta(minutes=minute))
    assert found == (None if expected is None else monday + timedelta(minutes=expected))
