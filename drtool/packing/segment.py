"""An index segment: the pack, block and span of each chunk. Sealed on the targets, searched through mmap in the cache.

Sealed: header ‖ sealed part 0 (the pack table, msgpack) ‖ sealed parts 1… (rows, `PAGE_ROWS` a part) ‖ sealed footer
(msgpack:
number of rows, length of part 0) ‖ length of the sealed footer (u32) ‖ number of parts (u32) ‖ "drts".
A row is 44 bytes: chunk id (32) ‖ pack number (u32) ‖ block (u16) ‖ offset in the block (u24) ‖ length (u24). Rows are
sorted.

In the cache: "drc3" ‖ k (u32) ‖ number of rows (u64) ‖ length of the pack table (u64) ‖
fan-out (2^k + 1 u32s: the first row of each prefix) ‖ rows ‖ pack table.

Invariants
    Never loaded into dicts. A lookup reads one fan-out slot and a few rows, regardless of the number of rows.
    The pack table is a hint about places, and authoritative about blocks. It also holds each pack's header, without
    which a target could pass one pack of this repository off as another.
    An invalid cached form gives FormatError, never a wrong answer about a row that it has.
"""

import mmap
import struct
from collections.abc import Collection, Iterable, Iterator, Sequence
from itertools import accumulate, islice, pairwise
from typing import Annotated, NamedTuple

import msgspec

from drtool.crypto import HEADER_BYTES, TAG_BYTES, Keyring, SealKind
from drtool.errors import FormatError, SealBroken
from drtool.model import Buffer, ChunkId, PackId, TargetName
from drtool.packing.pack import BLOCK_BYTES_MAX, PackContents
from drtool.packing.padding import text_bytes

ROW_BYTES = 44
PAGE_ROWS = 16 * 1024
SEGMENT_BYTES_MAX = 64 * 1024 * 1024
SEGMENT_ROWS_MAX = (SEGMENT_BYTES_MAX - 8 * 1024 * 1024) // ROW_BYTES
_ID_BYTES = 32
_TRAILER_MAGIC = b"drts"
_TRAILER_BYTES = 12
_CACHE_MAGIC = b"drc3"
_CACHE_HEADER_BYTES = 24
_CACHE_BITS_MAX = 21
_CACHE_ROWS_MAX = 2**32 - 1
_PREFIX = struct.Struct(">I40x")
_ROW_ID = struct.Struct("32s12x")
_ROWS_PER_SEARCH = 20
"""Scanning that many rows takes as long as one search (measured)."""


class SegmentPack(msgspec.Struct, array_like=True, frozen=True):
    """One pack of the table.

    `blocks`: (sealed length, codec, text length) in order. `header`: the pack's first 48 bytes.
    """

    pack: PackId
    size_bytes: int
    kind: int
    targets: tuple[TargetName, ...]
    blocks: tuple[tuple[int, int, int], ...]
    header: bytes

    @property
    def text_bytes(self) -> int:
        """Return the size of its text, without padding."""
        return text_bytes(self.size_bytes, self.blocks)

    @classmethod
    def of(cls, pack: PackId, size_bytes: int, targets: Sequence[TargetName], contents: PackContents) -> "SegmentPack":
        blocks = tuple((b.length, b.codec, b.text_length) for b in contents.blocks)
        return cls(pack, size_bytes, contents.kind, tuple(targets), blocks, contents.header)

    def span(self, block: int) -> tuple[int, int]:
        """Return (offset in the pack, sealed length) of a block."""
        return HEADER_BYTES + sum(b[0] for b in self.blocks[:block]), self.blocks[block][0]


class Location(NamedTuple):
    """The place of a chunk. Offset and length are within the block's text."""

    pack: SegmentPack
    block: int
    offset: int
    length: int


class _Footer(msgspec.Struct, array_like=True, frozen=True):
    row_count: Annotated[int, msgspec.Meta(ge=0, le=_CACHE_ROWS_MAX)]
    table_length: Annotated[int, msgspec.Meta(ge=0, le=_CACHE_ROWS_MAX)]


def rows_of(number: int, contents: PackContents) -> Iterator[bytes]:
    """Yield the rows of one pack, unsorted."""
    for block_number, block in enumerate(contents.blocks):
        middle = number.to_bytes(4, "big") + block_number.to_bytes(2, "big")
        offset = 0
        for start, length in zip(range(0, len(block.ids), _ID_BYTES), block.lengths, strict=True):
            yield block.ids[start : start + _ID_BYTES] + middle + offset.to_bytes(3, "big") + length.to_bytes(3, "big")
            offset += length


def encode_segment(keyring: Keyring, packs: Sequence[SegmentPack], rows: Iterable[bytes]) -> tuple[bytes, int]:
    """Seal a segment and count its rows. `rows` are sorted by chunk id, and their pack numbers refer to `packs`."""
    sealer = keyring.sealer(SealKind.SEGMENT)
    table = sealer.part(0, msgspec.msgpack.encode(packs))
    parts = [sealer.header, table]
    row_count = 0
    remaining = iter(rows)
    while page := list(islice(remaining, PAGE_ROWS)):
        parts.append(sealer.part(len(parts) - 1, b"".join(page)))
        row_count += len(page)
    count = len(parts) - 1
    footer = sealer.footer(count, msgspec.msgpack.encode(_Footer(row_count, len(table))))
    parts += [footer, len(footer).to_bytes(4, "big"), count.to_bytes(4, "big"), _TRAILER_MAGIC]
    return b"".join(parts), row_count


def unseal_segment(keyring: Keyring, sealed: Buffer) -> bytes:
    """Return the cache form of a sealed segment. SealBroken or FormatError if it is not exactly as it was sealed."""
    view = memoryview(sealed)
    if len(view) < HEADER_BYTES + _TRAILER_BYTES or bytes(view[-4:]) != _TRAILER_MAGIC:
        raise SealBroken("an index segment is cut short or is not one")
    footer_length = int.from_bytes(view[-12:-8], "big")
    count = int.from_bytes(view[-8:-4], "big")
    footer_start = len(view) - _TRAILER_BYTES - footer_length
    if footer_start < HEADER_BYTES:
        raise SealBroken("an index segment is cut short")
    opener = keyring.opener(SealKind.SEGMENT, view[:HEADER_BYTES])
    footer = _decode_footer(opener.footer(count, view[footer_start : footer_start + footer_length]))
    pages_at = HEADER_BYTES + footer.table_length
    whole_pages = -(-footer.row_count // PAGE_ROWS)
    expected_end = pages_at + footer.row_count * ROW_BYTES + whole_pages * TAG_BYTES
    if count != 1 + whole_pages or expected_end != footer_start:
        raise FormatError("an index segment's parts do not fit its footer")
    table = opener.part(0, view[HEADER_BYTES:pages_at])
    for pack in _decode_table(table):
        _check_pack(pack)
    bounds = [*range(pages_at, footer_start, PAGE_ROWS * ROW_BYTES + TAG_BYTES), footer_start]
    pages = [opener.part(number, view[start:end]) for number, (start, end) in enumerate(pairwise(bounds), 1)]
    return _cache_form(table, b"".join(pages), footer.row_count)


def _decode_footer(text: bytes) -> _Footer:
    try:
        return msgspec.msgpack.decode(text, type=_Footer)
    except (msgspec.MsgspecError, ValueError) as error:
        raise FormatError(f"an index segment's footer does not parse: {error}") from None


def _decode_table(text: bytes) -> list[SegmentPack]:
    try:
        return msgspec.msgpack.decode(text, type=list[SegmentPack])
    except (msgspec.MsgspecError, ValueError) as error:
        raise FormatError(f"an index segment's pack table does not parse: {error}") from None


def _check_pack(pack: SegmentPack) -> None:
    """Raise FormatError unless the blocks are possible and lie within the pack."""
    sound = all(length > TAG_BYTES and 0 < text <= BLOCK_BYTES_MAX for length, _, text in pack.blocks)
    end = HEADER_BYTES + sum(block[0] for block in pack.blocks)
    if not sound or end > pack.size_bytes or len(pack.pack) != _ID_BYTES or len(pack.header) != HEADER_BYTES:
        raise FormatError("an index segment's pack table describes an impossible pack")


def _cache_form(table: bytes, rows: bytes, row_count: int) -> bytes:
    bits = max(1, min(_CACHE_BITS_MAX, (row_count // 4).bit_length()))
    shift = 32 - bits
    counts = [0] * ((1 << bits) + 1)
    previous = 0
    for (prefix,) in _PREFIX.iter_unpack(rows):
        if prefix < previous:
            raise FormatError("an index segment is not sorted")
        previous = prefix
        counts[(prefix >> shift) + 1] += 1
    fan_out = struct.pack(f">{len(counts)}I", *accumulate(counts))
    head = _CACHE_MAGIC + bits.to_bytes(4, "big") + row_count.to_bytes(8, "big") + len(table).to_bytes(8, "big")
    return b"".join((head, fan_out, rows, table))


class SegmentReader:
    """Looks chunks up in the cache form of a segment, usually a mapped file."""

    def __init__(self, data: bytes | mmap.mmap) -> None:
        self._data = data
        self._bits = int.from_bytes(self._data[4:8], "big")
        if self._data[:4] != _CACHE_MAGIC or not 0 < self._bits <= _CACHE_BITS_MAX:
            raise FormatError("a cached index segment does not begin with its magic")
        self.row_count = int.from_bytes(self._data[8:16], "big")
        self._shift = 32 - self._bits
        self._rows_at = _CACHE_HEADER_BYTES + 4 * ((1 << self._bits) + 1)
        self._table_at = self._rows_at + self.row_count * ROW_BYTES
        self._end = self._table_at + int.from_bytes(self._data[16:24], "big")
        if len(self._data) < self._end:
            raise FormatError("a cached index segment is cut short")
        if int.from_bytes(self._data[self._rows_at - 4 : self._rows_at], "big") != self.row_count:
            raise FormatError("a cached index segment's fan-out does not fit its rows")
        self._packs: list[SegmentPack] | None = None

    @property
    def packs(self) -> list[SegmentPack]:
        if self._packs is None:
            self._packs = _decode_table(self._data[self._table_at : self._end])
        return self._packs

    def find(self, chunk: ChunkId) -> int:
        """Return where the chunk's row begins in `data`, or -1."""
        if len(chunk) != _ID_BYTES:
            raise FormatError(f"a chunk id has {len(chunk)} bytes instead of {_ID_BYTES}")
        slot = _CACHE_HEADER_BYTES + 4 * (int.from_bytes(chunk[:4], "big") >> self._shift)
        bounds = self._data[slot : slot + 8]
        first = self._rows_at + ROW_BYTES * int.from_bytes(bounds[:4], "big")
        last = self._rows_at + ROW_BYTES * int.from_bytes(bounds[4:], "big")
        if not first <= last <= self._table_at:
            raise FormatError("a cached index segment's fan-out points outside its rows")
        at = self._data.find(chunk, first, last)
        while at >= 0 and (at - first) % ROW_BYTES:  # a match across two rows is chance or crafted
            at = self._data.find(chunk, at + 1, last)
        return at

    def __contains__(self, chunk: ChunkId) -> bool:
        return self.find(chunk) >= 0

    def locate(self, chunk: ChunkId) -> Location | None:
        return next(self.locations(chunk), None)

    def locations(self, chunk: ChunkId) -> Iterator[Location]:
        """Yield every place of the chunk. A chunk that was stored twice has a row for each, next to each other."""
        return (location for _, location in self.rows_with(chunk))

    def rows_with(self, chunk: ChunkId) -> Iterator[tuple[int, Location]]:
        """Yield the number of each row of the chunk, and the place that it names."""
        at = self.find(chunk)
        if at < 0:
            return
        while at < self._table_at and self._data[at : at + _ID_BYTES] == chunk:
            yield (at - self._rows_at) // ROW_BYTES, self._location(self._data[at + _ID_BYTES : at + ROW_BYTES])
            at += ROW_BYTES

    def _location(self, row: bytes) -> Location:
        number, block = int.from_bytes(row[:4], "big"), int.from_bytes(row[4:6], "big")
        offset, length = int.from_bytes(row[6:9], "big"), int.from_bytes(row[9:12], "big")
        if number >= len(self.packs) or block >= len(self.packs[number].blocks):
            raise FormatError("an index segment's row points outside its pack table")
        pack = self.packs[number]
        if offset + length > pack.blocks[block][2]:
            raise FormatError("an index segment's row points outside its block")
        return Location(pack, block, offset, length)

    def location(self, row: bytes) -> Location:
        """Return the place that a row names."""
        return self._location(row[_ID_BYTES:ROW_BYTES])

    def location_at(self, number: int) -> Location:
        """Return the place that the row with this number names."""
        at = self._rows_at + number * ROW_BYTES
        return self._location(self._data[at + _ID_BYTES : at + ROW_BYTES])

    def numbers_of(self, chunks: Collection[ChunkId]) -> Iterator[tuple[int, ChunkId]]:
        """Yield the number of each row of any of these chunks. `chunks` needs a fast membership test."""
        if len(chunks) * _ROWS_PER_SEARCH < self.row_count:
            for chunk in chunks:
                for number, _ in self.rows_with(chunk):
                    yield number, chunk
            return
        with memoryview(self._data) as data, data[self._rows_at : self._table_at] as rows:
            for number, (found,) in enumerate(_ROW_ID.iter_unpack(rows)):
                if found in chunks:
                    yield number, found

    def rows(self) -> Iterator[bytes]:
        """Yield every row in order, for merging."""
        bounds = range(self._rows_at, self._table_at + 1, ROW_BYTES)
        for start, end in pairwise(bounds):
            yield self._data[start:end]
