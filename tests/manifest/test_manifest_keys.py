"""The table of key slots: each change follows the one before, and none can lock out all users."""

import msgspec
import pytest
from msgspec.structs import replace
from test_manifest_state import CONFIG, TARGETS, Host, founded, sid

from drtool.manifest.ops import Found, SetKeys, decode_op, make_change, summary_of
from drtool.manifest.records import KeyTable, Policy, SlotRow, Target
from drtool.manifest.state import Core, begin


def slot(number, generation=1):
    return SlotRow(number.to_bytes(8, "big"), f"slot {number}", generation, bytes(32), 0, "h")


ONE = KeyTable(1, 1, 1, (slot(1),))
TWO = KeyTable(2, 1, 1, (slot(1), slot(2)))


@pytest.fixture
def host():
    host = Host(begin(make_change(Found(bytes(16), "acme", Policy(2), TARGETS, 1, CONFIG, ONE), bytes(16), 0, 0, "h")))
    assert host.open(sid(1), kind="admin") is None
    return host


def test_founding_writes_the_first_slot_down(host):
    assert host.state.keys == ONE


def test_a_table_follows_the_one_before(host):
    assert host.do(SetKeys(TWO, sid(1)), sid(1)) is None
    assert host.state.keys == TWO
    assert host.do(SetKeys(TWO, sid(1)), sid(1)) == "keys-changed"
    assert host.do(SetKeys(replace(TWO, epoch=4), sid(1)), sid(1)) == "keys-changed"


@pytest.mark.parametrize(
    "table",
    [
        replace(TWO, slots=()),
        replace(TWO, slots=(slot(1), slot(1))),
        replace(TWO, slots=tuple(slot(n) for n in range(65))),
        replace(TWO, generation=2),
        replace(TWO, generation=2, drawn=2),
        replace(TWO, generation=0),
        replace(TWO, drawn=0),
    ],
)
def test_a_table_that_would_lock_users_out_is_refused(host, table):
    assert host.do(SetKeys(table, sid(1)), sid(1)) == "bad-keys"
    assert host.state.keys == ONE


def test_a_generation_never_goes_back(host):
    rotated = KeyTable(2, 3, 4, (slot(1, 3),))
    assert host.do(SetKeys(rotated, sid(1)), sid(1)) is None
    assert host.do(SetKeys(replace(rotated, epoch=3, generation=2), sid(1)), sid(1)) == "bad-keys"
    assert host.do(SetKeys(replace(rotated, epoch=3, drawn=3), sid(1)), sid(1)) == "bad-keys"
    assert host.do(SetKeys(replace(rotated, epoch=3, slots=(slot(1, 3), slot(2, 2))), sid(1)), sid(1)) == "bad-keys"
    assert host.do(SetKeys(replace(rotated, epoch=3), sid(1)), sid(1)) is None


def test_a_manifest_of_an_early_version_is_read_without_a_table():
    state = founded()
    assert state.keys == KeyTable()
    packed = msgspec.msgpack.decode(msgspec.msgpack.encode(state.core()))
    keys_at = Core.__struct_fields__.index("keys")
    assert msgspec.convert(packed[:keys_at], Core).keys == KeyTable()
    row = msgspec.msgpack.decode(msgspec.msgpack.encode(TARGETS[0]))
    keys_at = Target.__struct_fields__.index("keys")
    assert msgspec.convert(row[:keys_at], Target).keys is True
    found = msgspec.msgpack.decode(msgspec.msgpack.encode(Found(bytes(16), "acme", Policy(2), TARGETS, 1, CONFIG)))
    op = decode_op(msgspec.msgpack.encode(found[:-1]))
    assert isinstance(op, Found)
    assert op.keys == KeyTable()


def test_the_log_says_how_many_slots_and_which_key():
    assert summary_of(SetKeys(TWO)) == "2 slots, key generation 1"
