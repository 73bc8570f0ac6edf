"""Every fault of a restored tree is found."""

import os

import pytest
from three_sites import fill, noise

from drtool.operations.verify import differences
from drtool.sources.filesystem import Folder


def flip(path):
    with path.open("r+b") as file:
        file.seek(70_000)
        byte = file.read(1)
        file.seek(70_000)
        file.write(bytes([byte[0] ^ 1]))


def same_time(change):
    def changed(path):
        found = path.stat()
        change(path)
        os.utime(path, ns=(found.st_atime_ns, found.st_mtime_ns))

    return changed


@pytest.mark.parametrize(
    ("name", "change", "reason"),
    [
        ("d/file", same_time(flip), "content"),
        ("d/file", same_time(lambda path: os.truncate(path, 99_999)), "99999 bytes instead of 100000"),
        ("d/file", lambda path: path.unlink(), "it is missing"),
        ("d/file", lambda path: os.utime(path, ns=(1, 1)), "time"),
        ("d/file", lambda path: path.chmod(0o600), "mode is 0600"),
        ("d/link", lambda path: (path.unlink(), path.symlink_to("elsewhere")), "points elsewhere"),
        ("d/link", lambda path: (path.unlink(), path.mkdir()), "another kind"),
    ],
)
@pytest.mark.spread(4)
def test_each_difference_is_found_and_no_other(world, name, change, reason):
    source = fill(world.root / "source", {"d/file": noise(100_000), "d/other": b"1"})
    (source / "d/link").symlink_to("other")
    (source / "d/file").chmod(0o640)
    world.backup(source)
    out = world.root / "out"
    with world.open() as repository:
        (row,) = repository.view.state.snapshots
        world.run_restore(repository, out, row)
        below = Folder.destination(os.fsencode(out))
        assert list(differences(repository, row, below)) == []
        place = out / str(source).lstrip("/")
        above = (place / name).parent.stat()
        change(place / name)
        os.utime((place / name).parent, ns=(above.st_atime_ns, above.st_mtime_ns))
        (found,) = differences(repository, row, below)
    assert found.path == f"{source}/{name}"
    assert reason in found.reason


def set_attribute(path):
    try:
        os.setxattr(path, "user.more", b"1")
    except OSError as error:
        pytest.skip(f"no extended attributes here: {error.strerror}")


def unlink_and_copy(path):
    content = path.read_bytes()
    path.unlink()
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("name", "change", "reason"),
    [
        ("d/a", same_time(set_attribute), "its attribute user.more differs"),
        ("d/two", same_time(unlink_and_copy), "it is not a hard link of"),
        ("d/same", lambda path: (path.unlink(), os.link(path.parent / "a", path)), "it is a hard link of"),
        ("d/zero", lambda path: (path.unlink(), os.mknod(path, 0o20644, os.makedev(1, 3))), "its device number"),
    ],
)
def test_attributes_links_and_devices_are_compared(world, name, change, reason):
    source = fill(world.root / "source", {"d/a": b"text", "d/one": b"1", "d/same": b"text"})
    os.link(source / "d/one", source / "d/two")
    try:
        os.mknod(source / "d/zero", 0o20644, os.makedev(1, 5))
    except PermissionError as error:
        pytest.skip(f"no devices here: {error.strerror}")
    for entry in (source / "d").iterdir():
        os.utime(entry, ns=(10**18, 10**18))
    world.backup(source)
    out = world.root / "out"
    with world.open() as repository:
        (row,) = repository.view.state.snapshots
        assert world.run_restore(repository, out, row).errors == []
        below = Folder.destination(os.fsencode(out))
        assert list(differences(repository, row, below)) == []
        place = out / str(source).lstrip("/")
        change(place / name)
        os.utime(place / name, ns=(10**18, 10**18))
        above = (source / "d").stat()
        os.utime(place / "d", ns=(above.st_atime_ns, above.st_mtime_ns))
        (found,) = differences(repository, row, below)
        assert found.path == f"{source}/{name}"
        assert reason in found.reason
        assert list(differences(repository, row, below, imperfect={found.path})) == []
