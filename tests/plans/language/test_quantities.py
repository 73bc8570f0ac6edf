"""The text forms of durations, shares, times and cron fields, and the refusal of all others."""

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drtool.config.cron import longest_gap_s, next_time, parse_cron
from drtool.plans.language.quantities import duration_s, moment_ns, share, when
from drtool.plans.language.values import Moment, duration_text, moment_text

BERLIN = ZoneInfo("Europe/Berlin")


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("0s", 0.0), ("400ms", 0.4), ("1h30m", 5400.0), ("2w", 1209600.0), ("1.5h", 5400.0), ("1d2h3m4s5ms", 93784.005)],
)
def test_durations(text, seconds):
    assert duration_s(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "5", 5, True, None, "-5s", "5 s", "1m1h", "1h1h", "h", "1e3s", "99999999d", "٣s"])
def test_invalid_durations_are_refused(text):
    with pytest.raises(ValueError, match=r"not a duration|100 years"):
        duration_s(text)


@given(st.integers(0, 10**12))
def test_a_duration_as_text_is_read_as_the_same(milliseconds):
    assert duration_s(duration_text(milliseconds / 1000)) == pytest.approx(milliseconds / 1000)


def test_shares():
    assert (share("2%"), share("0.5 %"), share("100%")) == (0.02, 0.005, 1.0)
    for wrong in ("2", 2, "101%", "-1%", None, "%"):
        with pytest.raises(ValueError, match="not a share"):
            share(wrong)


@given(st.integers(-62_135_596_800, 253_402_300_799), st.integers(0, 10**9 - 1))
def test_a_moment_as_text_is_read_as_the_same(seconds, nanoseconds):
    time_ns = seconds * 10**9 + nanoseconds
    assert moment_ns(moment_text(time_ns)) == time_ns


def test_moments_count_from_the_beginning_of_a_run():
    now = Moment(10**18)
    assert when("now").resolved(now) == now
    assert when("now - 10m").resolved(now) == Moment(10**18 - 600 * 10**9)
    assert when("now+1d").resolved(now) == Moment(10**18 + 86400 * 10**9)
    assert when("2001-09-09T03:46:40+02:00").resolved(Moment(0)) == now
    for wrong in ("yesterday", "now-", "now-5", "2026-01-31", "2026-01-31T22:30:00", "2026-13-01T00:00:00Z", 5, None):
        with pytest.raises(ValueError, match=r"not a (time|duration)"):
            when(wrong)


def at(*numbers: int, zone=UTC) -> datetime:
    return datetime(*numbers, tzinfo=zone)


@pytest.mark.parametrize(
    ("text", "after", "found"),
    [
        ("17 3 * * 0", at(2026, 11, 23), at(2026, 11, 29, 3, 17)),
        ("17 3 * * 7", at(2026, 11, 29, 3, 17), at(2026, 12, 6, 3, 17)),
        ("*/20 9-10 * * mon-fri", at(2026, 11, 21), at(2026, 11, 23, 9, 0)),
        ("*/20 9-10 * * mon-fri", at(2026, 11, 23, 10, 40), at(2026, 11, 24, 9, 0)),
        ("0 0 13 * 5", at(2026, 11, 1), at(2026, 11, 6)),  # the 13th, and every Friday
        ("0 0 29 feb *", at(2026, 1, 1), at(2028, 2, 29)),
        ("0 0 31 4 *", at(2026, 1, 1), None),
    ],
)
def test_cron_comes_next(text, after, found):
    assert next_time(parse_cron(text), after, UTC) == found


def test_cron_goes_by_the_clocks_of_its_zone():
    nightly = parse_cron("30 2 * * *")
    assert next_time(nightly, at(2026, 3, 28, 12), BERLIN) == at(2026, 3, 29, 1, 30)  # 02:30 is skipped that night
    assert next_time(nightly, at(2026, 11, 23), BERLIN) == at(2026, 11, 23, 1, 30)
    assert longest_gap_s(nightly, at(2026, 1, 1), BERLIN) == 25 * 3600


def test_the_longest_gap_of_a_year():
    assert longest_gap_s(parse_cron("17 3 * * 0"), at(2026, 1, 1), UTC) == 7 * 86400
    assert longest_gap_s(parse_cron("0 0 1 1,7 *"), at(2026, 1, 1), UTC) == 184 * 86400
    assert longest_gap_s(parse_cron("* * * * *"), at(2026, 1, 1), UTC) == 60
    assert longest_gap_s(parse_cron("0 0 30 2 *"), at(2026, 1, 1), UTC) is None


@pytest.mark.parametrize(
    "text", ["", "* * * *", "60 * * * *", "* * 0 * *", "* * * 13 *", "5-1 * * * *", "*/0 * * * *", "a * * * *", "@daily", 5, None]
)  # fmt: skip
def test_invalid_cron_fields_are_refused(text):
    with pytest.raises(ValueError, match=r"cron|expected|backwards"):
        parse_cron(text)
