"""A key slot opens with its password, and a hostile one costs nothing."""

import base64
import json
from contextlib import suppress

import msgspec
import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import given, settings
from hypothesis import strategies as st
from thoroughness import sample

from drtool.crypto import Keyring, KeySlot, SealKind, open_slot, seal_slot, slots
from drtool.errors import FormatError, WrongPassword
from drtool.model import RepositoryId

PASSWORD = b"correct horse \xff"
KEYRING = Keyring(RepositoryId(bytes(16)), {1: bytes([1]) * 32, 7: bytes([7]) * 32})


@pytest.fixture(scope="module")
def slot():
    return seal_slot(KEYRING, PASSWORD, "Ève's laptop")


@pytest.fixture
def work(monkeypatch):
    """Count the derivations, and make them cheap: these tests are about the steps before and after."""
    done = []

    class Cheap:
        def __init__(self, **parameters):
            self.parameters = parameters

        def derive(self, password):
            done.append(self.parameters)
            return password.ljust(32, b"\0")

    monkeypatch.setattr(slots, "Argon2id", Cheap)
    return done


def changed(slot, **fields):
    return msgspec.structs.replace(slot, **fields)


def with_parameters(slot, **fields):
    return changed(slot, argon2id=msgspec.structs.replace(slot.argon2id, **fields))


def test_the_password_opens_the_slot_as_it_was_stored(slot):
    opened = open_slot(KeySlot.decode(slot.encode()), PASSWORD)
    assert opened.masters == KEYRING.masters
    assert opened.repository == KEYRING.repository
    assert opened.open(SealKind.HEAD, KEYRING.seal(SealKind.HEAD, b"text")) == b"text"


def test_any_other_password_is_wrong(slot, work):
    sealed = seal_slot(KEYRING, PASSWORD, "cheap")
    for password in (b"", PASSWORD[:-1], PASSWORD + b"\n", b"correct horse"):
        with pytest.raises(WrongPassword):
            open_slot(sealed, password)
    assert open_slot(sealed, PASSWORD).masters == KEYRING.masters


@pytest.mark.parametrize(
    "change",
    [
        lambda s: changed(s, id="00" * 8),
        lambda s: changed(s, repository="ff" * 16),
        lambda s: changed(s, label="another label"),
        lambda s: with_parameters(s, memory_kib=128 * 1024),
        lambda s: with_parameters(s, passes=4),
        lambda s: with_parameters(s, lanes=5),
        lambda s: with_parameters(s, salt=bytes(16)),
        lambda s: changed(s, nonce=bytes(12)),
        lambda s: changed(s, wrapped=b""),
        lambda s: changed(s, wrapped=s.wrapped[:-1]),
        lambda s: changed(s, wrapped=bytes([s.wrapped[0] ^ 1]) + s.wrapped[1:]),
    ],
)
def test_a_changed_slot_does_not_open(change, work):
    with pytest.raises(WrongPassword):
        open_slot(change(seal_slot(KEYRING, PASSWORD, "label")), PASSWORD)


OUTSIDE = {
    "format": lambda d: d.update(format=2),
    "less memory": lambda d: d["argon2id"].update(memory_kib=64 * 1024 - 1),
    "more memory": lambda d: d["argon2id"].update(memory_kib=1024 * 1024 + 1),
    "huge memory": lambda d: d["argon2id"].update(memory_kib=2**63),
    "no passes": lambda d: d["argon2id"].update(passes=0),
    "more passes": lambda d: d["argon2id"].update(passes=11),
    "no lanes": lambda d: d["argon2id"].update(lanes=0),
    "more lanes": lambda d: d["argon2id"].update(lanes=17),
    "a short salt": lambda d: d["argon2id"].update(salt=base64.b64encode(bytes(8)).decode()),
    "a long nonce": lambda d: d.update(nonce=base64.b64encode(bytes(13)).decode()),
    "not base64": lambda d: d.update(nonce="%"),
    "an id that is a path": lambda d: d.update(id="../../../etc/pas"),
    "an id with a line end": lambda d: d.update(id="a\n" + "0" * 14),
    "no repository": lambda d: d.update(repository="zz" * 16),
    "upper case": lambda d: d.update(repository="AB" * 16),
    "a label with a line end": lambda d: d.update(label="a\nb"),
    "an unknown field": lambda d: d.update(extra=1),
    "a missing field": lambda d: d.pop("nonce"),
    "a number for a label": lambda d: d.update(label=5),
}


@pytest.mark.parametrize("what", OUTSIDE)
def test_costs_outside_the_bounds_are_refused_before_any_work(what, slot, work):
    document = json.loads(slot.encode())
    OUTSIDE[what](document)
    with pytest.raises(FormatError):
        KeySlot.decode(json.dumps(document).encode())
    assert work == []


def test_bounds_hold_for_slots_that_were_never_decoded(slot, work):
    with pytest.raises(FormatError):
        open_slot(with_parameters(slot, memory_kib=8), PASSWORD)
    assert work == []


@pytest.mark.parametrize(
    "junk",
    [b"", b"\xff", b'{"label":"\xff"}', b'{"label":"\\ud800"}', b"[" * 15000, b'{"x":' * 3000, bytes(16 * 1024 + 1)],
)
def test_bytes_that_are_no_slot_are_a_format_error(junk):
    with pytest.raises(FormatError):
        KeySlot.decode(junk)


@settings(max_examples=sample(200))
@given(st.data())
def test_a_slot_with_some_bytes_changed_opens_or_is_refused(data):
    text = bytearray(SEALED)
    for _ in range(data.draw(st.integers(1, 3))):
        text[data.draw(st.integers(0, len(text) - 1))] = data.draw(st.integers(0, 255))
    with suppress(FormatError):
        assert KeySlot.decode(bytes(text)).format == 1


SEALED = KeySlot(
    id="0123456789abcdef",
    repository="00" * 16,
    label="label",
    argon2id=slots.Argon2Parameters(salt=bytes(16)),
    nonce=bytes(12),
    wrapped=bytes(60),
).encode()


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"\xc1",
        msgspec.msgpack.encode([{}]),
        msgspec.msgpack.encode([{2: bytes(32)}]),
        msgspec.msgpack.encode([{1: bytes(31)}]),
        msgspec.msgpack.encode([{1: bytes(32), 0: bytes(32)}]),
        msgspec.msgpack.encode([{1: bytes(32), 2**32: bytes(32)}]),
        msgspec.msgpack.encode([{"one": bytes(32)}]),
    ],
)
def test_authentic_but_malformed_keys_are_a_format_error(text, work):
    slot = seal_slot(KEYRING, PASSWORD, "label")
    wrapped = AESGCM(PASSWORD.ljust(32, b"\0")).encrypt(slot.nonce, text, slots._bound_to(slot))
    with pytest.raises(FormatError):
        open_slot(changed(slot, wrapped=wrapped), PASSWORD)


def test_two_slots_of_one_keyring_have_nothing_in_common(work):
    one, two = (seal_slot(KEYRING, PASSWORD, "label") for _ in range(2))
    assert len({one.id, two.id}) == len({one.nonce, two.nonce}) == 2
    assert one.argon2id.salt != two.argon2id.salt
    assert one.wrapped != two.wrapped
