"""One version of an acceptor's state, as bytes on a site that may lie.

Layout: magic `drA1` (4 bytes) ‖ body (MessagePack array, the fields of `Record` in order) ‖ MAC (32 bytes over magic ‖
body). The MAC covers the site, its incarnation, the repository, the generation, the configuration and the version, so a
record cannot be replayed in another place or at another time. The length is checked first and the MAC second, so
hostile bytes never reach the parser.

Invariants
    A decoded record equals the encoded one, byte for byte. Anything else raises `FormatError`.
    `prev` is the hash of the version before, or all zeros for version 1.
"""

from collections.abc import Callable

import msgspec
from blake3 import blake3

from drtool.errors import FormatError
from drtool.paxos.ballot import Ballot, is_sound

MAGIC = b"drA1"
MAC_BYTES = 32
HASH_BYTES = 32
ID_BYTES = 16
RECORD_LIMIT_BYTES = 1 << 20
VERSION_LIMIT = 10**12

Mac = Callable[[bytes], bytes]
Verify = Callable[[bytes, bytes], bool]


class Chain(msgspec.Struct, frozen=True, array_like=True):
    """The identity of an acceptor: everything that stays the same from version to version."""

    site: str
    incarnation: bytes
    repository: bytes
    generation: int
    config_number: int


class Record(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """The state of one acceptor: the ballot it promised, the value it accepted last, and that value's ballot."""

    version: int
    prev: bytes
    chain: Chain
    promised: Ballot
    accepted: Ballot
    value: bytes
    token: bytes


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Record)


def encode_record(record: Record, mac: Mac) -> bytes:
    """Return the bytes of `record` under the repository's key."""
    body = MAGIC + _encoder.encode(record)
    if len(body) + MAC_BYTES > RECORD_LIMIT_BYTES:
        raise FormatError(f"an acceptor record of {len(body)} bytes is larger than {RECORD_LIMIT_BYTES} allows")
    return body + mac(body)


def decode_record(data: bytes, verify: Verify) -> Record:
    """Return the record in `data`. `FormatError` for anything that `encode_record` with this key did not make."""
    if not len(MAGIC) + MAC_BYTES < len(data) <= RECORD_LIMIT_BYTES:
        raise FormatError(f"an acceptor record cannot be {len(data)} bytes long")
    body, tag = data[:-MAC_BYTES], data[-MAC_BYTES:]
    if body[: len(MAGIC)] != MAGIC:
        raise FormatError("not an acceptor record, or one of another format version")
    if not verify(body, tag):
        raise FormatError("an acceptor record that this repository's key did not make")
    return _checked(_parse(body[len(MAGIC) :]))


def _parse(body: bytes) -> Record:
    try:
        return _decoder.decode(body)
    except msgspec.MsgspecError as error:
        raise FormatError(f"an authentic acceptor record that cannot be parsed: {error}") from error


def _checked(record: Record) -> Record:
    lengths = (len(record.prev), len(record.token), len(record.chain.incarnation), len(record.chain.repository))
    if lengths != (HASH_BYTES, ID_BYTES, ID_BYTES, ID_BYTES) or not 1 <= record.version < VERSION_LIMIT:
        raise FormatError("an authentic acceptor record with fields out of range")
    if not (is_sound(record.promised) and is_sound(record.accepted) and record.accepted <= record.promised):
        raise FormatError("an authentic acceptor record with ballots out of range")
    return record


def record_hash(data: bytes) -> bytes:
    """Return the hash that the next version names as `prev`: BLAKE3 of all bytes, MAC included."""
    return blake3(data).digest()
