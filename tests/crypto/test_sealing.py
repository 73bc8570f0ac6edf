"""Sealed values open to the original, and other bytes never open."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drtool.crypto import HEADER_BYTES, TAG_BYTES, ChunkKind, Keyring, SealKind, object_name
from drtool.errors import FormatError, SealBroken
from drtool.model import RepositoryId

REPOSITORY = RepositoryId(bytes(range(16)))
KEYRING = Keyring(REPOSITORY, {1: bytes([1]) * 32})
ROTATED = Keyring(REPOSITORY, {1: bytes([1]) * 32, 2: bytes([2]) * 32})
kinds = st.sampled_from(SealKind)


def refuses(keyring, kind, sealed):
    with pytest.raises((SealBroken, FormatError)):
        keyring.open(kind, sealed)


@given(kinds, st.binary(max_size=3000))
def test_a_sealed_value_opens_to_the_original(kind, text):
    sealed = KEYRING.seal(kind, text)
    assert KEYRING.open(kind, sealed) == text
    assert KEYRING.open(kind, bytearray(sealed)) == text
    assert len(sealed) == HEADER_BYTES + len(text) + 2 * TAG_BYTES


@pytest.mark.parametrize("bit", [0x01, 0x80])
def test_every_flipped_bit_is_refused(bit):
    sealed = KEYRING.seal(SealKind.HEAD, b"a short text")
    for position in range(len(sealed)):
        refuses(KEYRING, SealKind.HEAD, sealed[:position] + bytes([sealed[position] ^ bit]) + sealed[position + 1 :])


def test_every_cut_and_every_lengthening_is_refused():
    sealed = KEYRING.seal(SealKind.HEAD, b"a short text")
    for length in range(len(sealed)):
        refuses(KEYRING, SealKind.HEAD, sealed[:length])
        refuses(KEYRING, SealKind.HEAD, sealed[length + 1 :] if length else b"")
        refuses(KEYRING, SealKind.HEAD, sealed[:length] + b"\0" + sealed[length:])
    refuses(KEYRING, SealKind.HEAD, sealed + b"\0")


@given(st.binary(max_size=200))
def test_bytes_that_were_never_sealed_are_refused(junk):
    refuses(KEYRING, SealKind.HEAD, junk)
    refuses(KEYRING, SealKind.HEAD, KEYRING.seal(SealKind.HEAD, b"")[:HEADER_BYTES] + junk)


@pytest.mark.parametrize(("kind", "other"), list(itertools.permutations(SealKind, 2)))
def test_one_kind_never_opens_as_another(kind, other):
    sealed = KEYRING.seal(kind, b"text")
    refuses(KEYRING, other, sealed)
    relabelled = sealed[:7] + bytes([other]) + sealed[8:]
    refuses(KEYRING, other, relabelled)


def test_two_objects_exchange_nothing():
    one, two = (KEYRING.seal(SealKind.PACK, text) for text in (b"text of one", b"text of two"))
    for cut in range(len(one) + 1):
        spliced = one[:cut] + two[cut:]
        if spliced not in {one, two}:
            refuses(KEYRING, SealKind.PACK, spliced)


def test_a_part_opens_at_its_own_place_only():
    sealer = KEYRING.sealer(SealKind.PACK)
    parts = [sealer.part(number, bytes([number]) * 20) for number in range(4)]
    footer = sealer.footer(4, b"footer")
    opener = KEYRING.opener(SealKind.PACK, sealer.header)
    for (number, part), place in itertools.product(enumerate(parts), range(5)):
        if number == place:
            assert opener.part(place, part) == bytes([number]) * 20
        else:
            with pytest.raises(SealBroken):
                opener.part(place, part)
    for count in (0, 3, 5, 2**32):
        with pytest.raises(SealBroken):
            opener.footer(count, footer)
    with pytest.raises(SealBroken):
        opener.footer(4, parts[0])
    with pytest.raises(SealBroken):
        opener.part(2**64 - 1, footer)


def test_a_key_generation_that_is_not_there_is_said():
    sealed = ROTATED.seal(SealKind.HEAD, b"new")
    assert ROTATED.open(SealKind.HEAD, KEYRING.seal(SealKind.HEAD, b"old")) == b"old"
    with pytest.raises(SealBroken, match="generation 2"):
        KEYRING.open(SealKind.HEAD, sealed)
    refuses(ROTATED, SealKind.HEAD, sealed[:11] + b"\x01" + sealed[12:])


def test_a_format_of_the_future_is_named_as_such():
    sealed = KEYRING.seal(SealKind.HEAD, b"text")
    with pytest.raises(FormatError, match="version 2"):
        KEYRING.open(SealKind.HEAD, sealed[:6] + b"\x02" + sealed[7:])


def test_every_object_has_a_salt_of_its_own():
    salts = {KEYRING.seal(SealKind.HEAD, b"text")[16:48] for _ in range(50)}
    assert len(salts) == 50


def test_a_sealer_never_seals_two_texts_under_one_nonce():
    sealer = KEYRING.sealer(SealKind.PACK)
    sealer.part(0, b"first")
    for wrong in (
        lambda: sealer.part(0, b"again"),
        lambda: sealer.part(2, b"skips one"),
        lambda: sealer.footer(2, b""),
    ):
        with pytest.raises(RuntimeError):
            wrong()
    sealer.footer(1, b"")
    for wrong in (lambda: sealer.footer(1, b"again"), lambda: sealer.part(1, b"late")):
        with pytest.raises(RuntimeError):
            wrong()


def test_a_part_that_failed_half_way_is_never_sealed_again():
    sealer = KEYRING.sealer(SealKind.PACK)
    with pytest.raises(ValueError, match="bytes"):
        sealer.part_into(0, b"text", memoryview(bytearray(3)))
    with pytest.raises(RuntimeError):
        sealer.part(0, b"other")


def test_id_keys_differ_by_kind_and_survive_a_rotation():
    keys = [KEYRING.id_key(kind) for kind in ChunkKind]
    assert len(set(keys)) == len(ChunkKind)
    assert keys == [ROTATED.id_key(kind) for kind in ChunkKind]
    other = Keyring(REPOSITORY, {1: bytes([3]) * 32})
    assert not set(keys) & {other.id_key(kind) for kind in ChunkKind}


@given(st.text(max_size=20), st.text(max_size=20), st.binary(max_size=50), st.binary(max_size=50))
def test_a_mac_is_for_one_purpose_and_one_text(purpose, other, text, changed):
    tag = KEYRING.mac(purpose, text)
    assert KEYRING.mac_matches(purpose, text, tag)
    assert KEYRING.mac_matches(other, text, tag) == (other == purpose)
    assert KEYRING.mac_matches(purpose, changed, tag) == (changed == text)
    assert not KEYRING.mac_matches(purpose, text, tag[:-1])


def test_a_keyring_shows_no_key():
    assert bytes([1]) * 32 not in repr(ROTATED).encode()
    assert "01010101" not in repr(ROTATED)


def test_an_object_is_named_by_its_bytes():
    assert object_name(b"").hex() == "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262"
    assert object_name(memoryview(b"a")) == object_name(b"a") != object_name(b"b")
