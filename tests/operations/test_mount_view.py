"""The view of a mount, without a kernel: names, bounds, and random access to files."""

import random
from dataclasses import dataclass, field

import pytest
from blake3 import blake3

from drtool.manifest.records import Counts, Snapshot
from drtool.model import ChunkId, ChunkKind
from drtool.operations.mounting import view as views
from drtool.operations.mounting.serving import attributes, linked_inode
from drtool.operations.mounting.view import Folder, Link, OpenFile, View, is_directory
from drtool.trees import Entry, FileType, write_content, write_directory


@dataclass
class Chunks:
    texts: dict = field(default_factory=dict)
    fetched: int = 0

    def put(self, kind, text):
        chunk = ChunkId(blake3(bytes([kind]) + text).digest())
        self.texts[chunk] = text
        return chunk

    def fetch(self, chunk):
        self.fetched += 1
        return self.texts[chunk]


def file(name, **more):
    return Entry(name=name, type=FileType.FILE, mode=0o644, uid=0, gid=0, **more)


def directory(name, subtree):
    return Entry(name=name, type=FileType.DIRECTORY, mode=0o755, uid=0, gid=0, subtree=subtree)


def snapshot(number, root, host="web1", time_s=1_000_000):
    return Snapshot(
        id=bytes([number]) * 16,
        session=bytes(16),
        source="",
        host=host,
        user="u",
        time_ns=time_s * 10**9,
        started_ns=0,
        paths=(b"/x",),
        tags=(),
        root=root,
        parent=None,
        counts=Counts(),
        program="",
        sequence=number,
    )


def of(rows, chunks, now=None):
    return View(lambda: rows, chunks.fetch, *([now] if now else []))


def test_snapshots_are_found_by_time_by_host_and_by_id():
    chunks = Chunks()
    root = write_directory([file(b"f")], chunks.put)
    rows = [snapshot(1, root), snapshot(2, root, "a/b", 2_000_000)]
    view = of(rows, chunks)
    assert [name for name, _ in view.list(view.node([]))] == [b"hosts", b"ids", b"snapshots", b"latest"]
    names = [name for name, _ in view.list(view.node([b"snapshots"]))]
    assert names == [b"1970-01-12T13.46.40Z-01010101", b"1970-01-24T03.33.20Z-02020202"]
    assert view.node([b"latest"]) == Link(b"snapshots/" + names[1])
    assert [name for name, _ in view.list(view.node([b"hosts"]))] == [b"web1", b"a_b"]
    for place in ([b"snapshots", names[0]], [b"hosts", b"web1", names[0]], [b"ids", b"01010101"]):
        assert view.node([*place, b"f"]).name == b"f"
        assert view.node([*place, b"f", b"below"]) is None
        assert view.node([*place, b"g"]) is None


def test_an_empty_repository_has_no_newest():
    view = of([], Chunks())
    assert view.node([b"latest"]) is None
    assert list(view.list(view.node([b"snapshots"]))) == []


def test_new_snapshots_appear_after_a_while():
    chunks, rows, now = Chunks(), [], [0.0]
    view = of(rows, chunks, lambda: now[0])
    assert list(view.list(view.node([b"ids"]))) == []
    rows.append(snapshot(1, write_directory([], chunks.put)))
    assert list(view.list(view.node([b"ids"]))) == []
    now[0] += views.REFRESH_S
    assert [name for name, _ in view.list(view.node([b"ids"]))] == [b"01010101"]


def test_a_huge_directory_begins_at_once():
    chunks = Chunks()
    root = write_directory([file(b"%06d" % number) for number in range(100_000)], chunks.put)
    view = of([snapshot(1, root)], chunks)
    chunks.fetched = 0
    first = next(view.list(view.node([b"ids", b"01010101"])))
    assert first[0] == b"000000"
    assert chunks.fetched <= 3


def test_the_caches_are_bounded(monkeypatch):
    monkeypatch.setattr(views, "ENTRIES_KEPT", 100)
    monkeypatch.setattr(views, "ENTRIES_BESIDE", 0)
    chunks = Chunks()
    parts = [
        directory(b"%02d" % number, write_directory([file(b"%02d-%02d" % (number, n)) for n in range(40)], chunks.put))
        for number in range(20)
    ]
    view = of([snapshot(1, write_directory(parts, chunks.put))], chunks)
    for number in range(20):
        assert view.node([b"ids", b"01010101", b"%02d" % number, b"%02d-07" % number]) is not None
    assert sum(map(len, view._kept.values())) <= 100
    chunks.fetched = 0
    assert view.node([b"ids", b"01010101", b"19", b"19-08"]) is not None
    assert chunks.fetched == 0


def test_a_file_is_read_from_anywhere_and_no_more_of_it_than_needed():
    chunks, lots = Chunks(), random.Random(1)
    texts = [lots.randbytes(lots.randrange(1, 300)) for _ in range(3000)]
    content, depth = write_content([chunks.put(ChunkKind.DATA, text) for text in texts], chunks.put)
    whole = b"".join(texts)
    read = []

    def text_of(chunk):
        read.append(chunk)
        return chunks.texts[chunk]

    entry = file(b"f", size_bytes=len(whole), content=content, content_depth=depth)
    opened = OpenFile(entry, chunks.fetch, lambda chunk: len(chunks.texts[chunk]), text_of)
    assert opened.read(len(whole) - 5, 100) == whole[-5:]
    assert len(read) == 1
    for _ in range(200):
        offset, size = lots.randrange(len(whole)), lots.randrange(2000)
        assert opened.read(offset, size) == whole[offset : offset + size]
    assert opened.read(len(whole), 10) == b""
    short = OpenFile(
        file(b"f", size_bytes=len(whole) + 1, content=content, content_depth=depth),
        chunks.fetch,
        opened._length_of,
        text_of,
    )
    with pytest.raises(EOFError):
        short.read(len(whole), 1)


def test_directories_are_recognised():
    assert is_directory(Folder())
    assert is_directory(directory(b"d", b""))
    assert not is_directory(file(b"f"))
    assert not is_directory(Link(b"x"))


def test_a_hole_takes_no_room():
    holes = ((4096, 8192), (20480, 4096))
    sparse = file(b"sparse", size_bytes=24576, holes=holes)
    assert attributes(sparse)["st_blocks"] * 512 == 24576 - 12288


def test_an_inode_number_is_one_files_in_one_snapshot():
    one = file(b"one", device=7, inode=9, links=2)
    two = file(b"two", device=7, inode=9, links=2)
    other_device = file(b"one", device=8, inode=9, links=2)
    assert linked_inode(b"tree", one) == linked_inode(b"tree", two) > 0
    assert len({linked_inode(b"tree", one), linked_inode(b"tree", other_device), linked_inode(b"later", one)}) == 3
