"""Attributes that a snapshot could not see survive a restore, even if the file is replaced, and are no difference."""

import os

import pytest
from msgspec.structs import replace
from three_sites import fill, noise

from drtool.operations import backup as backing_up
from drtool.operations.restore import RestoreRequest, destination_of
from drtool.operations.verify import differences
from drtool.sources.filesystem import FLAGS, TRUSTED, UNREADABLE, Sight
from drtool.sources.filesystem.attributes import FLAG_IMMUTABLE, flags_of, set_flags
from drtool.sources.filesystem.rights import hidden_kinds, kinds
from drtool.trees import Entry, FileType

MARK = "trusted.mark"
NO_DUMP = 0x40

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="sets trusted.* attributes")


@pytest.fixture
def source(world, monkeypatch):
    """Three files and a directory with attributes that the backup, made by an ordinary user, did not see."""
    source = fill(world.root / "home/ann", {"same": b"1", "edited": b"2", "sub/x": b"3", "large": noise(5 << 20)})
    marked = [source / name for name in ("same", "edited", "large", "sub", ".")]
    monkeypatch.setattr(backing_up.run, "hidden_kinds", lambda: (TRUSTED, UNREADABLE))
    world.backup(source)
    for path in marked:
        os.setxattr(path, MARK, b"1")
        os.setxattr(path, "user.later", b"1")
    return source


def restore(world, **more):
    return world.restore(b"/", in_place=True, overwrite="always", **more)


def attributes(path):
    return set(os.listxattr(path)) - {"security.selinux"}


def edit(source):
    for name in ("edited", "large"):
        (source / name).write_bytes(b"edited")


@pytest.mark.parametrize("hidden", [True, None])
def test_root_restores_a_users_snapshot_and_removes_only_visible_attributes(world, source, monkeypatch, hidden):
    edit(source)
    if hidden is None:
        monkeypatch.setattr(Sight, "of", classmethod(lambda cls, _: cls(None, None, None)))
    result = restore(world)
    for name in ("same", "edited", "large", "sub", "."):
        assert attributes(source / name) == {MARK}, name
    assert (source / "edited").read_bytes() == b"2"
    assert (source / "large").stat().st_size == 5 << 20
    if hidden:
        assert result.errors == []
    else:
        kept = {row.path.removeprefix(str(source)): row for row in result.errors}
        assert kept.keys() == {"", "/same", "/sub", "/edited", "/large"}
        assert all(row.restored and MARK in row.message for row in kept.values())


def test_unseen_attributes_are_no_difference(world, source):
    assert restore(world).errors == []
    assert restore(world, dry_run=True).files == 4
    with world.open() as repository:
        (row,) = repository.view.state.snapshots
        assert row.hidden == (TRUSTED, UNREADABLE)
        repository.load_index()
        request = RestoreRequest(snapshot=row, to=b"/", in_place=True, overwrite="always")
        with destination_of(repository, request) as root:
            assert list(differences(repository, row, root, in_place=True)) == []
            os.setxattr(source / "same", "user.more", b"1")
            assert [found.path for found in differences(repository, row, root, in_place=True)] == [f"{source}/same"]


def test_root_sees_everything_and_so_removes_attributes_missing_in_its_snapshot(world):
    source = fill(world.root / "source", {"file": b"1", "edited": b"2"})
    world.backup(source)
    assert world.snapshots()[-1].hidden == hidden_kinds() == ()
    for name in ("file", "edited"):
        os.setxattr(source / name, MARK, b"1")
    (source / "edited").write_bytes(b"edited")
    assert restore(world).errors == []
    assert attributes(source / "file") == attributes(source / "edited") == set()


def test_flags_of_a_directory_that_could_not_be_read_stay(world, monkeypatch):
    source = fill(world.root / "source", {"closed/x": b"1", "open/x": b"2"})
    real = os.scandir
    closed = os.stat(source / "closed").st_ino

    def scandir(fd):
        if isinstance(fd, int) and os.fstat(fd).st_ino == closed:
            raise PermissionError(13, "Permission denied")
        return real(fd)

    monkeypatch.setattr(os, "scandir", scandir)
    world.backup(source)
    monkeypatch.undo()
    handles = {name: os.open(source / name, os.O_RDONLY) for name in ("closed", "open")}
    try:
        for fd in handles.values():
            os.setxattr(fd, "user.later", b"1")
            set_flags(fd, NO_DUMP)
        set_flags(handles["closed"], NO_DUMP | FLAG_IMMUTABLE)
        restore(world)
        assert flags_of(handles["closed"]) == NO_DUMP | FLAG_IMMUTABLE
        assert attributes(source / "closed") == {"user.later"}
        assert flags_of(handles["open"]) == 0
        assert attributes(source / "open") == set()
    finally:
        set_flags(handles["closed"], 0)
        for fd in handles.values():
            os.close(fd)


def test_an_attribute_that_could_not_be_read_stays():
    entry = Entry(name=b"x", type=FileType.FILE, mode=0, uid=0, gid=0, uncaptured=("xattr user.a: Permission denied",))
    sight = Sight()
    assert sight.of_xattr(b"user.a", entry) is False
    assert sight.of_xattr(b"user.b", entry) is True
    assert sight.of_flags(entry) is True
    unread = Entry(name=b"x", type=FileType.FILE, mode=0, uid=0, gid=0, uncaptured=("xattrs: I/O", "flags: I/O"))
    assert sight.of_xattr(b"user.b", unread) is False
    assert sight.of_flags(unread) is False


def test_flags_of_an_empty_file_in_an_old_snapshot_are_unknown():
    old = Sight.of(None)
    empty = Entry(name=b"x", type=FileType.FILE, mode=0, uid=0, gid=0)
    assert old.of_flags(empty) is None
    assert old.of_flags(replace(empty, size_bytes=1)) is True
    assert Sight.of(()).of_flags(empty) is True
    assert Sight.of((FLAGS,)).of_flags(replace(empty, size_bytes=1)) is False


def test_a_sandbox_that_forbids_to_ask_for_flags_is_recorded(monkeypatch):
    def forbidden(*_):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr("drtool.sources.filesystem.attributes.fcntl.ioctl", forbidden)
    assert FLAGS in hidden_kinds()


@pytest.mark.parametrize(
    ("effective", "ids", "wanted"),
    [
        ("000001ffffffffff", "0 0 4294967295", ()),
        ("0000000000000000", "0 0 4294967295", (TRUSTED, UNREADABLE)),
        ("0000000000000004", "0 0 4294967295", (TRUSTED,)),
        ("000001ffffffffff", "0 100000 65536", (TRUSTED,)),
    ],
)
def test_hidden_attributes_follow_from_the_rights_of_the_process(effective, ids, wanted):
    assert kinds(f"Name:\tx\nCapEff:\t{effective}\n", f"         {ids}\n") == wanted
