"""A key slot: the master keys, wrapped by a password, as a small JSON document on every target.

Invariants
    The wrapped text is bound to the repository, the slot and the derivation's parameters.
    Parameters outside the bounds are refused before any work: a hostile slot neither weakens nor exhausts a host.

Source: RFC 9106 (Argon2id); NIST SP 800-38D (AES-256-GCM).
"""

import os

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id

from drtool.crypto.keyring import MASTER_KEY_BYTES, Keyring
from drtool.errors import FormatError, WrongPassword
from drtool.model import RepositoryId

SLOT_BYTES_MAX = 16 * 1024
_MEMORY_KIB_BOUNDS = (64 * 1024, 1024 * 1024)
_PASSES_BOUNDS = (1, 10)
_LANES_BOUNDS = (1, 16)


class Argon2Parameters(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    memory_kib: int = 64 * 1024
    passes: int = 3
    lanes: int = 4
    salt: bytes


class KeySlot(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What lies at `keys/<id>`; JSON, binary fields in base64."""

    format: int = 1
    id: str
    repository: str
    label: str
    argon2id: Argon2Parameters
    nonce: bytes
    wrapped: bytes

    def encode(self) -> bytes:
        return msgspec.json.format(msgspec.json.encode(self), indent=2) + b"\n"

    @classmethod
    def decode(cls, data: bytes) -> "KeySlot":
        if len(data) > SLOT_BYTES_MAX:
            raise FormatError(f"a key slot of {len(data)} bytes is no key slot")
        try:
            return msgspec.json.decode(data, type=cls)
        except msgspec.MsgspecError as error:
            raise FormatError(f"a key slot does not parse: {error}") from None


class _Wrapped(msgspec.Struct, array_like=True, frozen=True):
    masters: dict[int, bytes]


def seal_slot(keyring: Keyring, password: bytes, label: str) -> KeySlot:
    """A new slot that opens `keyring` with `password`."""
    slot = KeySlot(
        id=os.urandom(8).hex(),
        repository=keyring.repository.hex(),
        label=label,
        argon2id=Argon2Parameters(salt=os.urandom(16)),
        nonce=os.urandom(12),
        wrapped=b"",
    )
    text = msgspec.msgpack.encode(_Wrapped(dict(keyring.masters)))
    wrapped = AESGCM(_wrapping_key(slot, password)).encrypt(slot.nonce, text, _bound_to(slot))
    return msgspec.structs.replace(slot, wrapped=wrapped)


def open_slot(slot: KeySlot, password: bytes) -> Keyring:
    """The keyring in `slot`; WrongPassword if this password did not seal it (or somebody changed it)."""
    key = _wrapping_key(slot, password)
    try:
        text = AESGCM(key).decrypt(slot.nonce, slot.wrapped, _bound_to(slot))
    except (InvalidTag, ValueError):
        raise WrongPassword(f"the password does not open key slot {slot.id} ({slot.label})") from None
    masters = msgspec.msgpack.decode(text, type=_Wrapped).masters
    if 1 not in masters or any(len(key) != MASTER_KEY_BYTES for key in masters.values()):
        raise FormatError(f"key slot {slot.id} holds no complete set of keys")
    return Keyring(RepositoryId(bytes.fromhex(slot.repository)), masters)


def _wrapping_key(slot: KeySlot, password: bytes) -> bytes:
    parameters = slot.argon2id
    _within("memory_kib", parameters.memory_kib, _MEMORY_KIB_BOUNDS)
    _within("passes", parameters.passes, _PASSES_BOUNDS)
    _within("lanes", parameters.lanes, _LANES_BOUNDS)
    if len(parameters.salt) != 16 or len(slot.nonce) != 12:
        raise FormatError(f"key slot {slot.id} has a salt or nonce of the wrong length")
    return Argon2id(
        salt=parameters.salt,
        length=32,
        iterations=parameters.passes,
        lanes=parameters.lanes,
        memory_cost=parameters.memory_kib,
    ).derive(password)


def _within(name: str, value: int, bounds: tuple[int, int]) -> None:
    low, high = bounds
    if not low <= value <= high:
        raise FormatError(f"a key slot asks for Argon2id {name} {value}; only {low} to {high} is accepted")


def _bound_to(slot: KeySlot) -> bytes:
    parameters = slot.argon2id
    numbers = (slot.format, parameters.memory_kib, parameters.passes, parameters.lanes)
    fields = (slot.repository, slot.id, slot.label, *map(str, numbers), parameters.salt.hex())
    return "\n".join(("drtool/1/slot", *fields)).encode()
