"""A dry run of a restore, the restore with -v, and the resulting files agree about each item's metadata."""

import os
import shutil

import pytest
from three_sites import fill

from drtool.errors import UsageError
from drtool.events import ItemChanged
from drtool.operations.restore import RestoreRequest, restore
from drtool.sources.filesystem import Applier, Folder
from drtool.sources.filesystem.attributes import set_flags

NO_DUMP = 0x40


@pytest.fixture
def source(world):
    source = fill(world.root / "source", {"file": b"1", "same": b"2", "sub/x": b"3"})
    source.chmod(0o750)
    world.backup(source)
    return source


def named(world, to, **more):
    """Return the items that a restore names, by path below the destination, and its errors."""
    heard = []
    with world.open() as repository:
        request = RestoreRequest(
            snapshot=world.snapshots()[-1], to=os.fsencode(to), overwrite="always", names_items=True, **more
        )
        result = restore(repository, request, heard.append)
    changes = [event for event in heard if isinstance(event, ItemChanged)]
    below = {(event.change, os.path.relpath(event.path, to), tuple(event.what)) for event in changes}
    assert len(below) == len(changes)
    return below, [(row.path, row.message) for row in result.errors]


def both(world, to, **more):
    foreseen = named(world, to, dry_run=True, **more)
    done = named(world, to, **more)
    assert foreseen == done
    return done


def test_the_metadata_of_the_destination_itself_is_named(world, source):
    out = world.root / "out"
    assert ("new", ".", ()) in both(world, out, path=os.fsencode(source))[0]
    assert both(world, out, path=os.fsencode(source)) == (set(), [])
    out.chmod(0o700)
    os.utime(out, ns=(0, 0))
    assert both(world, out, path=os.fsencode(source)) == ({("changed", ".", ("mode", "mtime"))}, [])
    assert both(world, out, path=os.fsencode(source)) == (set(), [])


def test_the_flags_and_attributes_of_a_replaced_file_are_named(world, source):
    out = world.root / "out"
    world.restore(out, path=source)
    (out / "file").write_bytes(b"other content")
    os.setxattr(out / "file", "user.note", b"1")
    fd = os.open(out / "file", os.O_RDONLY)
    set_flags(fd, NO_DUMP)
    os.close(fd)
    found, errors = both(world, out, path=os.fsencode(source))
    assert errors == []
    assert found == {("changed", "file", ("content", "mtime", "xattrs", "flags"))}


def test_a_part_that_cannot_be_set_is_listed_and_not_named(world, source, monkeypatch):
    out = world.root / "out"
    world.restore(out, path=source)
    for name in ("same", "sub"):
        (out / name).chmod(0o700)
        os.utime(out / name, ns=(0, 0))
    real = os.chmod

    def refused(target, mode, **more):
        if mode in (0o644, 0o755):
            raise PermissionError(1, "Operation not permitted")
        return real(target, mode, **more)

    monkeypatch.setattr(os, "chmod", refused)
    found, errors = named(world, out, path=os.fsencode(source))
    assert found == {("changed", "same", ("mtime",)), ("changed", "sub", ("mtime",))}
    assert errors == [(f"{source}/{name}", "mode: Operation not permitted") for name in ("same", "sub")]


def test_another_users_directory_is_listed_by_a_dry_run_and_not_named(world, source, monkeypatch):
    out = world.root / "out"
    world.restore(out, path=source)
    (out / "sub").chmod(0o700)
    (out / "same").chmod(0o600)
    monkeypatch.setattr(Applier, "may_set", lambda *_: False)
    found, errors = named(world, out, path=os.fsencode(source), dry_run=True)
    assert found == set()
    assert errors == [(f"{source}/{name}", "mode: Operation not permitted") for name in ("same", "sub")]


def test_attributes_of_a_directory_that_may_not_be_read_are_not_named(world, source, monkeypatch):
    """Nothing is set on it, either: it only leads to what was backed up."""
    out = world.root / "out"
    world.restore(out, path=source)
    os.setxattr(out / "sub", "user.note", b"1")
    monkeypatch.setattr("drtool.sources.filesystem.inodes.Inode.is_closed", True)
    with world.open() as repository:
        entry = next(
            entry
            for entry in _entries(repository, world.snapshots()[-1].root, os.fsencode(source))
            if entry.name == b"sub"
        )
        with Folder.destination(os.fsencode(out)) as folder:
            assert folder.differing(entry) == ()


def _entries(repository, root, path):
    from drtool.trees import find_entry, read_directory

    return read_directory(find_entry(root, path, repository.trees).subtree, repository.trees)


@pytest.mark.parametrize("to", ["dangling", "dangling/x", "closed/x"])
def test_a_destination_that_cannot_be_made_is_refused_beforehand(world, source, to):
    (world.root / "dangling").symlink_to("nowhere")
    (world.root / "closed").mkdir(mode=0o500)
    if to == "closed/x" and os.geteuid() == 0:
        pytest.skip("root creates files in any directory")
    for dry_run in (True, False):
        with pytest.raises(UsageError, match=r"leads nowhere|nothing can be created"):
            world.restore(world.root / to, path=source, dry_run=dry_run)
    assert os.readlink(world.root / "dangling") == "nowhere"


@pytest.mark.parametrize("missing", ["file", "sub", "sub/x"])
def test_what_cannot_be_written_is_listed_beforehand(world, source, monkeypatch, missing):
    out = world.root / "out"
    world.restore(out, path=source)
    path = out / missing
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    closed = os.stat(path.parent).st_ino
    monkeypatch.setattr(Folder, "may_write", lambda self: os.fstat(self.fd).st_ino != closed)
    found, errors = named(world, out, path=os.fsencode(source), dry_run=True)
    assert (f"{source}/{missing}", "Permission denied") in errors
    assert not any(path.startswith(missing) for change, path, _ in found if change == "new")
