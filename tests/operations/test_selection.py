"""Which snapshot is meant: the promises of cli.md's "Names"."""

import time

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from drtool.config.units import time_ns_of
from drtool.errors import NoSuchSnapshot, UsageError
from drtool.operations.selection import FUTURE_NS, Narrowing, choice_words, narrowed, select
from drtool.operations.snapshot_names import parse_latest, split_name

NOW = 1_700_000_000 * 10**9


class Snap(msgspec.Struct, frozen=True):
    id: bytes
    time_ns: int
    sequence: int
    host: str = "alpha"
    source: str = "home"
    paths: tuple[bytes, ...] = (b"/home",)
    tags: tuple[str, ...] = ()


def snap(number: int, age_s: int = 0, **fields) -> Snap:
    return Snap(number.to_bytes(16), NOW - age_s * 10**9, number, **fields)


snaps = st.lists(
    st.builds(
        snap,
        st.integers(0, 2**128 - 1),
        age_s=st.integers(-7200, 7200),
        host=st.sampled_from(["alpha", "beta"]),
        source=st.sampled_from(["home", "etc"]),
        tags=st.lists(st.sampled_from(["a", "b"]), unique=True).map(tuple),
    ),
    min_size=1,
    max_size=12,
    unique_by=lambda row: row.id,
)
narrowings = st.builds(
    Narrowing,
    hosts=st.sampled_from([(), ("alpha",), ("beta", "alpha")]),
    tags=st.sampled_from([(), ("a",), ("a", "b")]),
    sources=st.sampled_from([(), ("home",)]),
)


@given(snaps, narrowings)
def test_latest_is_the_newest_that_matches_and_is_not_in_the_future(rows, narrowing):
    matching = [row for row in rows if narrowing.admits(row)]
    past = [row for row in matching if row.time_ns <= NOW + FUTURE_NS]
    if not matching:
        with pytest.raises(NoSuchSnapshot):
            select(rows, "latest", now_ns=NOW, narrowing=narrowing)
        return
    chosen = select(rows, "latest", now_ns=NOW, narrowing=narrowing)
    assert chosen.snapshot == max(past or matching, key=lambda row: (row.time_ns, row.sequence))
    assert bool(chosen.warnings) == (len(past) < len(matching))
    sources = {(row.host, row.source) for row in past or matching}
    assert {(row.host, row.source) for row in chosen.others} == sources - {
        (chosen.snapshot.host, chosen.snapshot.source)
    }
    assert (choice_words(chosen) is None) == (len(sources) == 1)


def test_of_two_with_one_time_the_later_change_wins():
    assert select([snap(5), snap(4)], "latest", now_ns=NOW).snapshot.sequence == 5


def test_a_snapshot_from_the_future_counts_when_nothing_else_matches():
    rows = [snap(1, host="beta"), snap(2, age_s=-7200)]
    chosen = select(rows, "latest", now_ns=NOW, narrowing=Narrowing(hosts=("alpha",)))
    assert chosen.snapshot.sequence == 2
    assert "future" in chosen.warnings[0]


@given(snaps, st.data())
def test_a_whole_id_means_that_snapshot_despite_narrowing(rows, data):
    row = data.draw(st.sampled_from(rows))
    name = data.draw(st.sampled_from([row.id.hex(), row.id.hex().upper()]))
    assert select(rows, name, now_ns=NOW, narrowing=Narrowing(hosts=("nobody",))).snapshot == row


@given(snaps, st.text("0123456789abcdef", max_size=4))
def test_a_prefix_means_one_snapshot_or_none(rows, prefix):
    found = [row for row in rows if row.id.hex().startswith(prefix)]
    if prefix and len(found) == 1:
        assert select(rows, prefix, now_ns=NOW).snapshot == found[0]
    else:
        with pytest.raises(NoSuchSnapshot) as caught:
            select(rows, prefix, now_ns=NOW)
        assert caught.value.exit_code == 1


@given(snaps, st.integers(1, 3))
def test_latest_n_is_per_host_and_source(rows, count):
    kept = narrowed(rows, Narrowing(), latest=count)
    assert kept == sorted(kept, key=lambda row: (row.time_ns, row.sequence))
    for group in {(row.host, row.source) for row in rows}:
        members = [row for row in narrowed(rows, Narrowing()) if (row.host, row.source) == group]
        assert [row for row in kept if (row.host, row.source) == group] == members[-count:]


def test_a_choice_among_sources_names_the_chosen_one_and_the_others():
    rows = [snap(1, source="etc", age_s=9), snap(2, source="", paths=(b"/srv", b"/opt")), snap(3, host="beta", age_s=1)]
    chosen = select(rows, "latest", now_ns=NOW)
    assert chosen.snapshot == rows[1]
    assert choice_words(chosen) == (
        "latest is 00000000, a snapshot of /opt /srv of alpha; the other sources are source etc of alpha, source home of beta; "
        "--source or --host chooses one"
    )
    assert choice_words(select(rows, "latest", now_ns=NOW, narrowing=Narrowing(sources=("etc",)))) is None
    many = select([snap(n, source=f"s{n}") for n in range(9)], "latest", now_ns=NOW)
    assert "source s3 of alpha and 4 more" in choice_words(many)
    assert len(many.others) == 8


def test_an_earlier_snapshot_of_other_paths_is_not_named_among_the_other_sources():
    earlier, newest = snap(1, source="", paths=(b"/a", b"/b"), age_s=9), snap(2, source="", paths=(b"/b",), age_s=1)
    chosen = select([earlier, newest], "latest~1", now_ns=NOW)
    assert (chosen.snapshot, chosen.others) == (earlier, (newest,))
    assert choice_words(chosen) == (
        f"latest~1 is {earlier.id.hex()[:8]}, a snapshot of /a /b of alpha; the other sources are /b of alpha; "
        "--source chooses one"
    )


def test_snapshots_without_a_name_are_of_one_source_if_they_have_the_same_paths():
    one, other = snap(1, source="", paths=(b"/a", b"/b")), snap(2, source="", paths=(b"/b", b"/a"))
    assert select([one, other], "latest", now_ns=NOW).others == ()
    third = snap(3, source="", paths=(b"/b",))
    chosen = select([one, other, third], "latest", now_ns=NOW)
    assert chosen.others == (other,)
    assert choice_words(chosen).endswith("the other sources are /a /b of alpha; --source chooses one")
    for word, wanted in (("/a /b", other), ("/b", third), ("/b/", third)):
        assert (
            select([one, other, third], "latest", now_ns=NOW, narrowing=Narrowing(sources=(word,))).snapshot == wanted
        )
    for word in ("/a", "/b /a", ""):
        assert narrowed([one, other, third], Narrowing(sources=(word,))) == []


def test_an_unnamed_source_with_an_odd_path_can_be_named_as_it_is_shown():
    odd = snap(1, source="", paths=(b"/f\xff",))
    for word in ("/f\\xff", "/f\udcff"):
        assert narrowed([odd, snap(2, source="")], Narrowing(sources=(word,))) == [odd]


def test_older_ones_are_counted_back_within_the_host_and_source():
    rows = [
        snap(n, age_s=100 - 10 * n, source=source) for n, source in enumerate(("home", "etc", "home", "etc", "home"))
    ]
    assert [select(rows, f"latest~{back}", now_ns=NOW).snapshot.sequence for back in (0, 1, 2)] == [4, 2, 0]
    etc = Narrowing(sources=("etc",))
    assert select(rows, "latest~1", now_ns=NOW, narrowing=etc).snapshot.sequence == 1
    with pytest.raises(NoSuchSnapshot, match="source etc of alpha has 2 such snapshots"):
        select(rows, "latest~2", now_ns=NOW, narrowing=etc)


def test_a_time_names_the_newest_that_is_not_later():
    rows = [snap(1, age_s=3600), snap(2, age_s=60)]  # NOW is 2023-11-14T22:13:20Z
    assert select(rows, "latest@2023-11-14T22:12:20Z", now_ns=NOW).snapshot.sequence == 2
    assert select(rows, "latest@2023-11-14T22:12:19.999999999Z", now_ns=NOW).snapshot.sequence == 1
    assert select(rows, "latest@2023-11-14T23:12+01:00", now_ns=NOW).snapshot.sequence == 1
    with pytest.raises(NoSuchSnapshot, match="no snapshot is as old"):
        select(rows, "latest@2023-11-13", now_ns=NOW)


def test_a_path_names_the_newest_that_has_it_in_any_source_and_says_if_a_newer_one_has_not():
    rows = [snap(1, age_s=9), snap(2, age_s=8), snap(3, age_s=7), snap(4, source="etc")]
    chosen = select(rows, "latest", now_ns=NOW, holds=lambda row: row.sequence < 3)
    assert (chosen.snapshot.sequence, chosen.others) == (2, ())
    assert "is not in 00000000 of source home of alpha" in chosen.warnings[0]
    older = [select(rows, f"latest~{back}", now_ns=NOW, holds=lambda row: row.sequence < 3) for back in (1, 2)]
    assert [(row.snapshot.sequence, row.warnings) for row in older] == [(2, ()), (1, ())]
    assert select(rows, "latest~1", now_ns=NOW, holds=lambda row: row.sequence == 1).snapshot.sequence == 1
    both = select(rows, "latest", now_ns=NOW, holds=lambda _: True)
    assert (both.snapshot.sequence, [row.sequence for row in both.others]) == (4, [3])
    nowhere = select(rows, "latest", now_ns=NOW, holds=lambda _: False)
    assert (nowhere.snapshot.sequence, nowhere.warnings) == (4, ("the path is in none of the 4 snapshots that match",))


@pytest.mark.parametrize(
    "name", ["latest~", "latest~x", "latest~-1", "latest~1.5", "latest@", "latest@soon", "latest@2023-13-01"]
)
def test_a_malformed_name_is_a_usage_error_with_an_example(name):
    with pytest.raises(UsageError) as caught:
        select([snap(1)], name, now_ns=NOW)
    assert "latest" in caught.value.hint


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("latest", ("latest", None)),
        ("3f2a:/a:b", ("3f2a", "/a:b")),
        ("latest:", ("latest", "")),
        ("latest~2:/a", ("latest~2", "/a")),
        ("latest@2023-11-14:/a", ("latest@2023-11-14", "/a")),
        ("latest@2023-11-14T22:13:/a:b", ("latest@2023-11-14T22:13", "/a:b")),
        ("latest@2023-11-14T22:13:20.123456789Z", ("latest@2023-11-14T22:13:20.123456789Z", None)),
        ("latest@2023-11-14 22:13:20+01:00:/a\nb", ("latest@2023-11-14 22:13:20+01:00", "/a\nb")),
    ],
)
def test_a_path_begins_at_the_first_colon_that_is_no_part_of_a_time(text, parts):
    assert split_name(text) == parts


def test_a_day_and_a_time_without_an_offset_are_of_this_hosts_time_zone(monkeypatch):
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    time.tzset()
    try:
        assert parse_latest("latest@2023-11-14T22:13:20") == parse_latest("latest@2023-11-14T13:13:20Z")
        assert parse_latest("latest@2023-11-14").until_ns == time_ns_of("2023-11-14T15:00:00Z") - 1
    finally:
        monkeypatch.undo()
        time.tzset()
