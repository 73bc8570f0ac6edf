"""The head: the value that Paxos guards, and the only mutable part of the manifest.

Layout of a sealed value: the sealing routine of `crypto` around zstd-compressed MessagePack.

Invariants
    digest(n) = BLAKE3("drtool/1/change" ‖ digest(n-1) ‖ the change's bytes), so a head names its whole past.
    At most `RECENT_LIMIT` changes, or one writer's batch, are in the head. Older ones are in its checkpoint.
    The checkpoint that a head names was durable on a quorum of sites before the head was proposed.
    A head, and each new page under it, is sealed under a key that was current in the catalogue that it is built on,
    regardless of this process's newest key. So the slots that the head itself names hold that key.
"""

from typing import TypeVar

import msgspec
import zstandard
from blake3 import blake3

from drtool.crypto import SealKind, object_name
from drtool.errors import FormatError
from drtool.manifest.ops import Change, encode_change
from drtool.manifest.ports import Keys
from drtool.manifest.records import Config, KeyTable, Row, Session

RECENT_LIMIT = 64
RECENT_LIMIT_BYTES = 64 * 1024
OBJECT_LIMIT_BYTES = 256 << 20
NO_DIGEST = bytes(32)

S = TypeVar("S", bound=Row)


class Reference(Row, frozen=True):
    """An immutable object by name (BLAKE3 of its sealed bytes) and size."""

    name: bytes
    size_bytes: int


class Head(Row, frozen=True):
    """The tip of the manifest.

    `stop`: the configuration that follows `config`. In `config` no head is built upon one with `stop`. In its successor
    such a head is the first one.
    """

    sequence: int
    digest: bytes
    config: Config
    recent: tuple[Change, ...]
    sessions: tuple[Session, ...]
    checkpoint: Reference | None = None
    checkpoint_sequence: int = 0
    checkpoint_digest: bytes = NO_DIGEST
    stop: Config | None = None


def digest_after(digest: bytes, change: Change) -> bytes:
    return blake3(b"drtool/1/change" + digest + encode_change(change)).digest()


def digests_of(head: Head) -> list[bytes]:
    """Return the digest after the checkpoint and after each recent change. The last one is the head's own.

    `FormatError` if it is not, since the head then contradicts itself.
    """
    digests = [head.checkpoint_digest]
    for change in head.recent:
        digests.append(digest_after(digests[-1], change))
    if digests[-1] != head.digest or head.checkpoint_sequence + len(head.recent) != head.sequence:
        raise FormatError(f"the manifest's head {head.sequence} does not match its own digest")
    return digests


def seal_row(keys: Keys, kind: SealKind, row: Row, table: KeyTable | None = None) -> bytes:
    """Return a row as sealed bytes. `table`: seal under a key that these key slots are sure to hold."""
    packed = zstandard.ZstdCompressor(level=3).compress(msgspec.msgpack.encode(row))
    return keys.seal(kind, packed, None if table is None else table.generation)


def open_row(keys: Keys, kind: SealKind, sealed: bytes, row_type: type[S]) -> S:
    """Return the row in sealed bytes.

    `SealBroken` if the key does not open them, `FormatError` if they cannot be parsed.
    """
    packed = keys.open(kind, sealed)
    try:
        plain = zstandard.ZstdDecompressor().decompress(packed, max_output_size=OBJECT_LIMIT_BYTES)
        return msgspec.msgpack.decode(plain, type=row_type)
    except (zstandard.ZstdError, msgspec.MsgspecError) as error:
        raise FormatError(
            f"an authentic {row_type.__name__.lower()} of the manifest cannot be parsed: {error}",
            hint="a newer drtool may have written it: upgrade this one",
        ) from error


def seal_head(keys: Keys, head: Head, table: KeyTable) -> bytes:
    """Return the head as an acceptor's value. `table`: the key slots of the catalogue that it is built on."""
    return seal_row(keys, SealKind.HEAD, head, table)


def open_head(keys: Keys, value: bytes) -> Head:
    """Return the head in an acceptor's value, with its digest checked."""
    head = open_row(keys, SealKind.HEAD, value, Head)
    digests_of(head)
    return head


def reference_to(sealed: bytes) -> Reference:
    return Reference(object_name(sealed), len(sealed))
