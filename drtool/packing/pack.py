"""A pack: about 16 MiB of sealed blocks in one object, readable block by block, with its table of contents at its end.

Layout: header (48 bytes, crypto/sealing.py) ‖ sealed block 0 ‖ … ‖ sealed block n-1 ‖ sealed footer ‖
length of the sealed footer (u32) ‖ n (u32) ‖ "drtp"; numbers big-endian. Blocks lie one behind the other without gaps, so
their offsets follow from their lengths. The footer's text is msgpack, see `_Footer`. Block i is part i of the seal.

Invariants
    Bytes are sealed once, in memory: every copy, retry and repair sends the same bytes, whose BLAKE3 is the pack's name.
    A pack holds data, or trees and lists, never both.
"""

import mmap
from enum import IntEnum

import msgspec
import zstandard

from drtool.crypto import HEADER_BYTES, TAG_BYTES, Keyring, SealKind, object_name
from drtool.errors import FormatError, SealBroken
from drtool.model import Buffer, ChunkId, PackId

PACK_BYTES = 16 * 1024 * 1024
PACK_CHUNKS_MAX = 64 * 1024
BLOCK_BYTES_MAX = 16 * 1024 * 1024
FOOTER_BYTES_MAX = 16 * 1024 * 1024
TRAILER_BYTES = 12
_TRAILER_MAGIC = b"drtp"
_ID_BYTES = 32
_PROBE_BYTES = 8 * 1024
_PROBE_FROM_BYTES = 64 * 1024
_CAPACITY_BYTES = PACK_BYTES + 3 * 1024 * 1024 + PACK_CHUNKS_MAX * 2 * (_ID_BYTES + 8)


class PackKind(IntEnum):
    DATA = 1
    TREES = 2


class Codec(IntEnum):
    RAW = 0
    ZSTD = 1


class BlockRecord(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """One block: `length` is sealed, `text_length` what it opens and decompresses to; both in bytes."""

    length: int
    codec: int
    text_length: int
    ids: bytes
    lengths: tuple[int, ...]

    def chunks(self) -> list[ChunkId]:
        return [ChunkId(self.ids[i : i + _ID_BYTES]) for i in range(0, len(self.ids), _ID_BYTES)]


class PackContents(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """A pack's footer, and what the writer hands on to the index."""

    kind: int
    blocks: tuple[BlockRecord, ...]

    def offsets(self) -> list[int]:
        """Where each block begins in the pack."""
        offsets, at = [], HEADER_BYTES
        for block in self.blocks:
            offsets.append(at)
            at += block.length
        return offsets


class PackBuilder:
    """Fills one page-aligned buffer with one pack; `begin` starts the next pack in the same buffer.

    Not for a forked child: an open pack's salt belongs to the process that drew it.
    """

    def __init__(self, keyring: Keyring, kind: PackKind, compressor: zstandard.ZstdCompressor) -> None:
        self._keyring = keyring
        self._kind = kind
        self._compressor = compressor
        self._buffer = memoryview(mmap.mmap(-1, _CAPACITY_BYTES))  # page-aligned, so that a store may write it O_DIRECT
        self.begin()

    def begin(self) -> None:
        self._sealer = self._keyring.sealer(SealKind.PACK)
        self._buffer[:HEADER_BYTES] = self._sealer.header
        self._end = HEADER_BYTES
        self._blocks: list[BlockRecord] = []
        self._chunk_count = 0

    @property
    def empty(self) -> bool:
        return not self._blocks

    @property
    def full(self) -> bool:
        return self._end >= PACK_BYTES or self._chunk_count >= PACK_CHUNKS_MAX

    def add_block(self, text: Buffer, ids: list[ChunkId], lengths: list[int]) -> None:
        """Compresses and seals one block of whole chunks."""
        codec, body = compress(self._compressor, text)
        length = len(body) + TAG_BYTES
        self._sealer.part_into(len(self._blocks), body, self._buffer[self._end : self._end + length])
        self._blocks.append(BlockRecord(length, codec, len(text), b"".join(ids), tuple(lengths)))
        self._end += length
        self._chunk_count += len(ids)

    def finish(self) -> tuple[PackId, memoryview, PackContents]:
        """The pack's name, its bytes (valid until the next `begin`) and its contents."""
        contents = PackContents(self._kind, tuple(self._blocks))
        footer = self._sealer.footer(len(self._blocks), msgspec.msgpack.encode(contents))
        trailer = len(footer).to_bytes(4, "big") + len(self._blocks).to_bytes(4, "big") + _TRAILER_MAGIC
        end = self._end + len(footer) + TRAILER_BYTES
        self._buffer[self._end : end] = footer + trailer
        pack = self._buffer[:end]
        return PackId(object_name(pack)), pack, contents


def compress(compressor: zstandard.ZstdCompressor, text: Buffer) -> tuple[Codec, Buffer]:
    """The shorter of `text` and its compression; a probe from its middle spares the work where there is nothing to gain."""
    if len(text) >= _PROBE_FROM_BYTES:
        middle = len(text) // 2
        probe = memoryview(text)[middle : middle + _PROBE_BYTES]
        if len(compressor.compress(probe)) > _PROBE_BYTES * 0.97:
            return Codec.RAW, text
    body = compressor.compress(text)
    return (Codec.ZSTD, body) if len(body) < len(text) else (Codec.RAW, text)


def decompress(codec: int, body: bytes, text_length: int) -> bytes:
    """The text of an opened block; FormatError unless it has exactly the promised length."""
    if text_length > BLOCK_BYTES_MAX:
        raise FormatError(f"a block claims {text_length} bytes; {BLOCK_BYTES_MAX} is the most")
    if codec == Codec.RAW:
        text = body
    elif codec == Codec.ZSTD:
        try:
            # one context a call: a shared one is not safe between threads, and this costs 1 µs
            text = zstandard.ZstdDecompressor().decompress(body, max_output_size=text_length, allow_extra_data=False)
        except zstandard.ZstdError as error:
            raise FormatError(f"a block does not decompress: {error}") from None
    else:
        raise FormatError(f"a block is compressed by method {codec}, which this program does not know")
    if len(text) != text_length:
        raise FormatError(f"a block of {text_length} bytes opens to {len(text)}")
    return text


def open_block(keyring: Keyring, header: Buffer, index: int, sealed: Buffer, codec: int, text_length: int) -> bytes:
    """Block `index`'s text, given the pack's first 48 bytes and the sealed block; SealBroken if a byte is off."""
    return decompress(codec, keyring.opener(SealKind.PACK, header).part(index, sealed), text_length)


def footer_span(size_bytes: int, trailer: Buffer) -> tuple[int, int, int]:
    """(start, length, number of blocks) of the sealed footer, from the pack's size and its last 12 bytes."""
    trailer = bytes(trailer)
    length, count = int.from_bytes(trailer[:4], "big"), int.from_bytes(trailer[4:8], "big")
    start = size_bytes - TRAILER_BYTES - length
    if (
        len(trailer) != TRAILER_BYTES
        or trailer[8:] != _TRAILER_MAGIC
        or length > FOOTER_BYTES_MAX
        or start < HEADER_BYTES
    ):
        raise SealBroken("a pack is cut short or is no pack")
    return start, length, count


def open_footer(keyring: Keyring, header: Buffer, count: int, sealed: Buffer, footer_start: int) -> PackContents:
    """The pack's contents, checked against the room that its blocks have."""
    text = keyring.opener(SealKind.PACK, header).footer(count, sealed)
    try:
        contents = msgspec.msgpack.decode(text, type=PackContents)
    except msgspec.MsgspecError as error:
        raise FormatError(f"a pack's table of contents does not parse: {error}") from None
    if len(contents.blocks) != count or HEADER_BYTES + sum(b.length for b in contents.blocks) != footer_start:
        raise FormatError("a pack's table of contents does not fit the pack")
    return contents


def read_footer(keyring: Keyring, pack: Buffer) -> PackContents:
    """The contents of a whole pack in memory."""
    view = memoryview(pack)
    if len(view) < HEADER_BYTES + TRAILER_BYTES:
        raise SealBroken("a pack is cut short or is no pack")
    start, length, count = footer_span(len(view), view[-TRAILER_BYTES:])
    return open_footer(keyring, view[:HEADER_BYTES], count, view[start : start + length], start)
