"""The golden files freeze the format: this program still makes them, still reads them, and so does a second reader.

To write them anew (a new format version, never a repair): `python tests/golden/golden_make.py`.
"""

import ast
import json
import re
from pathlib import Path

import golden_make as golden
import pytest
import second_reader
from blake3 import blake3
from pyfastcdc.py.constants import MASKS

from drtool.crypto import HEADER_BYTES, ChunkKind, Keyring, KeySlot, SealKind, object_name, open_slot
from drtool.manifest.mirror import open_mirror
from drtool.manifest.names import mirror_name_of
from drtool.model import ChunkId
from drtool.packing import CutBounds, Cutter, PackKind, SegmentReader, open_block, read_footer, unseal_segment
from drtool.trees import EntryWithAclNames, read_directory

KEYRING = Keyring(golden.REPOSITORY, golden.MASTERS)
VECTORS = json.loads((golden.HERE / "vectors.json").read_bytes())
DOCUMENT = (Path(__file__).parents[2] / "docs" / "format.md").read_text()


def stored(name):
    return (golden.HERE / name).read_bytes()


PACKS = {object_name(stored(name)).hex(): stored(name) for name in ("data.pack", "trees.pack")}


@pytest.fixture(scope="module")
def masters():
    return second_reader.open_slot(stored("slot.json"), golden.PASSWORD)


@pytest.fixture(scope="module")
def made():
    return golden.made_here()


@pytest.mark.parametrize(
    "name", ["data.pack", "padded.pack", "trees.pack", "index.segment", "slot.json", "vectors.json"]
)
def test_this_program_still_makes_the_golden_files(name, made):
    assert made[name] == stored(name)


def test_every_golden_file_is_known(made):
    files = {path.name for path in golden.HERE.iterdir() if path.suffix in {".pack", ".segment", ".json"}}
    assert files == {*made, *golden.only_read()}


def test_this_program_still_reads_the_golden_files():
    slot = KeySlot.decode(stored("slot.json"))
    assert open_slot(slot, golden.PASSWORD).masters == golden.MASTERS
    assert KEYRING.open(SealKind.HEAD, bytes.fromhex(VECTORS["sealed_head_of_abc"])) == b"abc"
    reader = SegmentReader(unseal_segment(KEYRING, stored("index.segment")))

    def fetch(chunk):
        location = reader.locate(chunk)
        pack, header = PACKS[location.pack.pack.hex()], location.pack.header
        start, length = location.pack.span(location.block)
        _, codec, text_length = location.pack.blocks[location.block]
        assert pack[:HEADER_BYTES] == header
        text = open_block(KEYRING, header, location.block, pack[start : start + length], codec, text_length)
        return text[location.offset : location.offset + location.length]

    entries = list(read_directory(bytes.fromhex(VECTORS["root"]), fetch))
    assert entries == golden.entries()
    assert {entry.name: fetch(ChunkId(entry.content)) for entry in entries} == golden.FILES


def test_a_compressed_pack_of_the_past_still_opens():
    data = stored("zstd.pack")
    (block,) = read_footer(KEYRING, data).blocks
    sealed = data[HEADER_BYTES : HEADER_BYTES + block.length]
    text = open_block(KEYRING, data[:HEADER_BYTES], 0, sealed, block.codec, block.text_length)
    assert block.codec == 1
    assert text == b"drtool " * 3000 + b"and more " * 100


def test_the_second_reader_owes_nothing_to_this_program():
    tree = ast.parse(Path(second_reader.__file__).read_text())
    names = [node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    names += [alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names]
    assert not [name for name in names if name.partition(".")[0] in {"drtool", "golden_make"}]


def test_a_second_reader_opens_the_slot_and_values(masters):
    assert masters == golden.MASTERS
    assert second_reader.open_value(masters, bytes.fromhex(VECTORS["sealed_head_of_abc"])) == b"abc"
    for kind in ChunkKind:
        name = kind.name.lower()
        assert second_reader.chunk_id(masters, name, b"abc").hex() == VECTORS["chunk_ids_of_abc"][name]


def test_a_second_reader_reads_packs_without_the_index(masters):
    kind, chunks = second_reader.read_pack(masters, stored("data.pack"))
    assert kind == PackKind.DATA
    assert set(chunks.values()) == set(golden.FILES.values())
    assert all(second_reader.chunk_id(masters, "data", text) == chunk for chunk, text in chunks.items())
    kind, chunks = second_reader.read_pack(masters, stored("trees.pack"))
    assert kind == PackKind.TREES
    assert [chunk.hex() for chunk in chunks] == [VECTORS["root"]]
    assert b"".join(second_reader.read_pack(masters, stored("zstd.pack"))[1].values()).startswith(b"drtool drtool ")


def test_a_second_reader_reads_a_padded_pack(masters):
    data = stored("padded.pack")
    _, chunks = second_reader.read_pack(masters, data)
    assert second_reader.size_class(len(data)) == len(data) > len(stored("data.pack"))
    texts = set(chunks.values()) - set(golden.FILES.values())
    assert [set(text) for text in texts] == [{0}]
    assert all(second_reader.chunk_id(masters, "data", text) == chunk for chunk, text in chunks.items())


def test_a_second_reader_restores_from_the_index(masters):
    segment = second_reader.Segment(masters, stored("index.segment"))

    def fetch(name, start, length):
        return PACKS[name][start : start + length]

    page = segment.read(masters, bytes.fromhex(VECTORS["root"]), fetch)
    entries = second_reader.read_page(page)
    assert {entry["name"]: segment.read(masters, entry["content"], fetch) for entry in entries} == golden.FILES
    expected = golden.entries()[1]
    assert entries[1]["mtime"] == expected.mtime_ns == -1
    assert entries[1]["xattrs"] == [[b"user.note", b"\xff\0"]]
    assert entries[1]["holes"] == [[0, 4096]]
    assert (entries[1]["inode"], entries[1]["user"], entries[1]["flags"]) == (2**63 + 1, "ève", 16)


def test_a_second_reader_reads_lists():
    texts, content, depth = golden.long_list()
    assert depth == 2
    height, ids = second_reader.read_list(texts[-1])
    assert height == 2
    assert second_reader.chunk_id(golden.MASTERS, "list", texts[-1]) == content
    assert [second_reader.chunk_id(golden.MASTERS, "list", text) for text in texts[:-1]] == ids
    leaves = [id_ for text in texts[:-1] for id_ in second_reader.read_list(text)[1]]
    assert leaves == [number.to_bytes(32, "big") for number in range(1025)]


@pytest.mark.parametrize("average", [64 * 1024, 512 * 1024, 1024 * 1024])
def test_cuts_stay_where_they_were(average):
    lengths = Cutter(CutBounds(average)).lengths(golden.CUT_TEXT, final=True)
    assert lengths == VECTORS["cuts_of_8_mib"][str(average)]
    assert sum(lengths) == len(golden.CUT_TEXT)


@pytest.mark.parametrize("average", [64 * 1024, 512 * 1024, 1024 * 1024])
def test_keyed_cuts_stay_where_they_were_also_after_a_rotation(average, masters):
    assert f"{second_reader.cut_seed(masters):016x}" == VECTORS["cut_seed"]
    first_generation = Keyring(golden.REPOSITORY, {1: golden.MASTERS[1]})
    assert first_generation.cut_seed() == KEYRING.cut_seed() == int(VECTORS["cut_seed"], 16)
    lengths = Cutter(CutBounds(average, KEYRING.cut_seed())).lengths(golden.CUT_TEXT, final=True)
    assert lengths == VECTORS["keyed_cuts_of_8_mib"][str(average)]
    assert lengths != VECTORS["cuts_of_8_mib"][str(average)]


@pytest.mark.parametrize("name", ["id_keys", "chunk_ids_of_abc"])
def test_keys_of_different_kinds_have_nothing_in_common(name):
    assert len(set(VECTORS[name].values())) == len(ChunkKind)


def test_the_document_names_what_is_frozen_here():
    assert VECTORS["gear_begins"][0] in DOCUMENT
    assert VECTORS["gear_blake3"] in DOCUMENT
    assert blake3(golden.page()).hexdigest() in DOCUMENT


def test_the_document_lists_every_field_of_an_entry_in_order():
    rows = re.findall(r"^\| (\d+) \| ([a-z]\w+) \|", DOCUMENT, re.MULTILINE)
    assert [(int(number), name) for number, name in rows] == list(enumerate(second_reader.ENTRY_FIELDS))
    names = [name.removesuffix("_ns").removesuffix("_bytes") for name in EntryWithAclNames.__struct_fields__]
    assert names == list(second_reader.ENTRY_FIELDS)


def test_the_document_lists_the_masks_that_the_library_cuts_by():
    masks = dict(re.findall(r"2\^(\d+) \| ([0-9a-f]{16}) ", DOCUMENT))
    assert {int(bits): int(mask, 16) for bits, mask in masks.items()} == {bits: MASKS[bits] for bits in range(10, 23)}


def test_the_document_lists_every_kind_of_sealed_object():
    assert dict(re.findall(r"(\d+) `([a-z-]+)`", DOCUMENT)) == {str(int(kind)): kind.word for kind in SealKind}


def test_this_program_and_a_second_reader_read_the_golden_mirror(masters):
    row = json.loads(stored("mirror.json"))
    name, sealed = row["name"], bytes.fromhex(row["sealed"])
    held = open_mirror(KEYRING, mirror_name_of(name), sealed)
    assert (held.mirror.value.hex(), held.head.digest.hex()) == (row["head"], row["digest"])
    sequence, ballot, head = second_reader.read_mirror(masters, name, sealed)
    assert (sequence, ballot, head[1].hex()) == (1, [7, bytes(range(16))], row["digest"])
