"""Restore: hard links that are none, and messages that fit into the pipe."""

import msgspec
from three_sites import fill

from drtool.operations.backup import scan
from drtool.repository.workers import WorkerPool
from drtool.sources.filesystem import Folder, HardLinks
from drtool.sources.filesystem.attributes import Attributes
from drtool.trees import Entry, FileType

PIPE_BYTES = 128 * 1024


def entry(name, content):
    return Entry(
        name=name,
        type=int(FileType.FILE),
        mode=0o644,
        uid=0,
        gid=0,
        size_bytes=3,
        inode=7,
        device=1,
        links=2,
        content=content,
    )


def test_an_inode_number_used_twice_is_no_hard_link(tmp_path):
    """A file is removed while the backup runs, and a new one gets its number: both are in one snapshot, each with its bytes."""
    fill(tmp_path, {"old": b"old"})
    with Folder.destination(bytes(tmp_path)) as root:
        links = HardLinks(root)
        links.remember(entry(b"old", b"1" * 32), (b"old",), root.stat(b"old"))
        assert not links.link(entry(b"new", b"2" * 32), root)
        assert links.link(entry(b"same", b"1" * 32), root)


def test_attributes_count_when_a_batch_is_measured(world, tmp_path, monkeypatch):
    """A request larger than the pipe, answered by a reply larger than the pipe, would block both sides for ever."""
    source = fill(world.root / "source", {f"{i:03}": b"text" for i in range(200)})
    monkeypatch.setattr(
        "drtool.operations.backup.worker.attributes_of",
        lambda _: Attributes(tuple((b"user.%d" % i, bytes(500)) for i in range(40)), 0, ()),
    )
    world.backup(source)
    sizes = []
    submit = WorkerPool.submit

    def measured(pool, request):
        sizes.append(len(msgspec.msgpack.encode(request)))
        return submit(pool, request)

    monkeypatch.setattr(WorkerPool, "submit", measured)
    result = world.restore(tmp_path / "out", path=source)
    assert result.files == 200
    assert max(sizes) < PIPE_BYTES


def test_a_directory_that_is_replaced_meanwhile_is_listed_with_a_reason(world, monkeypatch):
    source = fill(world.root / "source", {"one/x": b"1", "two/x": b"2"})
    enter = scan.Scan._enter

    def entering(self, path, *words, **more):
        if path == bytes(source / "two") and not (world.root / "old").exists():
            (source / "two").rename(world.root / "old")
            fill(source, {"two/y": b"3"})
        return enter(self, path, *words, **more)

    monkeypatch.setattr(scan.Scan, "_enter", entering)
    report = world.backup(source)
    (row,) = report.errors
    assert row.path == str(source / "two")
    assert row.message.startswith("content: another directory replaced it during the backup")
    monkeypatch.undo()
    assert world.backup(source).errors == []
