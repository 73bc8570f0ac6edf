"""Segments find the same as a dict, and nothing else, even with damaged bytes."""

import random
from itertools import count

import msgspec
import pytest
import zstandard
from blake3 import blake3
from hypothesis import given, settings
from hypothesis import strategies as st
from thoroughness import sample

from drtool.crypto import HEADER_BYTES, Keyring, SealKind
from drtool.errors import FormatError, SealBroken
from drtool.model import ChunkId, PackId, RepositoryId
from drtool.packing import (
    BlockRecord,
    Location,
    PackBuilder,
    PackContents,
    PackKind,
    SegmentPack,
    SegmentReader,
    encode_segment,
    segment,
    unseal_segment,
)
from drtool.packing.segment import PAGE_ROWS, ROW_BYTES, rows_of

KEYRING = Keyring(RepositoryId(bytes(16)), {1: bytes([1]) * 32})
HEADER = bytes(HEADER_BYTES)


def id_of(number):
    return ChunkId(blake3(number.to_bytes(8, "big")).digest())


def contents_of(block_sizes, numbers):
    """The contents of a pack: blocks of so many chunks, with numbered ids and lengths 1, 2, 3…"""
    blocks = []
    for size in block_sizes:
        lengths = tuple(range(1, size + 1))
        ids = b"".join(id_of(next(numbers)) for _ in range(size))
        blocks.append(BlockRecord(sum(lengths) + 16, 0, sum(lengths), ids, lengths))
    return PackContents(PackKind.DATA, tuple(blocks), HEADER)


def segment_of(packs_of_blocks):
    """Return a sealed segment and the equivalent dict, for packs with blocks of so many chunks."""
    numbers = count()
    table, rows, model = [], [], {}
    for number, block_sizes in enumerate(packs_of_blocks):
        contents = contents_of(block_sizes, numbers)
        size = HEADER_BYTES + sum(block.length for block in contents.blocks) + 200
        table.append(SegmentPack.of(PackId(id_of(10**9 + number)), size, ("a/one",), contents))
        rows += rows_of(number, contents)
        for place, block in enumerate(contents.blocks):
            offset = 0
            for chunk, length in zip(block.chunks(), block.lengths, strict=True):
                model[chunk] = Location(table[-1], place, offset, length)
                offset += length
    sealed, row_count = encode_segment(KEYRING, table, sorted(rows))
    assert row_count == len(model)
    return sealed, model


@settings(max_examples=sample(60))
@given(st.lists(st.lists(st.integers(1, 40), min_size=1, max_size=6), max_size=6))
def test_a_segment_finds_the_same_as_a_dict(packs):
    sealed, model = segment_of(packs)
    reader = SegmentReader(unseal_segment(KEYRING, sealed))
    assert reader.row_count == len(model)
    assert {chunk: reader.locate(chunk) for chunk in model} == model
    assert all(chunk in reader for chunk in model)
    absent = [id_of(10**6 + number) for number in range(50)]
    absent += [ChunkId(chunk[:31] + bytes([chunk[31] ^ 1])) for chunk in model]
    assert not [chunk for chunk in absent if chunk in reader or reader.locate(chunk)]
    assert [row[:32] for row in reader.rows()] == sorted(model)
    assert len(reader.packs) == len(packs)


@pytest.mark.parametrize("rows", [0, 1, 3, 4, 5, 1000, PAGE_ROWS - 1, PAGE_ROWS, PAGE_ROWS + 1, 100_000])
@pytest.mark.spread(7)
def test_a_segment_of_any_number_of_rows_is_complete(rows):
    sealed, model = segment_of([[rows % 1000 or 1000] * 1, *[[1000]] * ((rows - 1) // 1000)] if rows else [])
    assert len(model) == rows
    form = unseal_segment(KEYRING, sealed)
    reader = SegmentReader(form)
    assert [row[:32] for row in reader.rows()] == sorted(model)
    for chunk in random.Random(rows).sample(sorted(model), min(rows, 2000)):
        assert reader.locate(chunk) == model[chunk]
    fan_out = [int.from_bytes(form[at : at + 4], "big") for at in range(24, reader._rows_at, 4)]
    assert fan_out == sorted(fan_out)
    assert (fan_out[0], fan_out[-1]) == (0, rows)


@settings(max_examples=sample(60))
@given(st.lists(st.binary(min_size=1, max_size=1), min_size=1, max_size=60), st.integers(0, 255))
def test_ids_of_one_byte_repeated_do_not_confuse_the_search(bytes_, salt):
    """A match across two rows does not count, and ids with a common prefix do not hide each other."""
    ids = sorted({byte * 31 + bytes([salt ^ number % 3]) for number, byte in enumerate(bytes_)})
    table = [SegmentPack(PackId(bytes(32)), 10**6, 1, (), ((1016, 0, 1000),), HEADER)]
    rows = [chunk + bytes(6) + number.to_bytes(3, "big") + b"\0\0\1" for number, chunk in enumerate(ids)]
    reader = SegmentReader(unseal_segment(KEYRING, encode_segment(KEYRING, table, rows)[0]))
    for number, chunk in enumerate(ids):
        assert reader.locate(ChunkId(chunk)) == Location(table[0], 0, number, 1)
    for byte in range(256):
        assert (bytes([byte]) * 32 in reader) == (bytes([byte]) * 32 in ids)


@pytest.fixture(scope="module")
def small():
    return segment_of([[2, 1], [3]])


def test_every_changed_byte_of_a_segment_is_noticed(small):
    sealed, _ = small
    for position in range(len(sealed)):
        with pytest.raises((SealBroken, FormatError)):
            unseal_segment(KEYRING, sealed[:position] + bytes([sealed[position] ^ 4]) + sealed[position + 1 :])


def test_every_cut_of_a_segment_is_noticed(small):
    sealed, _ = small
    for length in range(len(sealed)):
        for part in (
            sealed[:length],
            sealed[length + 1 :] if length else b"",
            sealed[:length] + b"\0" + sealed[length:],
        ):
            with pytest.raises((SealBroken, FormatError)):
                unseal_segment(KEYRING, part)


def test_the_pages_of_a_segment_cannot_change_places():
    table = [SegmentPack(PackId(bytes(32)), 10**6, 1, (), ((17, 0, 1),), HEADER)]
    rows = sorted(id_of(number) + bytes(11) + b"\1" for number in range(2 * PAGE_ROWS))
    sealed, _ = encode_segment(KEYRING, table, rows)
    page = PAGE_ROWS * ROW_BYTES + 16
    first = HEADER_BYTES + len(msgspec.msgpack.encode(table)) + 16
    swapped = (
        sealed[:first]
        + sealed[first + page : first + 2 * page]
        + sealed[first : first + page]
        + sealed[first + 2 * page :]
    )
    assert len(swapped) == len(sealed)
    assert unseal_segment(KEYRING, sealed)
    with pytest.raises(SealBroken):
        unseal_segment(KEYRING, swapped)


def forge(table, rows=b"", footer=None, parts=None):
    """A segment made by hand with the key."""
    sealer = KEYRING.sealer(SealKind.SEGMENT)
    sealed_table = sealer.part(0, table)
    pages = [
        sealer.part(number, page) for number, page in enumerate(parts if parts is not None else [rows] * bool(rows), 1)
    ]
    footer = footer if footer is not None else [len(rows) // ROW_BYTES, len(sealed_table)]
    text = footer if isinstance(footer, bytes) else msgspec.msgpack.encode(footer)
    sealed_footer = sealer.footer(1 + len(pages), text)
    tail = len(sealed_footer).to_bytes(4, "big") + (1 + len(pages)).to_bytes(4, "big") + b"drts"
    return b"".join((sealer.header, sealed_table, *pages, sealed_footer, tail))


EMPTY = msgspec.msgpack.encode([])
GOOD = [bytes(32), 1000, 1, ["a/b"], [[50, 0, 34]], HEADER]


def with_field(position, value):
    return msgspec.msgpack.encode([[*GOOD[:position], value, *GOOD[position + 1 :]]])


SENSELESS = [
    forge(EMPTY, footer=b""),
    forge(EMPTY, footer=b"\xc1"),
    forge(EMPTY, footer=[0]),
    forge(EMPTY, footer=["0", 17]),
    forge(EMPTY, footer=[-1, 17]),
    forge(EMPTY, footer=[0, -17]),
    forge(EMPTY, footer=[0, 18]),
    forge(EMPTY, footer=[2**63, 17]),
    forge(EMPTY, footer=[1, 17]),
    forge(EMPTY, bytes(ROW_BYTES), footer=[0, 17]),
    forge(EMPTY, bytes(ROW_BYTES), footer=[2, 17]),
    forge(EMPTY, parts=[b""], footer=[0, 17]),
    forge(EMPTY, parts=[bytes(ROW_BYTES)] * 2, footer=[2, 17]),
    forge(b""),
    forge(b"\x91"),
    forge(msgspec.msgpack.encode([GOOD[:5]])),
    forge(with_field(0, bytes(31))),
    forge(with_field(1, 97)),
    forge(with_field(1, -5)),
    forge(with_field(3, [b"a"])),
    forge(with_field(4, [[16, 0, 34]])),
    forge(with_field(4, [[-50, 0, 34], [100, 0, 34]])),
    forge(with_field(4, [[50, 0, 2**24]])),
    forge(with_field(4, [[50, 0]])),
    forge(with_field(5, HEADER[1:])),
    forge(EMPTY, b"\2" * ROW_BYTES + b"\1" * ROW_BYTES),
]


# the names must be the same in every worker of pytest-xdist; the salts are not
@pytest.mark.parametrize("sealed", SENSELESS, ids=[str(number) for number in range(len(SENSELESS))])
def test_an_authentic_segment_that_makes_no_sense_is_a_format_error(sealed):
    with pytest.raises(FormatError):
        unseal_segment(KEYRING, sealed)


def test_the_forger_can_also_make_good_segments():
    reader = SegmentReader(unseal_segment(KEYRING, forge(msgspec.msgpack.encode([GOOD]), bytes(43) + b"\1")))
    assert reader.locate(ChunkId(bytes(32))) == Location(reader.packs[0], 0, 0, 1)


@pytest.mark.parametrize("tail", [(1, 0, 0, 1), (0, 1, 0, 1), (0, 0, 34, 1), (0, 0, 30, 5)])
def test_a_row_that_points_nowhere_is_a_format_error(tail):
    pack, block, offset, length = tail
    row = (
        bytes(32)
        + pack.to_bytes(4, "big")
        + block.to_bytes(2, "big")
        + offset.to_bytes(3, "big")
        + length.to_bytes(3, "big")
    )
    reader = SegmentReader(unseal_segment(KEYRING, forge(msgspec.msgpack.encode([GOOD]), row)))
    with pytest.raises(FormatError):
        reader.locate(ChunkId(bytes(32)))


@pytest.mark.parametrize("length", [0, 4, 31, 33])
def test_an_id_of_another_length_is_a_format_error(length, small):
    reader = SegmentReader(unseal_segment(KEYRING, small[0]))
    first = next(reader.rows())
    with pytest.raises(FormatError):
        reader.locate(ChunkId(first[:length]))


def answers(form, model):
    """Return the answers of a reader of this cached form for every chunk, or its refusal."""
    try:
        reader = SegmentReader(form)
        return {chunk: reader.locate(chunk) for chunk in model}
    except FormatError:
        return {}


def test_a_cached_form_that_was_cut_is_refused(small):
    form = unseal_segment(KEYRING, small[0])
    for length in range(len(form)):
        with pytest.raises(FormatError):
            SegmentReader(form[:length])
    assert answers(form + b"the hash that the cache puts behind it", small[1]) == small[1]


@settings(max_examples=sample(400))
@given(st.data())
def test_a_cached_form_with_wrong_numbers_never_leads_elsewhere(small, data):
    """Its head and fan-out may be anything: a chunk is found where it is, not found, or the form is refused."""
    form, model = bytearray(unseal_segment(KEYRING, small[0])), small[1]
    rows_at = SegmentReader(bytes(form))._rows_at
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(4, rows_at - 1))
        form[at] = data.draw(st.integers(0, 255))
    for chunk, location in answers(bytes(form), model).items():
        assert location in {None, model[chunk]}


@given(st.binary(max_size=200), st.booleans())
def test_a_cached_form_of_junk_is_refused(junk, begins_well):
    with pytest.raises(FormatError):
        SegmentReader(b"drc3" + junk if begins_well else junk)


def test_a_cached_form_that_claims_a_huge_fan_out_costs_nothing():
    for bits in (0, 22, 33, 2**31, 2**32 - 1):
        with pytest.raises(FormatError):
            SegmentReader(b"drc3" + bits.to_bytes(4, "big") + bytes(1000))


def test_spans_are_where_the_blocks_lie():
    builder = PackBuilder(KEYRING, PackKind.DATA, zstandard.ZstdCompressor())
    for text in (b"one", b"two and more", b"three"):
        builder.add_block(text, [id_of(1)], [len(text)])
    name, data, contents = builder.finish()
    row = SegmentPack.of(name, len(data), (), contents)
    spans = [row.span(number) for number in range(3)]
    assert [start for start, _ in spans] == contents.offsets()
    assert [length for _, length in spans] == [block.length for block in contents.blocks]


def test_a_form_of_an_earlier_version_is_refused_to_be_rebuilt(small):
    form = unseal_segment(KEYRING, small[0])
    assert form[:4] == segment._CACHE_MAGIC
    with pytest.raises(FormatError, match="does not begin with its magic"):
        SegmentReader(b"drc2" + form[4:])
