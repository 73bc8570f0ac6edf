"""Marking finds the same as a plain walk, for any placement of objects and any number of chunks per lookup."""

from itertools import count

import pytest
from blake3 import blake3
from hypothesis import given, settings
from hypothesis import strategies as st
from thoroughness import sample

from drtool.crypto import HEADER_BYTES, Keyring
from drtool.model import ChunkId, PackId, RepositoryId
from drtool.packing import BlockRecord, PackContents, PackKind, SegmentPack, SegmentReader, encode_segment
from drtool.packing import segment as segment_module
from drtool.packing.segment import rows_of, unseal_segment
from drtool.repository import marking
from drtool.repository.marking import Marks
from drtool.trees import Entry, FileType, write_content, write_directory

KEYRING = Keyring(RepositoryId(bytes(16)), {1: bytes([1]) * 32})


def id_of(number):
    return ChunkId(blake3(number.to_bytes(8, "big")).digest())


def reader_of(packs):
    """One segment over {pack number: chunks}; every chunk is 10 bytes of text, alone in its block."""
    table, rows = [], []
    for number, chunks in packs.items():
        blocks = tuple(BlockRecord(26, 0, 10, bytes(chunk), (10,)) for chunk in chunks)
        contents = PackContents(PackKind.DATA, blocks, bytes(HEADER_BYTES))
        rows += rows_of(len(table), contents)
        table.append(SegmentPack.of(PackId(id_of(number)), HEADER_BYTES + 26 * len(blocks) + 200, ("a/one",), contents))
    sealed, _ = encode_segment(KEYRING, table, sorted(rows))
    return SegmentReader(unseal_segment(KEYRING, sealed))


def file_of(name, chunks, put):
    content, depth = write_content(chunks, put)
    return Entry(name=name, type=FileType.FILE, mode=0o644, uid=0, gid=0, content=content, content_depth=depth)


class Stored:
    """Trees by name, and every chunk that something refers to."""

    def __init__(self):
        self.texts = {}

    def put(self, _kind, text):
        name = ChunkId(blake3(text).digest())
        self.texts[name] = text
        return name

    def root(self, files):
        entries = [file_of(b"f%06d" % number, chunks, self.put) for number, chunks in enumerate(files)]
        inner = write_directory(entries, self.put)
        folder = Entry(name=b"d", type=FileType.DIRECTORY, mode=0o755, uid=0, gid=0, subtree=inner)
        return write_directory([folder], self.put)


def live_ids(marks, readers):
    return {row[:32] for reader in readers for row in marks.live_rows(reader)}


@settings(max_examples=sample(60), deadline=None)
@given(
    st.lists(st.lists(st.integers(0, 30), max_size=8), min_size=1, max_size=6),
    st.lists(st.sets(st.integers(0, 30), min_size=1), min_size=1, max_size=6),
    st.integers(1, 20),
    st.sampled_from([0, 20, 10**6]),
)
def test_marks_equal_those_of_a_plain_walk(files, packs, waiting_max, rows_per_search):
    stored = Stored()
    root = stored.root([[id_of(chunk) for chunk in chunks] for chunks in files])
    needed = {id_of(chunk) for chunks in files for chunk in chunks} | stored.texts.keys()
    everything = [[id_of(chunk) for chunk in chunks] for chunks in packs]
    everything += [sorted(stored.texts), [id_of(chunk) for chunk in range(31)]]
    numbers = count(1000)
    readers = [reader_of({next(numbers): chunks}) for chunks in everything]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(marking, "WAITING_MAX", waiting_max)
        patch.setattr(segment_module, "_ROWS_PER_SEARCH", rows_per_search)
        marks = Marks(readers)
        marks.mark_trees([root, root], stored.texts.__getitem__)
    assert live_ids(marks, readers) == needed
    live = sum(len(list(marks.live_rows(reader))) for reader in readers)
    assert live == len(needed), "a chunk in several packs is live in one of them"
    assert sum(marks.live_bytes.values()) == 10 * len(needed)
    packs_of = [reader.packs[0].pack for reader in readers]
    assert sum(marks.live_rows_of(pack) for pack in packs_of) == live


@pytest.mark.parametrize("waiting_max", [1, 1000])
def test_of_several_places_the_one_at_most_sites_is_live_and_none_that_goes(monkeypatch, waiting_max):
    monkeypatch.setattr(marking, "WAITING_MAX", waiting_max)
    stored = Stored()
    root = stored.root([[id_of(1)], [id_of(2)]])
    few, many, going = (PackId(id_of(number)) for number in (100, 101, 102))
    readers = [
        reader_of({99: sorted(stored.texts)}),
        reader_of({100: [id_of(1), id_of(2)], 102: [id_of(1)]}),
        reader_of({101: [id_of(1)]}),
    ]
    marks = Marks(readers, avoided={going}, holders={few: 1, many: 2, going: 3}.get)
    marks.mark_trees([root], stored.texts.__getitem__)
    assert (marks.live_rows_of(few), marks.live_rows_of(many), marks.live_rows_of(going)) == (1, 1, 0)


@pytest.mark.parametrize("what", ["data", "tree"])
def test_a_chunk_that_no_segment_has_stops_the_marking(what):
    stored = Stored()
    root = stored.root([[id_of(1), id_of(2)]])
    there = [*sorted(stored.texts), id_of(1), id_of(2)]
    there.remove(id_of(2) if what == "data" else root)
    with pytest.raises(KeyError) as caught:
        Marks([reader_of({99: there})]).mark_trees([root], stored.texts.__getitem__)
    assert caught.value.args[0] == (id_of(2) if what == "data" else root)
