"""Restoring names that share an inode, and immutable files."""

import os
import stat

import pytest
from three_sites import fill

from drtool.sources.filesystem import Folder
from drtool.sources.filesystem.attributes import FLAG_APPEND, FLAG_IMMUTABLE, flags_of, set_flags

LARGE_BYTES = 5 * 1024 * 1024


def flags(path):
    fd = os.open(path, os.O_RDONLY)
    try:
        return flags_of(fd)
    finally:
        os.close(fd)


def lock(path, value):
    fd = os.open(path, os.O_RDONLY)
    try:
        set_flags(fd, value)
    finally:
        os.close(fd)


@pytest.fixture
def source(world):
    """A directory with files that may be locked. Everything is unlocked at the end."""
    root = world.root / "source"
    root.mkdir()
    probe = fill(root, {"probe": b""}) / "probe"
    try:
        lock(probe, FLAG_IMMUTABLE)
        lock(probe, 0)
    except OSError as error:
        pytest.skip(f"no immutable files here: {error.strerror}")
    probe.unlink()
    yield root
    for folder, _, files in os.walk(world.root):
        for path in (folder, *(os.path.join(folder, name) for name in files)):
            if not os.path.islink(path) and stat.S_ISREG(os.stat(path).st_mode):
                lock(path, 0)


def inode(path):
    return path.lstat().st_ino


@pytest.mark.parametrize("overwrite", ["always", "if-changed"])
def test_a_file_outside_of_the_restore_is_not_changed_through_a_name_inside(world, overwrite):
    source = fill(world.root / "source", {"a": b"text"})
    os.chmod(source / "a", 0o600)
    os.utime(source / "a", ns=(10**18, 10**18))
    os.link(source / "a", source / "b")
    world.backup(source)
    outside = fill(world.root / "outside", {"file": b"text"}) / "file"
    os.chmod(outside, 0o644)
    os.utime(outside, ns=(10**18, 10**18))
    (source / "a").unlink()
    (source / "b").unlink()
    os.link(outside, source / "a")
    foreseen = world.restore(source, path=source, overwrite=overwrite, dry_run=True)
    result = world.restore(source, path=source, overwrite=overwrite)
    assert result.errors == []
    assert foreseen.written_bytes == result.written_bytes
    assert (stat.S_IMODE(outside.stat().st_mode), outside.stat().st_nlink) == (0o644, 1)
    assert inode(source / "a") == inode(source / "b") != inode(outside)
    assert stat.S_IMODE((source / "a").stat().st_mode) == 0o600


@pytest.mark.parametrize("flag", [FLAG_IMMUTABLE, FLAG_APPEND])
def test_hard_links_of_a_locked_file_are_links_and_locked_again(world, source, flag):
    fill(source, {"a": b"text"})
    (source / "below").mkdir()
    os.link(source / "a", source / "b")
    os.link(source / "a", source / "below/c")
    lock(source / "a", flag)
    world.backup(source)
    out = world.root / "out"
    for overwrite in (None, "always"):
        result = world.restore(out, path=source, overwrite=overwrite)
        assert (result.files, result.errors) == (3, [])
        assert inode(out / "a") == inode(out / "b") == inode(out / "below/c")
        assert flags(out / "a") == flag
    lock(out / "a", 0)
    (out / "b").unlink()
    lock(out / "a", flag)
    assert world.restore(out, path=source, overwrite="always").errors == []
    assert inode(out / "a") == inode(out / "b") == inode(out / "below/c")
    assert flags(out / "b") == flag


@pytest.mark.parametrize("size_bytes", [4, LARGE_BYTES])
@pytest.mark.parametrize("flag", [FLAG_IMMUTABLE, FLAG_APPEND])
def test_a_locked_file_replaces_an_older_locked_one(world, source, flag, size_bytes):
    fill(source, {"file": b"x" * size_bytes})
    lock(source / "file", flag)
    world.backup(source)
    out = fill(world.root / "out", {"file": b"older"})
    lock(out / "file", flag)
    result = world.restore(out, path=source, overwrite="always")
    assert result.errors == []
    assert (out / "file").read_bytes() == b"x" * size_bytes
    assert flags(out / "file") == flag
    assert os.listdir(out) == ["file"]


def test_an_outside_file_stays_locked_when_its_name_inside_is_replaced(world, source):
    fill(source, {"file": b"text"})
    world.backup(source)
    outside = fill(world.root / "outside", {"file": b"other"}) / "file"
    out = world.root / "out"
    out.mkdir()
    os.link(outside, out / "file")
    lock(outside, FLAG_IMMUTABLE)
    assert world.restore(out, path=source, overwrite="always").errors == []
    assert (out / "file").read_bytes() == b"text"
    assert (outside.read_bytes(), flags(outside)) == (b"other", FLAG_IMMUTABLE)


def test_symlinks_and_fifos_with_several_names_are_links_again(world):
    source = fill(world.root / "source", {"file": b"text"})
    os.symlink("file", source / "link")
    os.mkfifo(source / "pipe")
    for name in ("link", "pipe"):
        os.link(source / name, source / f"{name}-2", follow_symlinks=False)
    world.backup(source)
    out = world.root / "out"
    for overwrite in (None, "always"):
        result = world.restore(out, path=source, overwrite=overwrite)
        assert (result.files, result.errors) == (5, [])
        assert inode(out / "link") == inode(out / "link-2")
        assert inode(out / "pipe") == inode(out / "pipe-2")
        assert os.readlink(out / "link-2") == "file"


def test_a_link_that_cannot_be_made_is_a_copy_and_reported(world, monkeypatch):
    source = fill(world.root / "source", {"a": b"text"})
    os.link(source / "a", source / "b")
    os.link(source / "a", source / "c")
    world.backup(source)
    out = fill(world.root / "out", {"b": b"what was there"})
    refused = iter([True])
    link = os.link

    def linking(*words, **more):
        if next(refused, False):
            raise OSError(31, "Too many links")
        link(*words, **more)

    monkeypatch.setattr("drtool.sources.filesystem.links.os.link", linking)
    result = world.restore(out, path=source, overwrite="always")
    assert [(row.path, row.message) for row in result.errors] == [
        (str(source / "b"), "hard link: Too many links; it is a copy now")
    ]
    assert result.files == 3
    assert [(out / name).read_bytes() for name in "abc"] == [b"text"] * 3
    assert inode(out / "c") == inode(out / "b") != inode(out / "a")


def test_a_directory_is_locked_again_after_a_name_was_removed_from_it(world, source):
    out = fill(world.root / "out", {"file": b"text"})
    lock(out, FLAG_IMMUTABLE)
    try:
        with Folder.destination(os.fsencode(out)) as folder:
            assert folder.clear(b"file") == 1
        assert flags(out) == FLAG_IMMUTABLE
    finally:
        lock(out, 0)


@pytest.mark.parametrize("flag", [FLAG_IMMUTABLE, FLAG_APPEND])
def test_a_locked_directory_that_stays_as_it_is_keeps_its_flag(world, source, flag):
    fill(source, {"locked/old": b"old", "locked/new": b"new", "locked/below/deep": b"deep"})
    world.backup(source)
    out = world.root / "out"
    fill(out, {"locked/old": b"mine"})
    (out / "locked" / "below").mkdir()
    for directory in (out / "locked" / "below", out / "locked"):
        lock(directory, flag)
    try:
        result = world.restore(out, path=source, overwrite="never")
        assert (result.errors, result.files, result.skipped) == ([], 2, 1)
        assert flags(out / "locked") == flags(out / "locked" / "below") == flag
        assert (out / "locked/new").read_bytes() + (out / "locked/below/deep").read_bytes() == b"newdeep"
        assert (out / "locked/old").read_bytes() == b"mine"
    finally:
        for directory in (out / "locked", out / "locked" / "below"):
            lock(directory, 0)
