"""Acceptor records: they are read back as written, and other bytes are never accepted."""

import pytest
from blake3 import blake3
from hypothesis import given
from hypothesis import strategies as st

from drtool.errors import FormatError
from drtool.paxos import RECORD_LIMIT_BYTES, Ballot, Chain, Record, decode_record, encode_record
from drtool.paxos.record import MAGIC

KEY = bytes(range(32))


def mac(data: bytes) -> bytes:
    return blake3(data, key=KEY).digest()


def verify(data: bytes, tag: bytes) -> bool:
    return mac(data) == tag


ids = st.binary(min_size=16, max_size=16)
hashes = st.binary(min_size=32, max_size=32)
ballots = st.builds(Ballot, st.integers(0, 1 << 40), ids)
chains = st.builds(Chain, st.text(max_size=20), ids, ids, st.integers(1, 9999), st.integers(1, 999999))


@st.composite
def records(draw):
    promised, accepted = sorted((draw(ballots), draw(ballots)), reverse=True)
    return Record(
        draw(st.integers(1, 10**12 - 1)), draw(hashes), draw(chains), promised, accepted, draw(st.binary()), draw(ids)
    )


@given(records())
def test_a_record_comes_back_as_it_was(record):
    assert decode_record(encode_record(record, mac), verify) == record


@given(records(), st.data())
def test_every_flipped_bit_is_refused(record, data):
    encoded = bytearray(encode_record(record, mac))
    position = data.draw(st.integers(0, len(encoded) * 8 - 1))
    encoded[position // 8] ^= 1 << position % 8
    with pytest.raises(FormatError):
        decode_record(bytes(encoded), verify)


@given(records(), st.data())
def test_every_cut_and_every_extension_is_refused(record, data):
    encoded = encode_record(record, mac)
    with pytest.raises(FormatError):
        decode_record(encoded[: data.draw(st.integers(0, len(encoded) - 1))], verify)
    with pytest.raises(FormatError):
        decode_record(encoded + data.draw(st.binary(min_size=1)), verify)


@given(st.binary(max_size=300))
def test_hostile_bytes_are_refused(data):
    with pytest.raises(FormatError):
        decode_record(data, verify)


@given(st.binary(max_size=200))
def test_authentic_nonsense_is_refused(body):
    with pytest.raises(FormatError):
        decode_record(MAGIC + body + mac(MAGIC + body), verify)


def test_bytes_without_end_are_refused_before_they_are_looked_at():
    looked: list[bytes] = []
    with pytest.raises(FormatError):
        decode_record(MAGIC + bytes(RECORD_LIMIT_BYTES), lambda data, _: not looked.append(data))
    assert not looked


def test_a_value_that_is_too_large_is_not_written():
    chain = Chain("paris", bytes(16), bytes(16), 1, 1)
    record = Record(
        1, bytes(32), chain, Ballot(1, bytes(16)), Ballot(1, bytes(16)), bytes(RECORD_LIMIT_BYTES), bytes(16)
    )
    with pytest.raises(FormatError):
        encode_record(record, mac)


@pytest.mark.parametrize(
    "change",
    [{"version": 0}, {"prev": b"x"}, {"token": b""}, {"promised": Ballot(0, bytes(16))}, {"accepted": Ballot(1, b"x")}],
)
def test_authentic_records_out_of_range_are_refused(change):
    chain = Chain("paris", bytes(16), bytes(16), 1, 1)
    fields = {
        "version": 1,
        "prev": bytes(32),
        "chain": chain,
        "promised": Ballot(1, bytes(16)),
        "accepted": Ballot(1, bytes(16)),
        "value": b"",
        "token": bytes(16),
    }
    with pytest.raises(FormatError):
        decode_record(encode_record(Record(**{**fields, **change}), mac), verify)


def test_the_bytes_are_frozen():
    """A golden vector: another reader must find exactly these bytes."""
    chain = Chain("paris", bytes([1]) * 16, bytes([2]) * 16, 1, 1)
    record = Record(
        2, bytes([3]) * 32, chain, Ballot(7, bytes([4]) * 16), Ballot(6, bytes([5]) * 16), b"v", bytes([6]) * 16
    )
    body = (
        "64724131"  # drA1
        "9702c420" + "03" * 32 + "95a57061726973c410" + "01" * 16 + "c410" + "02" * 16 + "0101"
        "9207c410" + "04" * 16 + "9206c410" + "05" * 16 + "c40176" + "c410" + "06" * 16
    )
    assert encode_record(record, mac).hex() == body + mac(bytes.fromhex(body)).hex()
