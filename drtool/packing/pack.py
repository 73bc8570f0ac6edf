"""A pack: about 16 MiB of sealed blocks in one object, readable block by block, with its table of contents at its end.

Layout: header (48 bytes, crypto/sealing.py) ‖ sealed block 0 ‖ … ‖ sealed block n-1 ‖ sealed footer ‖
length of the sealed footer (u32) ‖ n (u32) ‖ "drtp". Numbers are big-endian. Blocks follow each other without gaps, so
their offsets follow from their lengths. The footer's text is msgpack, see `_Footer`. Block i is part i of the seal.

A padded pack has one more block, of one chunk of zeros, and a footer with zeros after its record: its own size and its
footer's are size classes (padding.py). To every reader this is an ordinary pack.

Invariants
    Bytes are sealed once, in memory. Every copy, retry and repair sends the same bytes, whose BLAKE3 is the pack's
    name.
    A pack holds data, or trees and lists, never both.
    A reader of single blocks takes the header from the index, not from the target. Otherwise two packs of this
    repository with equal lengths could be mistaken for one another.
"""

import mmap
import os
from collections.abc import Sequence
from enum import IntEnum

import msgspec
import zstandard
from blake3 import blake3

from drtool.crypto import HEADER_BYTES, TAG_BYTES, ChunkKind, Keyring, SealKind, object_name
from drtool.errors import FormatError, SealBroken
from drtool.model import Buffer, ChunkId, PackId
from drtool.packing.bundle import BLOCK_CHUNKS_MAX
from drtool.packing.padding import size_class

PACK_BYTES = 16 * 1024 * 1024
PACK_CHUNKS_MAX = 64 * 1024
BLOCK_BYTES_MAX = 2**24 - 1
"""Limit of a block's text: offsets and lengths within it fit the index's 24 bits."""
FOOTER_BYTES_MAX = 16 * 1024 * 1024
TRAILER_BYTES = 12
_TRAILER_MAGIC = b"drtp"
_ID_BYTES = 32
_PROBE_BYTES = 8 * 1024
_PROBE_FROM_BYTES = 64 * 1024
_FOOTER_BYTES_PER_CHUNK = 64
"""At most 37 for a chunk's id and length, and 22 for the fields of a block, which has at least one chunk."""

# A pack that is not yet full accepts one more block of any size. Untouched pages of the buffer cost nothing.
_CAPACITY_BYTES = size_class(
    PACK_BYTES + BLOCK_BYTES_MAX + (PACK_CHUNKS_MAX + BLOCK_CHUNKS_MAX) * _FOOTER_BYTES_PER_CHUNK + 128 * 1024
)
_SHORT_BYTES = 255
"""MessagePack writes one byte more before longer ones."""


class PackKind(IntEnum):
    DATA = 1
    TREES = 2


class Codec(IntEnum):
    RAW = 0
    ZSTD = 1


class BlockRecord(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """One block. `length`: sealed. `text_length`: opened and decompressed. Both are in bytes."""

    length: int
    codec: int
    text_length: int
    ids: bytes
    lengths: tuple[int, ...]

    def chunks(self) -> list[ChunkId]:
        return [ChunkId(self.ids[i : i + _ID_BYTES]) for i in range(0, len(self.ids), _ID_BYTES)]


class _Footer(msgspec.Struct, array_like=True, frozen=True, gc=False):
    kind: int
    blocks: tuple[BlockRecord, ...]


class _PaddedFooter(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """The same with zeros after it, which readers ignore."""

    kind: int
    blocks: tuple[BlockRecord, ...]
    padding: bytes


class PackContents(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """The contents of a pack, from its footer or its writer, with the pack's first 48 bytes."""

    kind: int
    blocks: tuple[BlockRecord, ...]
    header: bytes

    def offsets(self) -> list[int]:
        """Return where each block begins in the pack."""
        offsets, at = [], HEADER_BYTES
        for block in self.blocks:
            offsets.append(at)
            at += block.length
        return offsets


class PackBuilder:
    """Fills one page-aligned buffer with one pack. `begin` starts the next pack in the same buffer.

    Not usable in a forked child, since an open pack's salt belongs to the process that drew it.
    """

    def __init__(
        self, keyring: Keyring, kind: PackKind, compressor: zstandard.ZstdCompressor, *, pads: bool = False
    ) -> None:
        self._keyring = keyring
        self._kind = kind
        self._pads = pads
        self._compressor = compressor
        self._buffer = memoryview(mmap.mmap(-1, _CAPACITY_BYTES))  # page-aligned, so that a store may write it O_DIRECT
        self.begin()

    def begin(self) -> None:
        self._sealer = self._keyring.sealer(SealKind.PACK)
        self._process = os.getpid()
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
        """Compress and seal one block of whole chunks, for which a pack that is not `full` has room."""
        if self._process != os.getpid():
            raise RuntimeError("an open pack was inherited by a forked process, so its salt would seal two texts")
        if self.full or not 0 < len(ids) <= BLOCK_CHUNKS_MAX or not 0 < len(text) <= BLOCK_BYTES_MAX:
            raise ValueError(f"a block of {len(text)} bytes in {len(ids)} chunks does not fit this pack")
        codec, body = compress(self._compressor, text)
        self._seal(body, BlockRecord(len(body) + TAG_BYTES, codec, len(text), b"".join(ids), tuple(lengths)))
        self._chunk_count += len(ids)

    def _seal(self, body: Buffer, block: BlockRecord) -> None:
        self._sealer.part_into(len(self._blocks), body, self._buffer[self._end : self._end + block.length])
        self._blocks.append(block)
        self._end += block.length

    def finish(self) -> tuple[PackId, memoryview, PackContents]:
        """Return the pack's name, its bytes (valid until the next `begin`) and its contents."""
        text = self._padded() if self._pads else msgspec.msgpack.encode(_Footer(self._kind, tuple(self._blocks)))
        contents = PackContents(self._kind, tuple(self._blocks), self._sealer.header)
        footer = self._sealer.footer(len(self._blocks), text)
        trailer = len(footer).to_bytes(4, "big") + len(self._blocks).to_bytes(4, "big") + _TRAILER_MAGIC
        end = self._end + len(footer) + TRAILER_BYTES
        self._buffer[self._end : end] = footer + trailer
        pack = self._buffer[:end]
        return PackId(object_name(pack)), pack, contents

    def _padded(self) -> bytes:
        """Seal a block of zeros that brings the pack to a size class, and return the footer's text, also padded."""
        zeros, footer = 1, b""
        while True:
            footer = _padded_footer(self._kind, [*self._blocks, _block_of_zeros(zeros, bytes(32))], len(footer))
            rest = self._end + TAG_BYTES + len(footer) + TAG_BYTES + TRAILER_BYTES
            wanted = size_class(rest + 1) - rest
            if wanted == zeros:
                break
            zeros = wanted
        text = bytes(zeros)
        key = self._keyring.id_key(ChunkKind.DATA if self._kind == PackKind.DATA else ChunkKind.TREE)
        self._seal(text, _block_of_zeros(zeros, blake3(text, key=key).digest()))
        return _padded_footer(self._kind, self._blocks, len(footer))


def _block_of_zeros(count: int, chunk: bytes) -> BlockRecord:
    return BlockRecord(count + TAG_BYTES, Codec.RAW, count, chunk, (count,))


def _padded_footer(kind: int, blocks: Sequence[BlockRecord], at_least: int) -> bytes:
    """Return a footer's text of `at_least` so many bytes, or of the next size class."""
    bare = len(msgspec.msgpack.encode(_PaddedFooter(kind, tuple(blocks), b"")))
    missing = max(at_least, size_class(bare)) - bare
    padding = bytes(missing if missing <= _SHORT_BYTES else max(_SHORT_BYTES + 1, missing - 1))
    return msgspec.msgpack.encode(_PaddedFooter(kind, tuple(blocks), padding))


def compress(compressor: zstandard.ZstdCompressor, text: Buffer) -> tuple[Codec, Buffer]:
    """Return the shorter of `text` and its compression. Probes avoid the work if there is nothing to gain."""
    if len(text) >= _PROBE_FROM_BYTES and not _promising(compressor, memoryview(text)):
        return Codec.RAW, text
    body = compressor.compress(text)
    return (Codec.ZSTD, body) if len(body) < len(text) else (Codec.RAW, text)


def _promising(compressor: zstandard.ZstdCompressor, text: memoryview) -> bool:
    """Return whether a piece of the beginning, middle or end gets smaller, since a chunk often mixes two kinds of data."""
    for start in (0, (len(text) - _PROBE_BYTES) // 2, len(text) - _PROBE_BYTES):
        if len(compressor.compress(text[start : start + _PROBE_BYTES])) < _PROBE_BYTES * 0.97:
            return True
    return False


def decompress(codec: int, body: bytes, text_length: int) -> bytes:
    """Return the text of an opened block. FormatError unless it has exactly the promised length."""
    if not 0 < text_length <= BLOCK_BYTES_MAX:
        raise FormatError(f"a block claims {text_length} bytes, but 1 to {BLOCK_BYTES_MAX} are possible")
    if codec == Codec.RAW:
        text = body
    elif codec == Codec.ZSTD:
        text = _unzstd(body, text_length)
    else:
        raise FormatError(f"a block is compressed by method {codec}, which this program does not support")
    if len(text) != text_length:
        raise FormatError(f"a block of {text_length} bytes opens to {len(text)}")
    return text


def _unzstd(body: bytes, text_length: int) -> bytes:
    try:
        # the library trusts the frame's own claim more than the given limit, and allocates that much
        if zstandard.frame_content_size(body) > text_length:
            raise FormatError(f"a block of {text_length} bytes claims to decompress to more")
        # one context per call (1 µs), since a shared one is not thread-safe
        return zstandard.ZstdDecompressor().decompress(body, max_output_size=text_length, allow_extra_data=False)
    except zstandard.ZstdError as error:
        raise FormatError(f"a block does not decompress: {error}") from None


def open_block(keyring: Keyring, header: Buffer, index: int, sealed: Buffer, codec: int, text_length: int) -> bytes:
    """Return block `index`'s text, given the pack's first 48 bytes and the sealed block. SealBroken if a byte differs."""
    return decompress(codec, keyring.opener(SealKind.PACK, header).part(index, sealed), text_length)


def footer_span(size_bytes: int, trailer: Buffer) -> tuple[int, int, int]:
    """Return (start, length, number of blocks) of the sealed footer, from the pack's size and its last 12 bytes."""
    trailer = bytes(trailer)
    length, count = int.from_bytes(trailer[:4], "big"), int.from_bytes(trailer[4:8], "big")
    start = size_bytes - TRAILER_BYTES - length
    if (
        len(trailer) != TRAILER_BYTES
        or trailer[8:] != _TRAILER_MAGIC
        or length > FOOTER_BYTES_MAX
        or start < HEADER_BYTES
    ):
        raise SealBroken("a pack is cut short or is not a pack")
    return start, length, count


def open_footer(keyring: Keyring, header: Buffer, count: int, sealed: Buffer, footer_start: int) -> PackContents:
    """Return the pack's contents, checked: every number in it is valid, and its blocks fill the space before the
    footer.
    """
    text = keyring.opener(SealKind.PACK, header).footer(count, sealed)
    try:
        table = msgspec.msgpack.decode(text, type=_Footer)
    except (msgspec.MsgspecError, ValueError) as error:
        raise FormatError(f"a pack's table of contents does not parse: {error}") from None
    if len(table.blocks) != count or HEADER_BYTES + sum(b.length for b in table.blocks) != footer_start:
        raise FormatError("a pack's table of contents does not fit the pack")
    if table.kind not in {*PackKind} or not all(map(_makes_sense, table.blocks)):
        raise FormatError("a pack's table of contents describes impossible blocks")
    return PackContents(table.kind, table.blocks, bytes(header))


def _makes_sense(block: BlockRecord) -> bool:
    return (
        block.length > TAG_BYTES
        and 0 < block.text_length <= BLOCK_BYTES_MAX
        and 0 < len(block.lengths) <= BLOCK_CHUNKS_MAX
        and len(block.ids) == _ID_BYTES * len(block.lengths)
        and min(block.lengths) > 0
        and sum(block.lengths) == block.text_length
    )


def read_footer(keyring: Keyring, pack: Buffer) -> PackContents:
    """Return the contents of a whole pack in memory."""
    view = memoryview(pack)
    if len(view) < HEADER_BYTES + TRAILER_BYTES:
        raise SealBroken("a pack is cut short or is not a pack")
    start, length, count = footer_span(len(view), view[-TRAILER_BYTES:])
    return open_footer(keyring, view[:HEADER_BYTES], count, view[start : start + length], start)
