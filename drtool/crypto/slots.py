"""A key slot: the master keys, wrapped by a password, as a small JSON document on every target.

Invariants
    The wrapped text is bound to the repository, the slot, its label and the parameters of the derivation.
    A slot with a field outside the bounds is refused when it is decoded, before any work. So a hostile slot neither
    weakens nor exhausts a host, and is skipped like any other that does not parse.

Source: RFC 9106 (Argon2id); NIST SP 800-38D (AES-256-GCM).
"""

import os
import threading
from collections.abc import Callable

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id

from drtool.crypto.keyring import MASTER_KEY_BYTES, Keyring
from drtool.errors import FormatError, WrongPassword
from drtool.model import RepositoryId

SLOT_FORMAT = 1
SLOT_BYTES_MAX = 16 * 1024
GENERATION_MAX = 2**32 - 1
_SLOT_ID_BYTES = 8
_REPOSITORY_ID_BYTES = 16
_SALT_BYTES = 16
_NONCE_BYTES = 12
_MEMORY_KIB_BOUNDS = (64 * 1024, 1024 * 1024)
_PASSES_BOUNDS = (1, 10)
_LANES_BOUNDS = (1, 16)
_ONE_AT_A_TIME = threading.Lock()
"""OpenSSL sets the number of threads for the lanes process-wide.

Two concurrent derivations with lanes deadlock, or fail as if there were no memory.
"""


class Argon2Parameters(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    memory_kib: int = 64 * 1024
    passes: int = 3
    lanes: int = 4
    salt: bytes

    @property
    def work(self) -> int:
        """Return the cost of a derivation, in KiB times passes."""
        return self.memory_kib * self.passes


class KeySlot(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The content of `keys/<id>`: JSON, with binary fields in base64."""

    format: int = SLOT_FORMAT
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
            raise FormatError(f"a key slot cannot have {len(data)} bytes")
        try:
            slot = msgspec.json.decode(data, type=cls)
        except (msgspec.MsgspecError, ValueError, RecursionError) as error:
            raise FormatError(f"a key slot does not parse: {error}") from None
        _check(slot)
        return slot


class _Wrapped(msgspec.Struct, array_like=True, frozen=True):
    masters: dict[int, bytes]


def seal_slot(keyring: Keyring, password: bytes, label: str, draw: Callable[[int], bytes] = os.urandom) -> KeySlot:
    """Return a new slot that opens `keyring` with `password`."""
    slot = KeySlot(
        id=draw(_SLOT_ID_BYTES).hex(),
        repository=keyring.repository.hex(),
        label=label,
        argon2id=Argon2Parameters(salt=draw(_SALT_BYTES)),
        nonce=draw(_NONCE_BYTES),
        wrapped=b"",
    )
    _check(slot)
    text = msgspec.msgpack.encode(_Wrapped(dict(keyring.masters)))
    wrapped = AESGCM(_wrapping_key(slot, password)).encrypt(slot.nonce, text, _bound_to(slot))
    return msgspec.structs.replace(slot, wrapped=wrapped)


def open_slot(slot: KeySlot, password: bytes) -> Keyring:
    """Return the keyring in `slot`. WrongPassword if this password did not seal it, or if it was changed."""
    _check(slot)
    key = _wrapping_key(slot, password)
    try:
        text = AESGCM(key).decrypt(slot.nonce, slot.wrapped, _bound_to(slot))
    except (InvalidTag, ValueError):
        raise WrongPassword(f"the password does not open key slot {slot.id} ({slot.label})") from None
    try:
        masters = msgspec.msgpack.decode(text, type=_Wrapped).masters
    except (msgspec.MsgspecError, ValueError) as error:
        raise FormatError(f"the keys in key slot {slot.id} do not parse: {error}") from None
    sound = all(0 < number <= GENERATION_MAX and len(key) == MASTER_KEY_BYTES for number, key in masters.items())
    if 1 not in masters or not sound:
        raise FormatError(f"key slot {slot.id} holds no complete set of keys")
    return Keyring(RepositoryId(bytes.fromhex(slot.repository)), masters, slot=slot.id)


def _wrapping_key(slot: KeySlot, password: bytes) -> bytes:
    parameters = slot.argon2id
    derivation = Argon2id(
        salt=parameters.salt,
        length=32,
        iterations=parameters.passes,
        lanes=parameters.lanes,
        memory_cost=parameters.memory_kib,
    )
    with _ONE_AT_A_TIME:
        return derivation.derive(password)


def _check(slot: KeySlot) -> None:
    """Raise FormatError unless every field is within the format's bounds."""
    if slot.format != SLOT_FORMAT:
        raise FormatError(
            f"a key slot has format version {slot.format}, but this program reads version {SLOT_FORMAT}",
            hint="use the newest drtool that any host of this repository uses",
        )
    # the bound fields are joined by line ends, and the label is the only one that could contain them
    if not _is_hex(slot.id, _SLOT_ID_BYTES) or not _is_hex(slot.repository, _REPOSITORY_ID_BYTES):
        raise FormatError("a key slot's ids are not hexadecimal numbers of the right length")
    if not slot.label.isprintable():
        raise FormatError(f"the label of key slot {slot.id} holds control characters")
    parameters = slot.argon2id
    _within("memory_kib", parameters.memory_kib, _MEMORY_KIB_BOUNDS)
    _within("passes", parameters.passes, _PASSES_BOUNDS)
    _within("lanes", parameters.lanes, _LANES_BOUNDS)
    if len(parameters.salt) != _SALT_BYTES or len(slot.nonce) != _NONCE_BYTES:
        raise FormatError(f"key slot {slot.id} has a salt or nonce of the wrong length")


def _is_hex(text: str, size_bytes: int) -> bool:
    return len(text) == 2 * size_bytes and set(text) <= set("0123456789abcdef")


def _within(name: str, value: int, bounds: tuple[int, int]) -> None:
    low, high = bounds
    if not low <= value <= high:
        raise FormatError(f"a key slot asks for Argon2id {name} {value}, but only {low} to {high} is accepted")


def _bound_to(slot: KeySlot) -> bytes:
    parameters = slot.argon2id
    numbers = (slot.format, parameters.memory_kib, parameters.passes, parameters.lanes)
    fields = (slot.repository, slot.id, slot.label, *map(str, numbers), parameters.salt.hex())
    return "\n".join(("drtool/1/slot", *fields)).encode()
