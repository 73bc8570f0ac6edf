"""Directories and long lists: round trips, the same bytes for the same entries, and no trust in the bytes read."""

from itertools import islice

import msgspec
import pytest
from blake3 import blake3
from hypothesis import given, settings
from hypothesis import strategies as st
from thoroughness import sample

from drtool.errors import FormatError
from drtool.model import ChunkId, ChunkKind
from drtool.trees import (
    Entry,
    FileType,
    find_entry,
    read_content,
    read_directory,
    split_path,
    unchanged_content,
    walk,
    write_content,
    write_directory,
)
from drtool.trees.entry import HOLES_MAX, TIME_NS_BOUNDS, XATTRS_BYTES_MAX, storable
from drtool.trees.pages import ENTRY_BYTES_MAX, LIST_IDS, PAGE_BYTES, PAGE_ENTRIES

BLOCK_BYTES_MAX = 2**24 - 1  # docs/format.md, "Limits"


class Chunks(dict):
    """Chunks by id, as in a repository. Counts the fetched chunks."""

    fetched = 0

    def put(self, kind, text):
        assert len(text) <= BLOCK_BYTES_MAX
        chunk = ChunkId(blake3(bytes([kind]) + text).digest())
        self[chunk] = text
        return chunk

    def fetch(self, chunk):
        self.fetched += 1
        return self[chunk]


def file(name, **fields):
    return Entry(name=name, type=FileType.FILE, mode=0o644, uid=0, gid=0, **fields)


def directory(name, subtree=b""):
    return Entry(name=name, type=FileType.DIRECTORY, mode=0o755, uid=0, gid=0, subtree=subtree)


def there_and_back(entries):
    chunks = Chunks()
    return list(read_directory(write_directory(entries, chunks.put), chunks.fetch)), chunks


numbers = st.integers(0, 2**63 - 1)
words = st.integers(0, 2**32 - 1)
times = st.integers(*TIME_NS_BOUNDS)
names = st.binary(min_size=1, max_size=40).filter(lambda n: not set(n) & {0, 47} and n not in {b".", b".."})
entries = st.builds(
    Entry,
    name=names,
    type=st.sampled_from(FileType).map(int),
    mode=st.integers(0, 0o7777),
    uid=words,
    gid=words,
    user=st.text(max_size=8),
    group=st.text(max_size=8),
    size_bytes=numbers,
    mtime_ns=times,
    ctime_ns=times,
    inode=st.integers(0, 2**64 - 1),
    device=st.integers(0, 2**64 - 1),
    links=numbers,
    rdev=st.integers(0, 2**64 - 1),
    link_target=st.binary(max_size=40),
    xattrs=st.lists(st.tuples(st.binary(max_size=9), st.binary(max_size=9)), max_size=3).map(tuple),
    holes=st.lists(st.tuples(numbers, numbers), max_size=3).map(tuple),
    flags=words,
    content=st.lists(st.binary(min_size=32, max_size=32), max_size=3).map(b"".join),
    content_depth=st.integers(0, 6),
    subtree=st.one_of(st.just(b""), st.binary(min_size=32, max_size=32)),
    uncaptured=st.lists(st.text(max_size=9), max_size=2).map(tuple),
)


@settings(max_examples=sample(50))
@given(st.lists(entries, max_size=8, unique_by=lambda entry: entry.name))
def test_every_entry_comes_back_as_it_was(some):
    some.sort(key=lambda entry: entry.name)
    assert there_and_back(some)[0] == some


@pytest.mark.parametrize("count", [0, 1, 2, PAGE_ENTRIES - 1, PAGE_ENTRIES, PAGE_ENTRIES + 1, 2 * PAGE_ENTRIES, 5000])
def test_directories_of_any_size_come_back_and_stream(count):
    some = [file(b"%06d" % number, size_bytes=number) for number in range(count)]
    back, chunks = there_and_back(some)
    assert back == some
    pages = max(1, -(-count // PAGE_ENTRIES))
    assert len(chunks) == pages + (pages > 1)
    root = write_directory(some, chunks.put)
    chunks.fetched = 0
    list(islice(read_directory(root, chunks.fetch), 10))
    assert chunks.fetched <= 2


def test_the_same_entries_give_the_same_bytes():
    def make():
        return [file(bytes([65 + number]), xattrs=((b"user.a", b"1"),), user="é") for number in range(26)]

    assert there_and_back(make())[1] == there_and_back(make())[1]
    assert there_and_back(make())[1] != there_and_back([*make()[:-1], file(b"Z", mtime_ns=1)])[1]


@pytest.mark.parametrize("count", [0, 1, LIST_IDS, LIST_IDS + 1, LIST_IDS**2 + 1, 1_050_000])
@pytest.mark.spread(4)
def test_content_of_any_length_comes_back_and_streams(count):
    chunks = Chunks()
    ids = [ChunkId(number.to_bytes(32, "big")) for number in range(count)]
    content, depth = write_content(ids, chunks.put)
    assert depth == (0 if count <= LIST_IDS else _height(count))
    entry = file(b"long", content=content, content_depth=depth)
    assert all(a == b for a, b in zip(read_content(entry, chunks.fetch), ids, strict=True))
    chunks.fetched = 0
    list(islice(read_content(entry, chunks.fetch), 3))
    assert chunks.fetched == depth
    assert len(content) <= 32 * LIST_IDS


def _height(count):
    height = 0
    while count > 1:
        count, height = -(-count // LIST_IDS), height + 1
    return height


def test_a_directory_of_large_files_is_cut_into_pages_that_blocks_can_hold():
    content = bytes(32 * LIST_IDS)
    some = [file(b"%06d" % number, content=content) for number in range(1500)]
    back, chunks = there_and_back(some)
    assert back == some
    assert max(len(text) for text in chunks.values()) <= PAGE_BYTES
    assert len(chunks) < 60


def test_an_entry_larger_than_a_page_has_one_of_its_own():
    large = file(b"b", xattrs=((b"user.large", bytes(3 * 1024 * 1024)),))
    some = [file(b"a"), large, file(b"c")]
    back, chunks = there_and_back(some)
    assert back == some
    assert len(chunks) == 4


def test_values_that_the_format_cannot_hold_are_left_out_and_reported():
    low, high = TIME_NS_BOUNDS
    odd = file(
        b"odd",
        mtime_ns=high + 1,
        ctime_ns=low - 1,
        user="caf\udce9",
        xattrs=((b"user.huge", bytes(XATTRS_BYTES_MAX + 1)),),
        holes=((0, 1),) * (HOLES_MAX + 1),
        uncaptured=("before", "\udcff"),
    )
    (before, back, after), _ = there_and_back([file(b"a"), odd, file(b"z")])
    assert (before, after) == (file(b"a"), file(b"z"))
    assert (back.mtime_ns, back.ctime_ns, back.user, back.xattrs, back.holes) == (high, low, "caf?", (), ())
    assert back.uncaptured[:2] == ("before", "?")
    assert [word.partition(":")[0] for word in back.uncaptured[2:]] == ["mtime", "ctime", "xattrs"]
    assert not unchanged_content(back, back.size_bytes, back.mtime_ns, back.ctime_ns, back.inode)


@given(entries)
def test_values_that_the_format_can_hold_are_stored_unchanged(entry):
    assert storable(entry) == entry


def test_an_entry_that_no_block_could_hold_is_refused():
    with pytest.raises(FormatError):
        write_directory([file(b"a", link_target=bytes(ENTRY_BYTES_MAX))], Chunks().put)


def page_of(*rows):
    return b"P" + msgspec.msgpack.encode(list(rows))


def row(**fields):
    """An entry as an array, with some fields changed."""
    values = msgspec.to_builtins(file(b"name"), builtin_types=(bytes,))
    positions = {name: position for position, name in enumerate(Entry.__struct_fields__)}
    for name, value in fields.items():
        values[positions[name]] = value
    return values


HOSTILE_PAGES = {
    "nothing": b"",
    "another letter": b"X" + page_of()[1:],
    "no entries at all": b"P",
    "no MessagePack": b"P\xc1",
    "a huge count": b"P\xdd\xff\xff\xff\xff",
    "too deep": b"P" + b"\x91" * 5000,
    "trailing bytes": page_of(row()) + b"\0",
    "text that is no UTF-8": page_of(row(user="ab")).replace(b"\xa2ab", b"\xa2\xff\xff"),
    "too few fields": b"P" + msgspec.msgpack.encode([[b"name", 8]]),
    "a name that is text": page_of(row(name="name")),
    "an empty name": page_of(row(name=b"")),
    "itself": page_of(row(name=b".")),
    "its parent": page_of(row(name=b"..")),
    "a way out": page_of(row(name=b"../../etc/passwd")),
    "an absolute path": page_of(row(name=b"/etc/passwd")),
    "a NUL": page_of(row(name=b"a\0b")),
    "the same name twice": page_of(row(name=b"a"), row(name=b"a")),
    "names out of order": page_of(row(name=b"b"), row(name=b"a")),
    "a type beyond st_mode": page_of(row(type=16)),
    "no type": page_of(row(type=0)),
    "a mode with a type in it": page_of(row(mode=0o100644)),
    "a negative owner": page_of(row(uid=-1)),
    "an owner of 33 bits": page_of(row(gid=2**32)),
    "a negative size": page_of(row(size_bytes=-1)),
    "a size beyond every file": page_of(row(size_bytes=2**63)),
    "a negative hole": page_of(row(holes=[[-1, 5]])),
    "a hole of one number": page_of(row(holes=[[1]])),
    "flags of 33 bits": page_of(row(flags=2**32)),
    "a list too high": page_of(row(content_depth=7)),
}


@pytest.mark.parametrize("what", HOSTILE_PAGES)
def test_a_page_that_makes_no_sense_is_a_format_error(what):
    with pytest.raises(FormatError):
        list(read_directory(bytes(32), lambda _: HOSTILE_PAGES[what]))


@settings(max_examples=sample(300))
@given(st.binary(max_size=120), st.sampled_from([b"", b"P", b"P\x91\xdc\x00\x17", b"L", b"L\x01", b"L\x02"]))
def test_junk_is_a_directory_or_a_format_error(junk, beginning):
    try:
        some = list(read_directory(bytes(32), lambda chunk: beginning + junk if chunk == bytes(32) else b"P\x90"))
    except FormatError:
        return
    assert all(isinstance(entry, Entry) for entry in some)


def test_names_ascend_across_pages():
    chunks = Chunks()
    pages = [chunks.put(ChunkKind.TREE, page_of(row(name=name))) for name in (b"b", b"a")]
    root = chunks.put(ChunkKind.LIST, b"L\x01" + b"".join(pages))
    with pytest.raises(FormatError):
        list(read_directory(root, chunks.fetch))


ONE = bytes(31) + b"\1"


@pytest.mark.parametrize(
    ("depth", "texts"),
    [
        (1, [b""]),
        (1, [b"L"]),
        (1, [b"L\0" + ONE]),
        (1, [b"L\1" + ONE[:-1]]),
        (1, [b"L\2" + ONE]),
        (2, [b"L\1" + ONE]),
        (2, [b"L\2" + ONE, b"L\2" + ONE]),
        (3, [b"L\3" + ONE, b"L\1" + ONE]),
        (1, [page_of(row())]),
    ],
)
def test_a_list_of_the_wrong_shape_is_a_format_error(depth, texts):
    supply = iter([*texts, b"L\1" + ONE])
    entry = file(b"a", content=bytes(32), content_depth=depth)
    with pytest.raises(FormatError):
        list(read_content(entry, lambda _: next(supply)))


def test_a_list_that_names_itself_ends():
    with pytest.raises(FormatError):
        list(read_directory(bytes(32), lambda _: b"L\6" + bytes(32)))


@pytest.mark.parametrize("content", [b"x", bytes(31), bytes(33)])
def test_content_of_broken_ids_is_a_format_error(content):
    with pytest.raises(FormatError):
        list(read_content(file(b"a", content=content), Chunks().fetch))


@pytest.fixture
def tree():
    """(chunks, root) of /a (file), /d/e/f (file), /d/g (file)."""
    chunks = Chunks()
    inner = write_directory([file(b"f")], chunks.put)
    middle = write_directory([directory(b"e", inner), file(b"g")], chunks.put)
    return chunks, write_directory([file(b"a"), directory(b"d", middle)], chunks.put)


def test_a_walk_meets_parents_before_children_in_order(tree):
    chunks, root = tree
    assert [path for path, _ in walk(root, b"/", chunks.fetch)] == [b"/a", b"/d", b"/d/e", b"/d/e/f", b"/d/g"]
    assert [path for path, _ in walk(root, b"", chunks.fetch, recursive=False)] == [b"a", b"d"]


def test_a_walk_goes_deeper_than_the_stack():
    chunks = Chunks()
    root = write_directory([], chunks.put)
    for _ in range(3000):
        root = write_directory([directory(b"d", root)], chunks.put)
    depth = max(path.count(b"/") for path, _ in walk(root, b"", chunks.fetch))
    assert depth == 2999
    assert find_entry(root, b"/".join([b"d"] * 3000), chunks.fetch) == directory(b"d", write_directory([], chunks.put))


@pytest.mark.parametrize(
    ("path", "name"),
    [
        (b"a", b"a"),
        (b"/d/e/f", b"f"),
        (b"d//e/./f", b"f"),
        (b"d/e/", b"e"),
        (b"x", None),
        (b"a/b", None),
        (b"d/e/f/g", None),
    ],
)
def test_a_path_leads_to_its_entry(tree, path, name):
    chunks, root = tree
    found = find_entry(root, path, chunks.fetch)
    assert (found.name if found else None) == name


def test_paths_are_split_into_names():
    assert split_path(b"//a/./b//") == [b"a", b"b"]
    assert split_path(b"/") == split_path(b"") == split_path(b".") == []


def test_content_is_unchanged_only_if_all_four_fields_are():
    entry = file(b"a", size_bytes=1, mtime_ns=2, ctime_ns=3, inode=4)
    assert unchanged_content(entry, 1, 2, 3, 4)
    for other in ((0, 2, 3, 4), (1, 0, 3, 4), (1, 2, 0, 4), (1, 2, 3, 0)):
        assert not unchanged_content(entry, *other)
