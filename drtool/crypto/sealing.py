"""The only sealing routine: a header, numbered parts and a footer, in AES-256-GCM under a key for this object alone.

Layout of the header, 48 bytes: magic `drtool` (6), format version (1), kind (1), key generation (u32, big-endian), four zero
bytes, salt (32, drawn from the system for this object).

Invariants
    The key is HKDF-SHA256(master key of that generation, salt, "drtool/1/" + kind). Part i has nonce i (96 bits,
    big-endian), and the footer 2^96 - 1. Parts are sealed in order, each once, and nothing after the footer. A sealer
    refuses anything else, so no (key, nonce) pair ever seals two texts, as long as a salt seals one object.
    Associated data is header ‖ "P" ‖ i for a part, and header ‖ "F" ‖ number of parts for the footer. So bytes that
    were cut, swapped, spliced, relabelled or moved to another kind do not open.

Source: NIST SP 800-38D (GCM); RFC 5869 (HKDF).
"""

from collections.abc import Callable
from enum import IntEnum

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from drtool.errors import FormatError, SealBroken
from drtool.model import Buffer

MAGIC = b"drtool"
FORMAT_VERSION = 1
HEADER_BYTES = 48
SALT_BYTES = 32
TAG_BYTES = 16
_FOOTER_NONCE = b"\xff" * 12
_NOTHING_MORE = -1


class SealKind(IntEnum):
    """The kind of a sealed object. It is part of the key's derivation, so one kind never opens as another."""

    PACK = 1
    SEGMENT = 2
    HEAD = 3
    LOG_PAGE = 4
    CHECKPOINT = 5
    INBOX = 6
    OBJECT = 7
    JOURNAL = 8
    SUCCESSOR = 9
    MIRROR = 10

    @property
    def word(self) -> str:
        return self.name.lower().replace("_", "-")


def derive(master: bytes, salt: bytes, purpose: str) -> bytes:
    """Return a 32-byte key for `purpose`, independent of those for every other purpose and salt."""
    return HKDF(algorithm=SHA256(), length=32, salt=salt, info=f"drtool/1/{purpose}".encode()).derive(master)


def _header(kind: SealKind, generation: int, salt: bytes) -> bytes:
    return MAGIC + bytes((FORMAT_VERSION, kind)) + generation.to_bytes(4, "big") + bytes(4) + salt


class Sealer:
    """Seals one object: part 0, part 1, …, the footer. Each object has its own salt, and so its own sealer."""

    def __init__(self, master: bytes, generation: int, kind: SealKind, salt: bytes) -> None:
        self.header = _header(kind, generation, salt)
        self._next_part = 0
        self._cipher = AESGCM(derive(master, salt, kind.word))

    def part_into(self, index: int, plaintext: Buffer, out: memoryview) -> int:
        """Seal part `index` into `out`, of the text's length plus `TAG_BYTES`, and return that length."""
        return self._cipher.encrypt_into(index.to_bytes(12, "big"), plaintext, self._part(index), out)

    def part(self, index: int, plaintext: Buffer) -> bytes:
        return self._cipher.encrypt(index.to_bytes(12, "big"), plaintext, self._part(index))

    def footer(self, part_count: int, plaintext: Buffer) -> bytes:
        self._spend(part_count, then=_NOTHING_MORE)
        return self._cipher.encrypt(_FOOTER_NONCE, plaintext, _footer_data(self.header, part_count))

    def _part(self, index: int) -> bytes:
        self._spend(index, then=index + 1)
        return self.header + b"P" + index.to_bytes(8, "big")

    def _spend(self, index: int, then: int) -> None:
        """Use up a nonce before it is used. An object that fails half-way is dropped with its salt, never retried."""
        if index != self._next_part:
            raise RuntimeError(f"part {index} of a sealed object is sealed out of turn")
        self._next_part = then


class Opener:
    """Opens the parts and the footer of one sealed object, given its header and the master keys."""

    def __init__(self, master_of: Callable[[int], bytes], kind: SealKind, header: Buffer) -> None:
        self.header = bytes(header)
        generation, salt = _parse(self.header, kind)
        self._kind = kind
        self._cipher = AESGCM(derive(master_of(generation), salt, kind.word))

    def part(self, index: int, sealed: Buffer) -> bytes:
        associated = self.header + b"P" + index.to_bytes(8, "big")
        return self._open(index.to_bytes(12, "big"), sealed, associated, f"part {index}")

    def footer(self, part_count: int, sealed: Buffer) -> bytes:
        return self._open(_FOOTER_NONCE, sealed, _footer_data(self.header, part_count), "the footer")

    def _open(self, nonce: bytes, sealed: Buffer, associated: bytes, which: str) -> bytes:
        try:
            return self._cipher.decrypt(nonce, sealed, associated)
        except InvalidTag:
            raise SealBroken(f"{which} of a sealed {self._kind.word} is not as it was sealed") from None


def _footer_data(header: bytes, part_count: int) -> bytes:
    return header + b"F" + part_count.to_bytes(8, "big")


def _parse(header: bytes, kind: SealKind) -> tuple[int, bytes]:
    if len(header) != HEADER_BYTES or header[:6] != MAGIC:
        raise SealBroken(f"these bytes are not a sealed {kind.word}")
    if header[6] != FORMAT_VERSION:
        raise FormatError(
            f"a sealed {kind.word} has format version {header[6]}, but this program reads version {FORMAT_VERSION}",
            hint="use the newest drtool that any host of this repository uses",
        )
    if header[7] != kind or header[12:16] != bytes(4):
        raise SealBroken(f"a sealed object is not a {kind.word}")
    return int.from_bytes(header[8:12], "big"), header[16:]
