"""The snapshots that stay, and why, as tables: each shows a policy and its result for every snapshot.

The cases follow restic's documentation and its tests of `forget`, by meaning.
"""

import pytest
from retention_tables import Snap, judged_table, normal_form, rules_of, time_ns

from drtool.config.units import span
from drtool.operations.retention import Calendar, Group, Rules, grouped, judge

TABLES = {
    "the last two": """
        last 2
        2026-03-01 12:00 | -
        2026-03-01 12:01 | last
        2026-03-01 12:02 | last
        """,
    "more than there are": """
        last 99
        2026-03-01 12:00 | last
        2026-03-01 12:02 | last
        """,
    "all": """
        last unlimited
        1971-03-01 12:00 | last
        2026-03-01 12:02 | last
        """,
    "the newest of each hour": """
        hourly 2
        2026-03-01 09:59 | -
        2026-03-01 10:00 | -
        2026-03-01 10:59 | hourly
        2026-03-01 12:00 | -
        2026-03-01 12:30 | hourly
        """,
    "days without a snapshot are not counted": """
        daily 3
        2026-03-01 12:00 | -
        2026-03-09 23:59 | daily
        2026-03-10 00:00 | -
        2026-03-10 23:59 | daily
        2026-05-20 07:00 | daily
        """,
    "the oldest stays while there are slots": """
        daily 4
        2026-03-01 11:00 | daily*
        2026-03-01 11:30 | -
        2026-03-01 12:00 | daily
        2026-03-02 12:00 | daily
        """,
    "but not when all slots are taken": """
        daily 2
        2026-03-01 11:00 | -
        2026-03-01 12:00 | daily
        2026-03-02 12:00 | daily
        """,
    "the oldest of its own period needs no star": """
        daily 5
        2026-03-01 11:00 | daily
        2026-03-02 12:00 | daily
        """,
    "a year's history in its first month": """
        last 1, monthly 12, yearly 2
        2026-03-01 11:00 | monthly* yearly*
        2026-03-02 12:00 | -
        2026-03-03 12:00 | last monthly yearly
        """,
    "weeks are Monday to Sunday, and those of the turn of the year are whole": """
        weekly 3
        2015-12-27 23:59 | weekly
        2015-12-28 00:00 | -
        2015-12-31 12:00 | -
        2016-01-01 01:02 | -
        2016-01-03 07:02 | weekly
        2016-01-04 00:00 | -
        2016-01-10 23:59 | weekly
        """,
    "months and years": """
        monthly 2, yearly unlimited
        2012-02-29 12:00 | yearly
        2013-01-01 00:00 | -
        2013-12-31 23:59 | yearly
        2014-10-31 12:00 | monthly
        2014-11-01 00:00 | -
        2014-11-30 12:00 | monthly yearly
        """,
    "tags: any of them, however old": """
        tag keep, tag gold
        2001-01-01 00:00 #gold | tag
        2026-03-01 12:00 | -
        2026-03-02 12:00 #kee | -
        2026-03-03 12:00 #other #keep | tag
        """,
    "within counts from the newest, and its far end is outside": """
        within 1d
        2026-03-01 12:00 | -
        2026-03-01 12:01 | within
        2026-03-02 12:00 | within
        """,
    "within years, months, days and hours": """
        within 1y2m3d4h
        2024-12-29 08:00 | -
        2024-12-29 08:01 | within
        2026-03-01 12:00 | within
        """,
    "a month before the last of March is the last of February": """
        within 1m
        2026-02-28 12:00 | -
        2026-02-28 12:01 | within
        2026-03-31 12:00 | within
        """,
    "a year before a leap day": """
        within 1y
        2023-02-28 12:00 | -
        2023-02-28 12:01 | within
        2024-02-29 12:00 | within
        """,
    "the newest of each period within a time, and the oldest if it is within": """
        daily within 3d
        2026-03-01 11:00 | daily within
        2026-03-02 09:00 | -
        2026-03-02 10:00 | daily within
        2026-03-04 10:00 | daily within
        """,
    "the oldest of all, within, though its day has a newer one": """
        daily within 3d
        2026-03-02 09:00 | daily* within
        2026-03-02 10:00 | daily within
        2026-03-04 10:00 | daily within
        """,
    "what is exactly that old is not within, whichever the rule": """
        hourly within 24h, daily within 2d
        2026-03-02 10:00 | -
        2026-03-03 10:00 | daily within
        2026-03-04 10:00 | hourly within daily
        """,
    "periods within different times": """
        within 2h, hourly within 1d, daily within 7d, monthly within 1y, yearly within 9999y
        2024-06-15 00:00 | yearly within
        2025-01-31 00:00 | -
        2025-04-30 00:00 | monthly within
        2025-12-31 00:00 | monthly within yearly
        2026-01-25 12:00 | daily within
        2026-01-31 09:10 | -
        2026-01-31 09:50 | hourly within
        2026-01-31 11:05 | within
        2026-01-31 11:55 | within hourly
        2026-01-31 12:00 | within hourly daily monthly yearly
        """,
    "each rule alone, joined": """
        last 2, daily 2, weekly 2
        2026-03-01 12:00 | weekly
        2026-03-04 12:00 | -
        2026-03-05 11:00 | -
        2026-03-05 12:00 | daily
        2026-03-06 11:00 | last
        2026-03-06 12:00 | last daily weekly
        """,
    "the future moves nothing": """
        last 1, daily 2, within 1d now 2026-03-06 13:00
        2026-03-04 12:00 | -
        2026-03-05 12:00 | daily
        2026-03-06 12:00 | last daily within
        2026-03-06 13:01 #keep | future
        2099-01-01 00:00 | future
        """,
    "now is not the future": """
        last 1 now 2026-03-06 13:00
        2026-03-06 12:59 | -
        2026-03-06 13:00 | last
        """,
    "nothing but the future": """
        last 1 now 2026-03-06 13:00
        2027-03-06 12:59 | future
        2028-03-06 12:59 | future
        """,
    "of two with one time the later change is the newer": """
        last 1, daily 1
        2026-03-06 12:00 | -
        2026-03-06 12:00 | last daily
        """,
    "a day is the repository's: midnight in Berlin": """
        daily 3 in Europe/Berlin
        2026-01-31 22:30+00:00 | daily
        2026-01-31 23:30+00:00 | -
        2026-02-01 22:59+00:00 | daily
        2026-02-01 23:00+00:00 | daily
        """,
    "the same instants in Auckland": """
        daily 3 in Pacific/Auckland
        2026-01-31 22:30+00:00 | daily*
        2026-01-31 23:30+00:00 | daily
        2026-02-01 22:59+00:00 | -
        2026-02-01 23:00+00:00 | daily
        """,
    "the hour that is shown twice is one hour": """
        hourly 3 in Europe/Berlin
        2026-10-25 01:59+02:00 | hourly
        2026-10-25 02:30+02:00 | -
        2026-10-25 02:30+01:00 | hourly
        2026-10-25 03:00+01:00 | hourly
        """,
    "a day of 25 hours": """
        daily 2 in Europe/Berlin
        2026-10-24 23:59+02:00 | daily
        2026-10-25 00:00+02:00 | -
        2026-10-25 23:59+01:00 | daily
        """,
    "a day before, over a change of clocks, is the same time on the clock": """
        within 1d in Europe/Berlin
        2026-03-28 12:00+01:00 | -
        2026-03-28 12:01+01:00 | within
        2026-03-29 12:00+02:00 | within
        """,
    "24 hours before are 24 hours": """
        within 24h in Europe/Berlin
        2026-03-28 11:00+01:00 | -
        2026-03-28 11:01+01:00 | within
        2026-03-29 12:00+02:00 | within
        """,
    "a day before, where the clock showed that time twice, is the first": """
        within 1d in Europe/Berlin
        2026-10-25 02:30+02:00 | -
        2026-10-25 02:31+02:00 | within
        2026-10-25 02:30+01:00 | within
        2026-10-26 02:30+01:00 | within
        """,
    "a day before, where the clock skipped that time": """
        within 1d in Europe/Berlin
        2026-03-29 01:30+01:00 | -
        2026-03-29 01:31+01:00 | within
        2026-03-30 02:30+02:00 | within
        """,
    "an hour before, within the hour that is shown twice": """
        within 1h in Europe/Berlin
        2026-10-25 02:30+02:00 | -
        2026-10-25 02:31+02:00 | within
        2026-10-25 02:30+01:00 | within
        """,
    "a zone whose clock changes by half an hour": """
        hourly 9 in Australia/Lord_Howe
        2026-04-05 01:45+11:00 | hourly*
        2026-04-05 01:31+10:30 | -
        2026-04-05 01:59+10:30 | hourly
        2026-04-05 02:00+10:30 | hourly
        """,
    "midnight that is shown twice does not split a day": """
        daily 9 in America/St_Johns
        2010-11-06 22:00-02:30 | daily*
        2010-11-07 00:00:30-02:30 | -
        2010-11-06 23:30-03:30 | daily
        2010-11-07 12:00-03:30 | daily
        """,
    "the first and the last of all times": """
        daily 9, monthly within 9000y
        0001-01-01 00:00 | daily monthly within
        1969-12-31 23:59 | daily monthly within
        1970-01-01 00:00 | daily monthly within
        2026-03-06 12:00 | daily monthly within
        """,
}


@pytest.mark.parametrize("name", TABLES)
def test_table(name):
    assert judged_table(TABLES[name]) == normal_form(TABLES[name])


@pytest.mark.parametrize("when_ns", [-(2**62), -62_135_647_200 * 10**9, 2**62, 253_402_300_800 * 10**9, 10**25])
def test_times_that_no_calendar_holds_are_judged_like_any_other(when_ns):
    rows = [Snap(b"odd", when_ns, 1), Snap(b"even", time_ns("2026-03-01 12:00"), 2)]
    rules = Rules(hourly=1, daily=1, weekly=1, monthly=1, yearly=1, within=span("1y2m3d4h"), last=1)
    judged = judge(rows, rules, Calendar(_zone("Europe/Berlin")), 10**30)
    newest = max(rows, key=lambda row: row.time_ns)
    assert [row.snapshot for row in judged.keep] == [newest]


def test_no_snapshots_no_judgement():
    assert judge([], rules_of("last 1, within 1d"), Calendar(_zone("UTC")), 0) == judge([], Rules(), Calendar(None), 0)


def test_rules_in_words():
    rules = Rules(last=3, daily=7, yearly=-1, within=span("1m"), within_hourly=span("2d"), tags=("a", "b"))
    assert str(rules) == "last 3, daily 7, yearly unlimited, within 1m, hourly within 2d, tag a, tag b"
    assert not rules.empty
    assert Rules(last=0, within=span("0d")).empty
    assert str(Rules()) == "nothing"


def group_names(rows, *by):
    return [group.name for group in (grouped(rows, by) if by else grouped(rows))]


def test_groups_are_host_and_source_or_the_set_of_paths():
    rows = [
        Snap(b"1", 5, 1, host="web"),
        Snap(b"2", 4, 2, host="web", paths=(b"/other",)),
        Snap(b"3", 3, 3, host="db"),
        Snap(b"4", 2, 4, host="web", source="", paths=(b"/srv", b"/etc")),
        Snap(b"5", 1, 5, host="web", source="", paths=(b"/etc", b"/srv", b"/etc")),
        Snap(b"6", 0, 6, host="web", source="", paths=(b"/etc",)),
    ]
    assert grouped(rows) == [
        Group("host db, source home", (rows[2],)),
        Group("host web, paths /etc", (rows[5],)),
        Group("host web, paths /etc /srv", (rows[4], rows[3])),
        Group("host web, source home", (rows[1], rows[0])),
    ]
    assert group_names(rows, "host") == ["host db", "host web"]
    assert group_names(rows, "paths") == ["paths /etc", "paths /etc /srv", "paths /home", "paths /other"]
    assert [group.name for group in grouped(rows, ())] == ["all snapshots"]


def test_tags_group_without_order():
    rows = [Snap(b"1", 5, 1, tags=("b", "a")), Snap(b"2", 4, 2, tags=("a", "b")), Snap(b"3", 4, 3)]
    assert group_names(rows, "tags") == ["tags -", "tags a b"]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"paths": (b"/a /b",)}, {"paths": (b"/a", b"/b")}),
        ({"paths": (b"",)}, {"paths": ()}),
        ({"paths": (b"-",)}, {"paths": ()}),
        ({"paths": (b"\xff",)}, {"paths": (b"\\xff",)}),
        ({"host": "a, paths /b"}, {"host": "a"}),
    ],
)
def test_two_groups_never_have_one_name(one, other):
    rows = [Snap(b"1", 1, 1, source="", **one), Snap(b"2", 1, 1, source="", **other)]
    assert len(grouped(rows)) == 2


def _zone(name):
    from zoneinfo import ZoneInfo

    return ZoneInfo(name)
