"""The change that forgets snapshots, in the manifest's state machine."""

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from drtool.manifest.catalogue import Catalogue
from drtool.manifest.ops import ForgetSnapshots, Found, OpenSession, decode_op, make_change
from drtool.manifest.records import Config, Counts, HostCount, Policy, Snapshot, Target, Voter
from drtool.manifest.rejection import Rejection
from drtool.manifest.state import apply, begin

ADMIN = bytes([9]) * 16


def snapshot(number, host):
    return Snapshot(
        number.to_bytes(16), ADMIN, "home", host, "", number, number, (b"/x",), (), bytes(32), None, Counts(), "",
        sequence=number,
    )  # fmt: skip


def state_with(*hosts):
    """Snapshots 1, 2, 3 … of these hosts, added at changes of the same numbers, and an open session."""
    config = Config(1, 1, (Voter("a", "a/main", bytes(16)),), 1)
    found = Found(bytes(16), "x", Policy(1), (Target("a/main", 1, "active", "file:///a"),), 1, config)
    rows = tuple(snapshot(number, host) for number, host in enumerate(hosts, 1))
    state = msgspec.structs.replace(
        begin(make_change(found, bytes(16), 0, 0, "h")), sequence=len(hosts), snapshots=Catalogue((), rows)
    )
    opened = OpenSession("admin", "id", "h", session=ADMIN, based_on=len(hosts))
    return apply(state, make_change(opened, ADMIN, 0, 0, "h"))


def forget(state, *numbers, counter=1, judged=-1, **there):
    op = ForgetSnapshots(
        tuple(number.to_bytes(16) for number in numbers),
        ADMIN,
        judged,
        tuple(HostCount(host, count) for host, count in there.items()),
    )
    return apply(state, make_change(op, ADMIN, counter, 77, "forgetter"))


def numbers(state):
    return [int.from_bytes(row.id) for row in state.snapshots]


def test_forgotten_snapshots_are_recorded():
    after = forget(state_with("a", "a", "b"), 1, 3, judged=3, a=2, b=1)
    assert numbers(after) == [2]
    assert [(int.from_bytes(row.snapshot.id), row.host, row.time_ns) for row in after.forgotten] == [
        (1, "forgetter", 77),
        (3, "forgetter", 77),
    ]


def test_it_is_refused_if_a_snapshot_of_the_host_went_since_it_was_judged():
    state = state_with("a", "a", "a", "b")
    less = forget(state, 3)
    after = forget(less, 1, counter=2, judged=4, a=3)
    assert isinstance(after, Rejection)
    assert after.reason == "forgotten-since"
    assert numbers(forget(less, 1, counter=2, judged=less.sequence, a=2)) == [2, 4]


def test_other_hosts_and_snapshots_that_were_added_since_do_not_matter():
    state = state_with("a", "a", "b", "b")
    less = forget(state, 4)
    assert numbers(forget(less, 1, counter=2, judged=4, a=2)) == [2, 3]
    assert numbers(forget(state, 1, judged=1, a=1)) == [2, 3, 4]


def test_a_change_of_an_earlier_version_still_counts():
    old = msgspec.msgpack.encode(["forget-snapshots", [(1).to_bytes(16)], ADMIN])
    op = decode_op(old)
    assert op == ForgetSnapshots(((1).to_bytes(16),), ADMIN)
    assert numbers(apply(state_with("a", "a"), make_change(op, ADMIN, 1, 0, "h"))) == [2]


@given(st.lists(st.sampled_from("ab"), min_size=1, max_size=8), st.data())
def test_two_that_were_judged_on_one_state_never_both_take_from_a_host(hosts, data):
    state = state_with(*hosts)
    counts = {host: hosts.count(host) for host in set(hosts)}
    chosen = st.lists(st.integers(1, len(hosts)), min_size=1, unique=True)
    one, other = data.draw(chosen), data.draw(chosen)
    touched = [{hosts[number - 1] for number in numbers} for numbers in (one, other)]
    after = forget(state, *one, judged=len(hosts), **{host: counts[host] for host in touched[0]})
    last = forget(after, *other, counter=2, judged=len(hosts), **{host: counts[host] for host in touched[1]})
    assert isinstance(last, Rejection) == bool(touched[0] & touched[1])
