"""Symbolic links that lead to backed-up paths are recorded, followed by a restore in place, and never replaced."""

import io
import os
import tarfile
import zipfile
from contextlib import contextmanager

import pytest
from three_sites import fill

from drtool.errors import Refused
from drtool.events import ignore
from drtool.operations.backup import SourceJob
from drtool.operations.drift import _Files
from drtool.operations.dumping import dump_archive, place_of
from drtool.operations.restore import RestoreRequest, destination_of
from drtool.operations.verify import differences
from drtool.trees import FileType, find_entry


@pytest.fixture
def top(world):
    """`lib` is a link to `usr/lib`, and `lib/modules` is backed up through it."""
    top = world.root / "top"
    fill(top, {"usr/lib/modules/a.ko": b"module", "usr/lib/x86/libc": b"libc"})
    (top / "lib").symlink_to("usr/lib")
    assert world.backup(top / "lib/modules").errors == []
    return top


def in_place(world, path=None, **more):
    to = path or b"/"
    return world.restore(to, path=path, in_place=True, overwrite="always", **more)


@contextmanager
def look(world, path=None):
    """Return the faults that a restore in place left."""
    with world.open() as repository:
        (row,) = repository.view.state.snapshots
        repository.load_index()
        request = RestoreRequest(snapshot=row, to=path or b"/", path=path, in_place=True, overwrite="always")
        with destination_of(repository, request) as root:
            yield list(differences(repository, row, root, path, in_place=True))


def entry_at(world, path):
    with world.open() as repository:
        (row,) = repository.view.state.snapshots
        return find_entry(row.root, os.fsencode(path), repository.trees)


def test_the_link_is_recorded_and_other_places_get_a_directory(world, top):
    entry = entry_at(world, top / "lib")
    assert (entry.type, entry.link_target) == (FileType.DIRECTORY, b"usr/lib")
    assert world.restore(world.root / "out").errors == []
    assert (world.root / "out" / str(top)[1:] / "lib/modules/a.ko").read_bytes() == b"module"
    assert not (world.root / "out" / str(top)[1:] / "lib").is_symlink()


def test_a_second_backup_finds_nothing_changed(world, top):
    again = world.backup(top / "lib/modules")
    assert (again.dirs.changed, again.dirs.new, again.files.unmodified) == (0, 0, 1)
    (top / "other").mkdir()
    os.rename(top / "usr/lib/modules", top / "other/modules")
    (top / "lib").unlink()
    (top / "lib").symlink_to("other")
    assert world.backup(top / "lib/modules").dirs.changed > 0


@pytest.mark.parametrize("path", [None, "lib/modules"])
def test_a_restore_in_place_goes_through_it(world, top, path):
    path = path and os.fsencode(top / path)
    (top / "usr/lib/modules/a.ko").write_bytes(b"broken")
    (top / "usr/lib/modules/extra").write_bytes(b"extra")
    foreseen = in_place(world, path, delete=True, dry_run=True)
    result = in_place(world, path, delete=True)
    assert result.errors == foreseen.errors == []
    assert (result.files, result.deleted) == (foreseen.files, foreseen.deleted) == (1, 1)
    assert os.readlink(top / "lib") == "usr/lib"
    assert (top / "usr/lib/modules/a.ko").read_bytes() == b"module"
    assert not (top / "usr/lib/modules/extra").exists()
    assert (top / "lib/x86/libc").read_bytes() == b"libc"
    with look(world, path) as found:
        assert found == []
    (top / "usr/lib/modules/a.ko").write_bytes(b"broken")
    with look(world, path) as found:
        assert [row.path for row in found] == [str(top / "lib/modules/a.ko")]


def test_it_is_gone_through_to_a_new_directory_of_the_same_name(world, top):
    os.rename(top / "usr", top / "old")
    (top / "usr/lib").mkdir(parents=True)
    assert in_place(world).errors == []
    assert (top / "usr/lib/modules/a.ko").read_bytes() == b"module"


@pytest.mark.parametrize("path", [None, "lib", "lib/modules"])
def test_a_link_that_is_gone_is_made_again(world, top, path):
    path = path and os.fsencode(top / path)
    (top / "lib").unlink()
    (top / "usr/lib/modules/a.ko").write_bytes(b"broken")
    foreseen = in_place(world, path, dry_run=True)
    assert not os.path.lexists(top / "lib")
    result = in_place(world, path)
    assert result.errors == foreseen.errors == []
    assert (result.files, result.written_bytes) == (foreseen.files, foreseen.written_bytes)
    assert os.readlink(top / "lib") == "usr/lib"
    assert (top / "usr/lib/modules/a.ko").read_bytes() == b"module"
    assert (top / "lib/x86/libc").read_bytes() == b"libc"
    with look(world, path) as found:
        assert found == []


def test_a_file_comes_back_behind_a_link_that_is_gone(world):
    top = fill(world.root / "top", {"etc/real.conf": b"settings"})
    (top / "app.conf").symlink_to("etc/real.conf")
    world.backup(top / "app.conf")
    (top / "app.conf").unlink()
    (top / "etc/real.conf").write_bytes(b"broken")
    assert in_place(world).errors == []
    assert os.readlink(top / "app.conf") == "etc/real.conf"
    assert (top / "etc/real.conf").read_bytes() == b"settings"


def test_where_a_link_is_gone_with_its_target_a_directory_is_made_and_reported(world, top):
    (top / "lib").unlink()
    os.rename(top / "usr", top / "old")
    foreseen = in_place(world, dry_run=True)
    result = in_place(world)
    (row,) = result.errors
    assert (row.path, row.restored) == (str(top / "lib"), True)
    assert "usr/lib" in row.message
    assert foreseen.errors == result.errors
    assert (top / "lib/modules/a.ko").read_bytes() == b"module"
    assert not (top / "lib").is_symlink()


@pytest.mark.parametrize("swap", ["link", "target", "dangling"])
def test_a_link_that_leads_elsewhere_is_refused_and_stays(world, top, swap):
    elsewhere = fill(world.root / "elsewhere", {"lib/modules/a.ko": b"precious"})
    if swap == "link":
        (top / "lib").unlink()
        (top / "lib").symlink_to(elsewhere / "lib")
    else:
        os.rename(top / "usr", top / "old")
    if swap == "target":
        (top / "usr").symlink_to(elsewhere)
    words = os.readlink(top / "lib")
    foreseen = in_place(world, dry_run=True)
    result = in_place(world)
    assert [row.path for row in result.errors] == [row.path for row in foreseen.errors] == [str(top / "lib")]
    assert (result.files, result.written_bytes) == (foreseen.files, foreseen.written_bytes) == (0, 0)
    assert os.readlink(top / "lib") == words
    assert (elsewhere / "lib/modules/a.ko").read_bytes() == b"precious"
    for dry_run in (True, False):
        with pytest.raises(Refused, match=r"symbolic link"):
            in_place(world, os.fsencode(top / "lib/modules"), dry_run=dry_run)
    assert (elsewhere / "lib/modules/a.ko").read_bytes() == b"precious"


def test_a_link_in_the_place_of_a_directory_above_is_refused_and_stays(world):
    home = fill(world.root / "home", {"ann/letter": b"Dear Ada"})
    world.backup(home / "ann")
    os.rename(home, world.root / "data")
    home.symlink_to("elsewhere")
    fill(world.root / "elsewhere", {"ann/letter": b"another"})
    assert [row.path for row in in_place(world, dry_run=True).errors] == [str(home)]
    assert [row.path for row in in_place(world).errors] == [str(home)]
    for dry_run in (True, False):
        with pytest.raises(Refused):
            in_place(world, os.fsencode(home / "ann"), dry_run=dry_run)
    assert os.readlink(home) == "elsewhere"
    assert (home / "ann/letter").read_bytes() == b"another"


@pytest.mark.parametrize("target", ["etc/real.conf", "/etc/real.conf"])
def test_a_file_behind_a_link_is_restored_and_the_link_stays(world, target):
    top = fill(world.root / "top", {"etc/real.conf": b"good"})
    target = str(top) + target if target.startswith("/") else target
    (top / "conf").symlink_to(target)
    world.backup(top / "conf")
    (top / "etc/real.conf").write_bytes(b"spoilt by hand")
    foreseen = in_place(world, dry_run=True)
    assert (foreseen.errors, foreseen.written_bytes) == ([], 4)
    result = in_place(world)
    assert (result.errors, result.files, result.written_bytes) == ([], 1, 4)
    assert os.readlink(top / "conf") == target
    assert (top / "etc/real.conf").read_bytes() == b"good"
    with look(world) as found:
        assert found == []
    (top / "conf").unlink()
    (top / "conf").symlink_to("etc/another.conf")
    assert [row.path for row in in_place(world).errors] == [str(top / "conf")]
    assert os.listdir(top / "etc") == ["real.conf"]


def test_a_listed_symlink_is_stored_as_one(world):
    top = fill(world.root / "top", {"a.csv": b"one", "elsewhere/huge": b"x" * 5000})
    (top / "link.csv").symlink_to("a.csv")
    (top / "dangling.csv").symlink_to("/no/such/place")
    (top / "dir.csv").symlink_to("elsewhere")
    listed = tuple(os.fsencode(top / name) for name in ("a.csv", "link.csv", "dangling.csv", "dir.csv"))
    with world.open() as repository:
        job = SourceJob(name="", paths_as_they_are=listed)
        report = world.run_jobs(repository, job).snapshots[0]
        again = world.run_jobs(repository, job).snapshots[0]
    assert report.errors == []
    assert again.parent == report.id
    assert again.files.unmodified == 4
    assert world.restore(world.root / "out", path=top).errors == []
    out = world.root / "out"
    assert {name: os.readlink(out / name) for name in os.listdir(out) if (out / name).is_symlink()} == {
        "link.csv": "a.csv",
        "dangling.csv": "/no/such/place",
        "dir.csv": "elsewhere",
    }


def test_a_listed_symlink_that_is_named_as_well_is_followed(world):
    top = fill(world.root / "top", {"real/file": b"one"})
    (top / "link").symlink_to("real")
    with world.open() as repository:
        job = SourceJob(name="", paths=(os.fsencode(top / "link"),), paths_as_they_are=(os.fsencode(top / "link"),))
        assert world.run_jobs(repository, job).snapshots[0].files.new == 1
    assert entry_at(world, top / "link/file").size_bytes == 3


def test_drift_compares_the_targets_of_links(world):
    top = fill(world.root / "top", {"usr/lib/a": b"one", "etc/real": b"two"})
    (top / "lib").symlink_to("usr/lib")
    (top / "conf").symlink_to("etc/real")
    world.backup(top / "lib", top / "conf")
    with world.open() as repository:
        repository.load_index()
        (row,) = repository.view.state.snapshots
        assert list(_Files(repository, row, ()).differences()) == []
        (top / "etc/real").write_bytes(b"another")
        assert [found.name for found in _Files(repository, row, ()).differences()] == [str(top / "conf")]


@pytest.mark.parametrize("kind", ["tar", "zip"])
def test_an_archive_holds_a_directory_where_the_link_was(world, top, kind):
    with world.open() as repository:
        repository.load_index()
        (row,) = repository.view.state.snapshots
        out = io.BytesIO()
        dump_archive(repository, place_of(repository, row, os.fsencode(top)), kind, out, ignore)
    out.seek(0)
    if kind == "tar":
        with tarfile.open(fileobj=out) as archive:
            assert {each.name: each.isdir() for each in archive} == {
                "lib": True,
                "lib/modules": True,
                "lib/modules/a.ko": False,
            }
    else:
        with zipfile.ZipFile(out) as archive:
            assert {each.filename: each.file_size for each in archive.infolist()} == {
                "lib/": 0,
                "lib/modules/": 0,
                "lib/modules/a.ko": 6,
            }


def test_a_link_that_was_made_after_the_backup_is_not_gone_through_though_it_leads_to_the_same_inode(world):
    """Two disks have roots of one device and inode number, if one is mounted after the other."""
    home = fill(world.root / "home", {"file": b"stored"})
    assert world.backup(home).errors == []
    home.rename(world.root / "other")
    home.symlink_to("other")
    (world.root / "other/precious").write_bytes(b"precious")
    with pytest.raises(Refused):
        in_place(world, os.fsencode(home), delete=True)
    assert in_place(world).errors != []
    assert home.is_symlink()
    assert (world.root / "other/precious").read_bytes() == b"precious"
