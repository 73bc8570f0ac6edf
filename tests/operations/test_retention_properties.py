"""Properties of every policy and every set of snapshots, checked against the definition, rule by rule."""

from datetime import UTC, datetime, timedelta, timezone
from zoneinfo import ZoneInfo

from hypothesis import given
from hypothesis import strategies as st
from retention_tables import Snap

from drtool.config.units import Span, keep_count, span
from drtool.operations.retention import Calendar, Rules, judge
from drtool.operations.retention.rules import PERIODS

NS = 10**9
NOW = datetime(2026, 6, 1, tzinfo=UTC)
ZONES = ("UTC", "Europe/Berlin", "Pacific/Auckland", "Australia/Lord_Howe", "America/St_Johns")
# Around turns of years, weeks and clocks, where periods are odd, and at any other time, some in the future.
CORNERS = [
    datetime(2026, 3, 29, 1, tzinfo=UTC),
    datetime(2025, 10, 26, 1, tzinfo=UTC),
    datetime(2026, 1, 1, tzinfo=UTC),
    datetime(2026, 3, 1, tzinfo=UTC),
    NOW,
]
seconds = st.one_of(
    st.builds(
        lambda corner, offset: int((corner + timedelta(minutes=15 * offset)).timestamp()),
        st.sampled_from(CORNERS),
        st.integers(-300, 300),
    ),
    st.integers(int(datetime(2023, 1, 1, tzinfo=UTC).timestamp()), int(datetime(2026, 7, 1, tzinfo=UTC).timestamp())),
)
times = st.builds(lambda whole, rest: whole * NS + rest, seconds, st.sampled_from([0, 0, 1, 500_000_000]))
snapshots = st.lists(st.tuples(times, st.sampled_from([(), ("a",), ("b", "a")])), min_size=1, max_size=24).map(
    lambda rows: [Snap(n.to_bytes(16), time, n, tags=tags) for n, (time, tags) in enumerate(rows)]
)
counts = st.sampled_from([0, 0, 1, 2, 3, 7, -1])
spans = st.sampled_from([Span(), Span(), span("1h"), span("1d"), span("8d12h"), span("1m"), span("1y2m3d4h")])
rules = st.builds(
    Rules,
    **dict.fromkeys(("last", *PERIODS), counts),
    **dict.fromkeys(("within", *(f"within_{period}" for period in PERIODS)), spans),
    tags=st.sampled_from([(), (), ("a",), ("b", "c")]),
)
zones = st.sampled_from(ZONES).map(ZoneInfo)
NOW_NS = int(NOW.timestamp()) * NS


def kept(rows, policy, zone, now_ns=NOW_NS):
    return {row.snapshot for row in judge(rows, policy, Calendar(zone), now_ns).keep}


def single_rules(policy):
    """The policy as policies of one rule each."""
    for name in policy.__struct_fields__:
        value = getattr(policy, name)
        if value != getattr(Rules(), name):
            yield Rules(**{name: value})


def is_kept(row, rows, rule, zone):
    """The definition, for one snapshot and one rule, without cleverness."""
    if row.time_ns > NOW_NS:
        return True
    past = [other for other in rows if other.time_ns <= NOW_NS]
    newer = [other for other in past if (other.time_ns, other.sequence) > (row.time_ns, row.sequence)]
    is_oldest = len(newer) == len(past) - 1
    if rule.tags:
        return bool(set(rule.tags) & set(row.tags))
    (name, value) = next(
        (n, getattr(rule, n)) for n in rule.__struct_fields__ if getattr(rule, n) != getattr(Rules(), n)
    )
    if isinstance(value, Span):
        since_ns = Calendar(zone).before(max(other.time_ns for other in past), value)
        if row.time_ns <= since_ns:
            return False
        value = keep_count("unlimited")
        name = name.removeprefix("within").removeprefix("_") or "last"
    periods = {period_name(other, name, zone) for other in newer}
    fresh = period_name(row, name, zone) not in periods
    return (fresh or is_oldest) and (value < 0 or len(periods) < value)


def period_name(row, name, zone):
    shown = datetime.fromtimestamp(row.time_ns // NS, zone)
    formats = {"hourly": "%Y-%m-%d %H", "daily": "%Y-%m-%d", "weekly": "%G %V", "monthly": "%Y-%m", "yearly": "%Y"}
    return shown.strftime(formats[name]) if name in formats else row.id


@given(snapshots, rules, zones)
def test_exactly_the_snapshots_that_any_rule_keeps_are_kept(rows, policy, zone):
    wanted = {row for row in rows if row.time_ns > NOW_NS}
    wanted |= {row for rule in single_rules(policy) for row in rows if is_kept(row, rows, rule, zone)}
    assert kept(rows, policy, zone) == wanted


@given(snapshots, rules, zones)
def test_every_snapshot_is_kept_for_a_reason_or_removed(rows, policy, zone):
    judged = judge(rows, policy, Calendar(zone), NOW_NS)
    assert sorted(row.id for row in (*(k.snapshot for k in judged.keep), *judged.remove)) == [row.id for row in rows]
    for row in judged.keep:
        assert bool(row.reasons) != row.future
        assert set(row.as_oldest) <= set(row.reasons)
        assert len(set(row.reasons)) == len(row.reasons)


@given(snapshots, rules, zones)
def test_judged_again_nothing_more_goes(rows, policy, zone):
    left = kept(rows, policy, zone)
    assert kept(left, policy, zone) == left


@given(snapshots, rules, zones, st.randoms(use_true_random=False))
def test_the_order_does_not_matter(rows, policy, zone, chance):
    shuffled = list(rows)
    chance.shuffle(shuffled)
    assert judge(shuffled, policy, Calendar(zone), NOW_NS) == judge(rows, policy, Calendar(zone), NOW_NS)


@given(snapshots, rules, st.integers(1, 5), zones)
def test_the_newest_that_is_not_in_the_future_stays_if_any_is_to_stay(rows, policy, last, zone):
    past = [row for row in rows if row.time_ns <= NOW_NS]
    if past:
        newest = max(past, key=lambda row: (row.time_ns, row.sequence))
        changed = Rules(**{name: getattr(policy, name) for name in policy.__struct_fields__} | {"last": last})
        assert newest in kept(rows, changed, zone)


@given(snapshots, rules, zones)
def test_the_future_changes_nothing_for_the_others(rows, policy, zone):
    past = [row for row in rows if row.time_ns <= NOW_NS]
    assert kept(past, policy, zone) == {row for row in kept(rows, policy, zone) if row.time_ns <= NOW_NS}


fixed_spans = st.sampled_from([Span(), span("1h"), span("30h"), span("300h")])
counting = st.builds(
    Rules,
    **dict.fromkeys(("last", *PERIODS), counts),
    **dict.fromkeys(("within", *(f"within_{period}" for period in PERIODS)), fixed_spans),
)


@given(snapshots, times, counting, zones)
def test_a_snapshot_that_is_added_brings_none_back(rows, time_ns, policy, zone):
    """So snapshots that are added while others are being forgotten cannot make that wrong."""
    more = [*rows, Snap(b"another", time_ns, len(rows))]
    assert kept(more, policy, zone) & set(rows) <= kept(rows, policy, zone)


@given(snapshots, rules, st.integers(-14, 14))
def test_a_zone_without_changes_is_a_shift(rows, policy, hours):
    """The result in UTC+h equals the result in UTC for snapshots h hours later."""
    shift_ns = hours * 3600 * NS
    shifted = [Snap(row.id, row.time_ns + shift_ns, row.sequence, tags=row.tags) for row in rows]
    there = {row.id for row in kept(rows, policy, timezone(timedelta(hours=hours)))}
    assert there == {row.id for row in kept(shifted, policy, UTC, NOW_NS + shift_ns)}


@given(times, st.tuples(st.integers(0, 30), st.integers(0, 40), st.integers(0, 400), st.integers(0, 5000)), zones)
def test_before_is_before_and_the_clock_shows_the_same_time(time_ns, parts, zone):
    length = Span(*parts)
    earlier_ns = Calendar(zone).before(time_ns, length)
    assert (earlier_ns < time_ns) == any(length)
    if not length.hours:
        shown, then = (datetime.fromtimestamp(at // NS, zone) for at in (time_ns, earlier_ns))
        wanted = datetime.combine(then.date(), shown.time())
        if wanted == wanted.replace(tzinfo=zone).astimezone(UTC).astimezone(zone).replace(tzinfo=None):  # not skipped
            assert then.replace(tzinfo=None) == wanted
        assert earlier_ns % NS == time_ns % NS
