"""Rescue systems and chroots without /proc: everything is captured, restored and compared all the same."""

import os
import stat

import pytest
from three_sites import fill, noise, portrait

from drtool.operations.restore import RestoreRequest, destination_of
from drtool.operations.verify import differences
from drtool.sources.filesystem import attributes, inodes, putback, without_proc


@pytest.fixture(autouse=True)
def no_proc(monkeypatch):
    for module in (attributes, inodes, putback, without_proc):
        monkeypatch.setattr(module, "HAS_PROC", False)
    for module in (inodes, putback):
        monkeypatch.setattr(module, "through", lambda handle: f"/nowhere/{handle}")


def test_everything_comes_back_as_it_was(world):
    source = fill(world.root / "source", {"file": b"content", "sub/deep/large": noise(5 * 2**20)})
    os.mkfifo(source / "sub/fifo", 0o640)
    (source / "link").symlink_to("file")
    (source / "sub").chmod(0o2750)
    if os.geteuid() == 0:
        os.mknod(source / "device", stat.S_IFCHR | 0o620, os.makedev(1, 3))
        (source / "labelled").symlink_to("nowhere")
        os.setxattr(source / "labelled", "trusted.note", b"1", follow_symlinks=False)
        os.chown(source / "labelled", 7, 8, follow_symlinks=False)
    wanted = portrait(source)
    assert world.backup(source).errors == []
    out = world.root / "out"
    assert world.restore(out, path=source).errors == []
    assert portrait(out) == wanted
    with world.open() as repository:
        repository.load_index()
        (row,) = repository.view.state.snapshots
        request = RestoreRequest(snapshot=row, to=os.fsencode(out), path=os.fsencode(source))
        with destination_of(repository, request) as root:
            assert list(differences(repository, row, root, request.path)) == []
    again = world.restore(out, path=source, overwrite="always")
    assert (again.errors, again.written_bytes) == ([], 0)


def test_attributes_that_differ_are_corrected(world):
    source = world.root / "source"
    source.mkdir()
    os.mkfifo(source / "fifo", 0o640)
    (source / "file").write_bytes(b"content")
    (source / "link").symlink_to("file")
    wanted = portrait(source)
    world.backup(source)
    out = world.root / "out"
    world.restore(out, path=source)
    os.chmod(out / "fifo", 0o600)
    os.chmod(out / "file", 0o600)
    os.utime(out / "link", ns=(1, 1), follow_symlinks=False)
    assert world.restore(out, path=source, overwrite="always").errors == []
    assert portrait(out) == wanted


def test_only_the_thread_changes_its_directory(tmp_path):
    before = os.getcwd()
    fd = os.open(tmp_path, os.O_RDONLY)
    try:
        assert without_proc.in_directory(fd, os.getcwd) == str(tmp_path)
    finally:
        os.close(fd)
    assert os.getcwd() == before
