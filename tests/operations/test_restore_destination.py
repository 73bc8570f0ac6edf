"""The place of a single restored file, and the metadata of the destination itself."""

import os

import pytest
from three_sites import fill, founded, place, world

from drtool.errors import DrtoolError, Refused
from drtool.events import Warned
from drtool.operations.restore import RestoreRequest, restore

__all__ = ["founded", "place", "world"]


@pytest.fixture
def source(world):
    source = fill(world.root / "etc", {"fstab": b"tab", "conf/one": b"1"})
    (source / "link").symlink_to("fstab")
    (source / "conf").chmod(0o750)
    world.backup(source)
    return source


@pytest.fixture
def out(world):
    """A directory with something in it."""
    return fill(world.root / "out", {"other": b"other"})


@pytest.mark.parametrize("name", ["fstab", "link"])
def test_a_single_file_goes_beside_others_when_its_name_is_free(world, source, out, name):
    mode = out.stat().st_mode
    result = world.restore(out, path=source / name)
    assert (result.files, result.errors) == (1, [])
    assert (out / name).is_symlink() == (name == "link")
    assert ((out / "other").read_bytes(), out.stat().st_mode) == (b"other", mode)


@pytest.mark.parametrize("dry_run", [False, True])
def test_a_single_file_with_a_taken_name_is_refused(world, source, out, dry_run):
    (out / "fstab").symlink_to("nowhere")
    with pytest.raises(Refused, match="fstab already exists"):
        world.restore(out, path=source / "fstab", dry_run=dry_run)
    assert os.readlink(out / "fstab") == "nowhere"
    world.restore(out, path=source / "fstab", overwrite="always", dry_run=dry_run)
    assert (out / "fstab").is_symlink() == dry_run


def test_a_file_that_appears_after_the_check_is_skipped(world, source, out, monkeypatch):
    from drtool.operations.restore import run

    check = run.check_destination

    def then_appear(request, **more):
        check(request, **more)
        (out / "fstab").write_bytes(b"of another user")

    monkeypatch.setattr(run, "check_destination", then_appear)
    assert world.restore(out, path=source / "fstab").skipped == 1
    assert (out / "fstab").read_bytes() == b"of another user"


def test_a_directory_still_needs_an_empty_destination(world, source, out):
    with pytest.raises(Refused, match="is not empty"):
        world.restore(out, path=source / "conf")


def test_the_destination_of_a_directory_gets_its_mode_and_times(world, source, tmp_path):
    world.restore(tmp_path / "new", path=source / "conf")
    assert (tmp_path / "new").stat().st_mode == (source / "conf").stat().st_mode
    assert (tmp_path / "new").stat().st_mtime_ns == (source / "conf").stat().st_mtime_ns


def test_a_shared_directory_and_one_where_everything_stays_keep_theirs(world, source, out):
    out.chmod(0o1777)
    world.restore(out, path=source / "conf", overwrite="always")
    assert out.stat().st_mode & 0o7777 == 0o1777
    out.chmod(0o711)
    world.restore(out, path=source / "conf", overwrite="never")
    world.restore(out, path=source / "conf", overwrite="always", includes=("one",))
    assert out.stat().st_mode & 0o7777 == 0o711


def test_a_directory_that_was_not_captured_is_refused_and_deletes_nothing(world, source, out, monkeypatch):
    real = os.scandir

    def scandir(fd):
        if os.readlink(f"/proc/self/fd/{fd}") == str(source / "conf"):
            raise PermissionError(13, "Permission denied")
        return real(fd)

    monkeypatch.setattr(os, "scandir", scandir)
    world.backup(source)
    monkeypatch.undo()
    with pytest.raises(DrtoolError, match="its content was not captured"):
        world.restore(out, path=source / "conf", overwrite="always", delete=True)
    assert (out / "other").read_bytes() == b"other"


def test_an_absolute_exclude_keeps_a_file_from_being_deleted(world, source, tmp_path):
    world.restore(tmp_path / "out", path=source)
    fill(tmp_path / "out", {"conf/local": b"1", "conf/old": b"2"})
    exclude = (f"{source}/*/local",)
    world.restore(tmp_path / "out", path=source, overwrite="always", delete=True, excludes=exclude)
    assert sorted(os.listdir(tmp_path / "out" / "conf")) == ["local", "one"]


def test_times_that_the_destination_rounds_are_counted_and_no_error(world, source, out, monkeypatch):
    real = os.utime

    def coarse(target, *, ns, **more):
        return real(target, ns=tuple(time_ns // 2_000_000_000 * 2_000_000_000 for time_ns in ns), **more)

    for name, time_ns in (("fstab", 1_000_000_000_000_000_001), ("conf/one", 1_000_000_001_000_000_000), ("link", 1)):
        os.utime(source / name, ns=(time_ns, time_ns), follow_symlinks=False)
    for name in ("conf", ""):
        os.utime(source / name, ns=(10**18, 10**18))
    world.backup(source)
    monkeypatch.setattr("drtool.sources.filesystem.applying.os.utime", coarse)
    heard = []
    with world.open() as repository:
        request = RestoreRequest(snapshot=world.snapshots()[-1], path=os.fsencode(source), to=os.fsencode(out / "new"))
        result = restore(repository, request, heard.append)
    assert (result.errors, result.attributes_not_set) == ([], 3)
    (told,) = [event.message for event in heard if isinstance(event, Warned)]
    assert told.endswith("rounds times: those of 3 items differ by less than 2 s")
