"""An item at the destination is replaced only by a complete one, and no temporary file stays behind."""

import os
import stat

import pytest
from three_sites import fill, noise

from drtool.operations.restore import feeding
from drtool.operations.restore import preview as previewing
from drtool.operations.restore import run as running
from drtool.operations.restore.sweep import _TEMPORARY
from drtool.sources.filesystem import Folder

LARGE = 9 * 1024 * 1024
NAMES = ["large", "middle", "linked"]


@pytest.fixture
def source(world):
    source = fill(
        world.root / "source",
        {"large": noise(LARGE, 1), "middle": noise(3 * 1024 * 1024, 2), "linked": noise(3 * 1024 * 1024, 3)},
    )
    os.link(source / "linked", source / "other name")
    os.mkfifo(source / "pipe")
    (source / "link").symlink_to("large")
    world.backup(source)
    return source


def spoil(world):
    """Let no chunk of a file be read any more."""
    for target in world.targets:
        for pack in world.objects(target):
            content = bytearray(pack.read_bytes())
            for at in range(100, len(content) - 8192, 4096):
                content[at] ^= 255
            pack.chmod(0o644)
            pack.write_bytes(content)


def put_there(path, kind):
    if kind == "link":
        path.symlink_to("/etc/hostname")
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "full directory":
        fill(path, {"precious": b"1", "deep/er": b"2"})
    else:
        path.mkdir()


def temporaries(top):
    return [
        name for _, folders, files in os.walk(os.fsencode(top)) for name in folders + files if _TEMPORARY.match(name)
    ]


@pytest.mark.parametrize("kind", ["link", "pipe", "directory", "full directory"])
def test_an_item_of_another_kind_survives_unreadable_content(world, source, kind):
    out = world.root / "out"
    out.mkdir()
    for name in NAMES:
        put_there(out / name, kind)
    before = {name: os.lstat(out / name).st_ino for name in NAMES}
    spoil(world)
    result = world.restore(out, path=source, overwrite="always", delete=True)
    assert {row.path.rpartition("/")[2] for row in result.errors} >= {*NAMES}
    assert {name: os.lstat(out / name).st_ino for name in NAMES} == before
    assert result.deleted == 0
    if kind == "full directory":
        assert (out / "large/precious").exists()
        assert (out / "linked/deep/er").exists()
    assert temporaries(out) == []


@pytest.mark.parametrize("kind", ["link", "pipe", "directory", "full directory"])
def test_an_item_of_another_kind_is_replaced_by_readable_content(world, source, kind):
    out = world.root / "out"
    out.mkdir()
    for name in [*NAMES, "pipe", "link", "other name"]:
        put_there(out / name, "directory" if (name, kind) in (("pipe", "pipe"), ("link", "link")) else kind)
    foreseen = world.restore(out, path=source, overwrite="always", delete=True, dry_run=True)
    result = world.restore(out, path=source, overwrite="always", delete=True)
    assert result.errors == foreseen.errors == []
    assert (result.deleted, result.files) == (foreseen.deleted, foreseen.files)
    for name in [*NAMES, "other name"]:
        assert (out / name).read_bytes() == (source / name).read_bytes()
    assert os.path.samefile(out / "linked", out / "other name")
    assert stat.S_ISFIFO(os.lstat(out / "pipe").st_mode)
    assert os.readlink(out / "link") == "large"
    assert temporaries(out) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="makes a device")
def test_an_existing_item_survives_a_failed_device(world, source, monkeypatch):
    os.mknod(source / "device", stat.S_IFCHR | 0o600, os.makedev(1, 3))
    world.backup(source)
    out = fill(world.root / "out", {"device": b"precious"})

    def refused(*_, **__):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "mknod", refused)
    result = world.restore(out, path=source, overwrite="always")
    assert [row.path.rpartition("/")[2] for row in result.errors] == ["device"]
    assert (out / "device").read_bytes() == b"precious"


def test_a_file_survives_a_directory_that_cannot_be_made(world, monkeypatch):
    source = fill(world.root / "source", {"sub/x": b"1"})
    world.backup(source)
    out = fill(world.root / "out", {"sub": b"precious"})
    real = os.mkdir

    def full(path, *words, **more):
        if more.get("dir_fd") is not None:
            raise OSError(28, "No space left on device")
        return real(path, *words, **more)

    monkeypatch.setattr(os, "mkdir", full)
    with pytest.raises(running.DrtoolError, match="no space"):
        world.restore(out, path=source, overwrite="always")
    monkeypatch.undo()
    assert (out / "sub").read_bytes() == b"precious"
    assert world.restore(out, path=source, overwrite="always").errors == []
    assert (out / "sub/x").read_bytes() == b"1"


@pytest.mark.parametrize("dry_run", [True, False])
def test_an_abandoned_temporary_directory_goes_if_it_is_empty(world, dry_run):
    source = fill(world.root / "source", {"sub/x": b"1"})
    world.backup(source)
    out = fill(world.root / "out", {"sub/x": b"1", ".drtool-00112233445566aa/of a user": b"2"})
    (out / ".drtool-00112233445566ff").mkdir()
    result = world.restore(out, path=source, overwrite="always", dry_run=dry_run)
    assert (result.errors, result.deleted) == ([], 0)
    assert (out / ".drtool-00112233445566ff").exists() == dry_run
    assert (out / ".drtool-00112233445566aa/of a user").exists()


@pytest.mark.parametrize("why", ["damaged", "not captured"])
def test_a_file_survives_a_directory_that_cannot_be_read(world, monkeypatch, why):
    source = fill(world.root / "source", {"sub/x": b"1", "other": b"2"})
    closed, real = os.stat(source / "sub").st_ino, os.scandir

    def scandir(fd):
        if why == "not captured" and isinstance(fd, int) and os.fstat(fd).st_ino == closed:
            raise PermissionError(13, "Permission denied")
        return real(fd)

    monkeypatch.setattr(os, "scandir", scandir)
    world.backup(source)
    monkeypatch.undo()
    out = fill(world.root / "out", {"sub": b"precious"})
    if why == "damaged":
        reading = running.names_in

        def damaged(frame, **more):
            if frame.names:
                raise running.DrtoolError("no copy of its directory can be read")
            return reading(frame, **more)

        monkeypatch.setattr(running, "names_in", damaged)
        monkeypatch.setattr(previewing, "names_in", damaged)
    foreseen = world.restore(out, path=source, overwrite="always", dry_run=True)
    result = world.restore(out, path=source, overwrite="always")
    assert (out / "sub").read_bytes() == b"precious"
    assert (out / "other").read_bytes() == b"2"
    assert [(row.path, row.message) for row in result.errors] == [(row.path, row.message) for row in foreseen.errors]
    assert [row.path for row in result.errors] == [str(source / "sub")]


def test_a_large_file_leaves_nothing_where_its_directory_was_swapped_for_a_link(world, monkeypatch):
    source = fill(world.root / "source", {"sub/large": noise(LARGE, 5)})
    world.backup(source)
    out = fill(world.root / "out", {"keep": b"1"})
    elsewhere = fill(world.root / "elsewhere", {"keep": b"1"})
    real = feeding.Feeder._hand_over

    def swapped(self, file):
        real(self, file)
        if not (out / "moved").exists():
            os.rename(out / "sub", out / "moved")
            (out / "sub").symlink_to(elsewhere)

    monkeypatch.setattr(feeding.Feeder, "_hand_over", swapped)
    result = world.restore(out, path=source, overwrite="always")
    assert any(row.path.endswith("/large") for row in result.errors)
    assert sorted(os.listdir(elsewhere)) == ["keep"]
    assert os.listdir(out / "moved") == []
    assert temporaries(out) == temporaries(elsewhere) == []


def test_a_large_file_that_is_under_way_is_no_leftover_for_another_restore(world, monkeypatch):
    """The other restore sweeps the same directory in between."""
    source = fill(world.root / "source", {"large": noise(LARGE, 6)})
    world.backup(source)
    out = world.root / "out"
    real = Folder.finish_file
    seen = []

    def meanwhile(self, fd, entry, **more):
        if entry.name == b"large" and not seen:
            seen.extend(temporaries(out))
            other = fill(world.root / "small", {"x": b"1"})
            world.backup(other)
            world.restore(out, path=other, overwrite="always")
        return real(self, fd, entry, **more)

    monkeypatch.setattr(Folder, "finish_file", meanwhile)
    snapshot = world.snapshots()[-1]
    result = world.restore(out, snapshot, path=source)
    assert len(seen) == 1
    assert result.errors == []
    assert (out / "large").stat().st_size == LARGE
