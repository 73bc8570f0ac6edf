"""Which snapshot is meant: the promises of cli.md's "Names"."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from drtool.errors import NoSuchSnapshot
from drtool.operations.selection import FUTURE_NS, Narrowing, narrowed, select

NOW = 1_700_000_000 * 10**9


class Snap(msgspec.Struct, frozen=True):
    id: bytes
    time_ns: int
    sequence: int
    host: str = "alpha"
    source: str = "home"
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


def test_of_two_with_one_time_the_later_change_wins():
    assert select([snap(5), snap(4)], "latest", now_ns=NOW).snapshot.sequence == 5


def test_a_snapshot_from_the_future_counts_when_nothing_else_matches():
    rows = [snap(1, host="beta"), snap(2, age_s=-7200)]
    chosen = select(rows, "latest", now_ns=NOW, narrowing=Narrowing(hosts=("alpha",)))
    assert chosen.snapshot.sequence == 2
    assert "future" in chosen.warnings[0]


@given(snaps, st.data())
def test_a_whole_id_means_that_snapshot_whatever_narrows(rows, data):
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
