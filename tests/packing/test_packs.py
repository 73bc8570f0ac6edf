"""Packs return their contents, refuse every changed byte, and survive hostile numbers."""

import os

import msgspec
import pytest
import zstandard
from blake3 import blake3
from hypothesis import given, settings
from hypothesis import strategies as st
from thoroughness import sample

from drtool.crypto import HEADER_BYTES, TAG_BYTES, ChunkKind, Keyring, SealKind, object_name
from drtool.errors import FormatError, SealBroken
from drtool.model import ChunkId, RepositoryId
from drtool.packing import Bundle, PackBuilder, PackKind, SegmentPack, open_block, pack, read_footer
from drtool.packing.bundle import BLOCK_CHUNKS_MAX, BUNDLE_BYTES, LARGE_CHUNK_BYTES
from drtool.packing.pack import PACK_BYTES
from drtool.packing.padding import size_class

KEYRING = Keyring(RepositoryId(bytes(16)), {1: bytes([1]) * 32})
COMPRESSOR = zstandard.ZstdCompressor(level=3)


def id_of(text):
    return ChunkId(blake3(text).digest())


def build(blocks, kind=PackKind.DATA):
    """A pack of these blocks, each a list of chunk texts."""
    builder = PackBuilder(KEYRING, kind, COMPRESSOR)
    for chunks in blocks:
        builder.add_block(b"".join(chunks), [id_of(chunk) for chunk in chunks], [len(chunk) for chunk in chunks])
    name, data, contents = builder.finish()
    return name, bytes(data), contents


def read_everything(data, contents):
    texts = []
    for number, (block, start) in enumerate(zip(contents.blocks, contents.offsets(), strict=True)):
        sealed = data[start : start + block.length]
        texts.append(open_block(KEYRING, data[:HEADER_BYTES], number, sealed, block.codec, block.text_length))
    return texts


chunk_texts = st.one_of(st.binary(min_size=1, max_size=300), st.integers(1, 100_000).map(lambda size: b"a" * size))


@settings(max_examples=sample(50))
@given(st.lists(st.lists(chunk_texts, min_size=1, max_size=5), max_size=6), st.sampled_from(PackKind))
def test_a_pack_returns_its_contents(blocks, kind):
    name, data, contents = build(blocks, kind)
    assert name == object_name(data)
    assert read_footer(KEYRING, data) == contents
    assert contents.kind == kind
    assert contents.header == data[:HEADER_BYTES]
    assert read_everything(data, contents) == [b"".join(chunks) for chunks in blocks]
    assert [block.chunks() for block in contents.blocks] == [[id_of(chunk) for chunk in chunks] for chunks in blocks]


def test_the_next_pack_in_the_same_buffer_is_another_object():
    builder = PackBuilder(KEYRING, PackKind.DATA, COMPRESSOR)
    packs = []
    for text in (b"a long first text" * 100, b"short"):
        builder.begin()
        assert builder.empty
        builder.add_block(text, [id_of(text)], [len(text)])
        packs.append(bytes(builder.finish()[1]))
    assert packs[0][:HEADER_BYTES] != packs[1][:HEADER_BYTES]
    assert [read_everything(data, read_footer(KEYRING, data)) for data in packs] == [
        [b"a long first text" * 100],
        [b"short"],
    ]


def test_every_changed_byte_of_a_pack_is_noticed():
    _, data, contents = build([[b"one", b"two"], [b"three" * 50]])
    for position in range(len(data)):
        damaged = data[:position] + bytes([data[position] ^ 0x40]) + data[position + 1 :]
        with pytest.raises((SealBroken, FormatError)):
            read_everything(damaged, read_footer(KEYRING, damaged))
    assert read_everything(data, contents)


def test_every_cut_of_a_pack_is_noticed():
    _, data, _ = build([[b"one", b"two"], [b"three" * 50]])
    for length in range(len(data)):
        for part in (data[:length], data[length + 1 :] if length else b"", data[:length] + b"\0" + data[length:]):
            with pytest.raises((SealBroken, FormatError)):
                read_footer(KEYRING, part)


def test_blocks_open_at_their_own_place_in_their_own_pack_only():
    texts = [[b"a" * 40], [b"b" * 40]]
    (_, one, contents), (_, two, _) = build(texts), build(texts)
    length = contents.blocks[0].length
    first, second = contents.offsets()
    for data, at, number in ((one, first, 1), (one, second, 0), (two, first, 0), (two, second, 1)):
        with pytest.raises(SealBroken):
            open_block(KEYRING, one[:HEADER_BYTES], number, data[at : at + length], 1, 40)
    assert SegmentPack.of(object_name(one), len(one), (), contents).header == one[:HEADER_BYTES]


@given(st.binary(max_size=12), st.integers(0, 2**40))
def test_no_trailer_leads_outside_of_its_pack(trailer, size_bytes):
    forged = trailer[:8].ljust(8, b"\0") + b"drtp"
    for candidate in (trailer, forged):
        try:
            start, length, _ = pack.footer_span(size_bytes, candidate)
        except SealBroken:
            continue
        assert start >= HEADER_BYTES
        assert start + length == size_bytes - pack.TRAILER_BYTES
        assert length <= pack.FOOTER_BYTES_MAX


def forge(footer_text, blocks=(b"x" * 20,)):
    """A pack with a footer made by hand with the key."""
    sealer = KEYRING.sealer(SealKind.PACK)
    parts = [sealer.part(number, block) for number, block in enumerate(blocks)]
    footer = sealer.footer(len(parts), footer_text)
    return (
        sealer.header
        + b"".join(parts)
        + footer
        + len(footer).to_bytes(4, "big")
        + bytes((0, 0, 0, len(parts)))
        + b"drtp"
    )


ID = bytes(32)
MALFORMED = {
    "nothing": b"",
    "no MessagePack": b"\xc1",
    "a text that is no UTF-8": b"\x92\x01\xa1\xff",
    "too deep": b"\x91" * 20_000,
    "a huge count": b"\x92\x01\xdd\xff\xff\xff\xff",
    "another shape": msgspec.msgpack.encode({"kind": 1}),
    "an unknown kind": msgspec.msgpack.encode([3, [[36, 0, 20, ID, [20]]]]),
    "too few blocks": msgspec.msgpack.encode([1, []]),
    "a wrong length": msgspec.msgpack.encode([1, [[35, 0, 20, ID, [20]]]]),
    "no chunks": msgspec.msgpack.encode([1, [[36, 0, 20, b"", []]]]),
    "half an id": msgspec.msgpack.encode([1, [[36, 0, 20, ID[:16], [20]]]]),
    "more ids than lengths": msgspec.msgpack.encode([1, [[36, 0, 20, ID + ID, [20]]]]),
    "an empty chunk": msgspec.msgpack.encode([1, [[36, 0, 20, ID + ID, [20, 0]]]]),
    "a negative chunk": msgspec.msgpack.encode([1, [[36, 0, 20, ID + ID, [21, -1]]]]),
    "chunks beyond the text": msgspec.msgpack.encode([1, [[36, 0, 20, ID, [21]]]]),
    "a huge text": msgspec.msgpack.encode([1, [[36, 1, 2**40, ID, [2**40]]]]),
    "a fraction": msgspec.msgpack.encode([1, [[36.5, 0, 20, ID, [20]]]]),
}


@pytest.mark.parametrize("what", MALFORMED)
def test_an_authentic_footer_that_makes_no_sense_is_a_format_error(what):
    with pytest.raises(FormatError):
        read_footer(KEYRING, forge(MALFORMED[what]))


def test_negative_lengths_that_add_up_are_a_format_error():
    text = msgspec.msgpack.encode([1, [[-100, 0, 20, ID, [20]], [172, 0, 20, ID, [20]]]])
    with pytest.raises(FormatError):
        read_footer(KEYRING, forge(text, (b"x" * 20, b"y" * 20)))


ZEROS = zstandard.ZstdCompressor(level=3).compress(bytes(10_000))
WITHOUT_SIZE = zstandard.ZstdCompressor(level=3, write_content_size=False).compress(bytes(10_000))
CLAIMS_16_TIB = bytes.fromhex("28b52ffde0") + (2**44).to_bytes(8, "little") + b"\x01\0\0"


@pytest.mark.parametrize(
    ("codec", "body", "text_length"),
    [
        (0, b"text", 5),
        (0, b"text", 3),
        (0, b"", 0),
        (0, b"text", -4),
        (0, b"text", 2**24),
        (1, b"", 5),
        (1, b"junk", 5),
        (1, ZEROS, 9_999),
        (1, ZEROS, 10_001),
        (1, ZEROS, 0),
        (1, ZEROS, -1),
        (1, ZEROS, 2**63),
        (1, ZEROS + b"x", 10_000),
        (1, ZEROS + ZEROS, 20_000),
        (1, WITHOUT_SIZE, 9_999),
        (1, CLAIMS_16_TIB, 10),
        (2, b"text", 4),
        (-1, b"text", 4),
    ],
)
def test_a_block_that_opens_to_something_else_is_a_format_error(codec, body, text_length):
    with pytest.raises(FormatError):
        pack.decompress(codec, body, text_length)


def test_a_block_that_was_compressed_by_others_decompresses():
    assert pack.decompress(1, WITHOUT_SIZE, 10_000) == pack.decompress(1, ZEROS, 10_000) == bytes(10_000)


@pytest.mark.parametrize("size", [63 * 1024, 64 * 1024, 200_000])
def test_incompressible_blocks_are_stored_uncompressed(size):
    noise = os.urandom(size)
    assert pack.compress(COMPRESSOR, noise)[0] == pack.Codec.RAW
    codec, body = pack.compress(COMPRESSOR, b"abc" * size)
    assert codec == pack.Codec.ZSTD
    assert len(body) < size * 3


def test_the_largest_pack_fits_its_buffer():
    """The last block is added to a pack that is one byte, or one chunk, from being full."""
    builder = PackBuilder(KEYRING, PackKind.DATA, COMPRESSOR)
    noise = os.urandom(pack.BLOCK_BYTES_MAX)
    first = pack.PACK_BYTES - HEADER_BYTES - TAG_BYTES - 1
    builder.add_block(noise[:first], [ChunkId(ID)], [first])
    assert not builder.full
    lengths = [1] * (BLOCK_CHUNKS_MAX - 1) + [len(noise) - BLOCK_CHUNKS_MAX + 1]
    builder.add_block(noise, [ChunkId(ID)] * BLOCK_CHUNKS_MAX, lengths)
    assert builder.full
    _, data, contents = builder.finish()
    assert read_footer(KEYRING, data) == contents
    assert read_everything(data, contents) == [noise[:first], noise]


def test_the_pack_of_most_blocks_fits_its_buffer_and_the_index():
    builder = PackBuilder(KEYRING, PackKind.DATA, COMPRESSOR)
    count = 0
    while not builder.full:
        builder.add_block(b"x", [ChunkId(ID)], [1])
        count += 1
    assert count == 2**16
    _, data, contents = builder.finish()
    assert read_footer(KEYRING, data) == contents
    with pytest.raises(ValueError, match="does not fit this pack"):
        builder.add_block(b"x", [ChunkId(ID)], [1])


@pytest.mark.parametrize(
    ("text", "count"),
    [(b"", 0), (b"x", 0), (b"", 1), (b"x" * (BLOCK_CHUNKS_MAX + 1), BLOCK_CHUNKS_MAX + 1), (bytes(2**24), 1)],
)
def test_a_block_that_the_format_does_not_have_is_refused(text, count):
    builder = PackBuilder(KEYRING, PackKind.DATA, COMPRESSOR)
    with pytest.raises(ValueError, match="does not fit this pack"):
        builder.add_block(text, [ChunkId(ID)] * count, [1] * count)


def test_a_forked_process_does_not_go_on_with_an_open_pack():
    builder = PackBuilder(KEYRING, PackKind.DATA, COMPRESSOR)
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            builder.add_block(b"text", [ChunkId(ID)], [4])
        except RuntimeError:
            status = 0
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


@settings(max_examples=sample(20))
@given(st.lists(st.integers(1, LARGE_CHUNK_BYTES - 1), min_size=1, max_size=12))
def test_a_bundle_takes_chunks_until_it_is_full(sizes):
    bundle = Bundle()
    texts = []
    for number, size in enumerate(sizes):
        if bundle.full:
            break
        texts.append(bytes([number]) * size)
        bundle.add(id_of(texts[-1]), texts[-1])
    assert bundle.text == b"".join(texts)
    assert bundle.lengths == list(map(len, texts))
    assert len(bundle) == len(texts)
    assert bundle.full == (sum(map(len, texts)) >= BUNDLE_BYTES)
    bundle.clear()
    assert (len(bundle), bundle.text, bundle.full) == (0, b"", False)


def test_a_full_bundle_refuses_more_blocks():
    bundle = Bundle()
    with pytest.raises(ValueError, match="bundle"):
        bundle.add(ChunkId(ID), bytes(LARGE_CHUNK_BYTES))
    for _ in range(BLOCK_CHUNKS_MAX):
        bundle.add(ChunkId(ID), b"x")
    assert bundle.full
    with pytest.raises(ValueError, match="bundle"):
        bundle.add(ChunkId(ID), b"x")


def padded(blocks, kind=PackKind.DATA):
    """The same pack, padded."""
    builder = PackBuilder(KEYRING, kind, COMPRESSOR, pads=True)
    for chunks in blocks:
        builder.add_block(b"".join(chunks), [id_of(chunk) for chunk in chunks], [len(chunk) for chunk in chunks])
    name, data, contents = builder.finish()
    return name, bytes(data), contents


def footer_length(data):
    return int.from_bytes(data[-12:-8], "big") - TAG_BYTES


@settings(max_examples=sample(200))
@given(st.lists(st.lists(chunk_texts, min_size=1, max_size=5), min_size=1, max_size=6), st.sampled_from(PackKind))
def test_a_padded_pack_has_the_size_of_a_class_and_is_read_as_any_other(blocks, kind):
    name, data, contents = padded(blocks, kind)
    assert name == object_name(data)
    assert size_class(len(data)) == len(data)
    assert size_class(footer_length(data)) in {footer_length(data), size_class(footer_length(data) - 1)}
    assert read_footer(KEYRING, data) == contents
    texts = read_everything(data, contents)
    assert texts[:-1] == [b"".join(chunks) for chunks in blocks]
    assert set(texts[-1]) == {0}
    (chunk,) = contents.blocks[-1].chunks()
    key = KEYRING.id_key(ChunkKind.DATA if kind == PackKind.DATA else ChunkKind.TREE)
    assert blake3(texts[-1], key=key).digest() == chunk, "the padding is a chunk like any other"


@pytest.mark.parametrize("size_bytes", [*range(1, 3000, 7), *range(65_000, 66_000, 13), 1 << 20, (1 << 20) + 1])
@pytest.mark.spread(7)
def test_the_padding_of_any_length_ends_at_a_class(size_bytes):
    _, data, _ = padded([[os.urandom(size_bytes)]])
    assert size_class(len(data)) == len(data)


def test_files_of_nearly_the_same_size_make_packs_of_one_size():
    sizes = {len(padded([[os.urandom(1_200_000 + n)]])[1]) for n in range(0, 20_000, 2_500)}
    assert len(sizes) <= 2


def test_padding_costs_little():
    assert all(size_class(n) < 1.063 * n + 1 for n in range(1, 100_000, 11))
    large = [size_class(n) / n for n in range(PACK_BYTES, PACK_BYTES + (1 << 20), 4099)]
    assert max(large) < 1.016
    assert sum(large) / len(large) < 1.01
    assert {n: size_class(n) for n in (0, 1, 17, 33, 1000, 1025)} == {
        0: 0,
        1: 1,
        17: 17,
        33: 34,
        1000: 1008,
        1025: 1056,
    }


def test_padding_is_no_text_of_a_pack():
    """Else `prune` would take it for waste and rewrite the pack again and again."""
    blocks = [[os.urandom(1000)], [b"a" * 100_000], [b"b"]]
    for made in (build, padded):
        name, data, contents = made(blocks)
        assert SegmentPack.of(name, len(data), (), contents).text_bytes == 101_001
    name, data, contents = padded(blocks[:1])
    assert SegmentPack.of(name, len(data), (), contents).text_bytes == 1000
    assert SegmentPack(name, 1, 1, (), (), b"").text_bytes == 0
