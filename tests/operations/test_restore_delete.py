"""`restore --delete`: the destination becomes what the snapshot is, within the selection, and nothing else is touched."""

import fcntl
import os
import shutil
import signal
import stat
from pathlib import Path
from typing import NamedTuple

import pytest
from three_sites import World, fill, noise, portrait

from drtool.errors import Refused
from drtool.manifest.records import Snapshot
from drtool.operations.restore.sweep import Sweep
from drtool.sources.filesystem import Folder


class Kept(NamedTuple):
    """One repository for all of these, and the one snapshot that most of them restore."""

    world: World
    source: Path
    snapshot: Snapshot

    def restore(self, to, **more):
        return self.world.restore(to, self.snapshot, **{"path": self.source, **more})


@pytest.fixture(scope="module")
def kept(tmp_path_factory, founded):
    root = tmp_path_factory.mktemp("delete")
    shutil.copytree(founded.root, root / "repository", symlinks=True)
    world = World(root / "repository", keyrings=founded.keyrings, workers=2)
    source = fill(
        root / "source",
        {"a": noise(3_000, 1), "sub/b.txt": b"b" * 100, "sub/deep/c": b"c" * 50, "big": noise(5 * 1024 * 1024, 2)},
    )
    (source / "empty").mkdir()
    (source / "link").symlink_to("a")
    world.backup(source)
    return Kept(world, source, world.snapshots()[-1])


@pytest.fixture
def out(kept, tmp_path):
    """An earlier restore, with many names that the snapshot does not have."""
    out = tmp_path / "out"
    kept.restore(out)
    fill(out, {"extra": b"x", "sub/extra.txt": b"x", "more/of/it/x": b"x", "more/y": b"y", "empty/z": b"z"})
    outside = fill(tmp_path / "outside", {"precious": b"precious"})
    (out / "more/away").symlink_to(outside)
    (out / "away").symlink_to(outside)
    (out / "sub/deep/c").unlink()
    fill(out, {"sub/deep/c/not/empty": b"x"})
    (out / "big").unlink()
    fill(out, {"big/inside": b"x"})
    (out / "link").unlink()
    fill(out, {"link/inside": b"x"})
    return out


def same_as(source, out):
    os.utime(out, ns=(0, source.stat().st_mtime_ns))
    return portrait(out) == portrait(source)


@pytest.mark.parametrize("overwrite", [None, "always", "if-changed"])
@pytest.mark.spread(3)
def test_it_becomes_the_snapshot_and_a_dry_run_reports_the_same(kept, out, tmp_path, overwrite):
    source = kept.source
    before = portrait(out)
    dry = kept.restore(out, overwrite=overwrite, delete=True, dry_run=True)
    assert portrait(out) == before
    result = kept.restore(out, overwrite=overwrite, delete=True)
    assert (result.errors, dry.errors) == ([], [])
    # extra, extra.txt, more + of + it + x + y + away, z, away; below replaced directories: not + empty, inside, inside
    assert result.deleted == 10 + 4
    assert (dry.deleted, dry.files, dry.bytes, dry.written_bytes) == (
        result.deleted,
        result.files,
        result.bytes,
        result.written_bytes,
    )
    assert same_as(source, out)
    assert os.listdir(tmp_path / "outside") == ["precious"], "no symlink was followed"
    again = kept.restore(out, overwrite=overwrite, delete=True)
    assert (again.written_bytes, again.deleted, again.errors) == (0, 0, [])


def test_without_it_nothing_is_deleted_and_without_anything_it_is_refused(kept, out):
    with pytest.raises(Refused):
        kept.restore(out)
    result = kept.restore(out, overwrite="always")
    assert result.deleted == 0
    assert (out / "more/of/it/x").exists()
    assert len(result.errors) == 3


def test_it_stays_within_the_selection(kept, out):
    fill(out, {"sub/new.txt": b"x", "more/of/it/new.txt": b"x", "more/keep/new.txt": b"x"})
    for dry_run in (True, False):
        result = kept.restore(out, delete=True, includes=("*.txt",), excludes=("keep",), dry_run=dry_run)
        assert (result.deleted, result.errors) == (3, [])
    assert not (out / "sub/extra.txt").exists()
    assert not (out / "more/of/it/new.txt").exists()
    for name in ("extra", "more/of/it/x", "more/keep/new.txt", "sub/b.txt", "big/inside", "empty/z"):
        assert (out / name).exists(), name


def test_an_excluded_name_keeps_its_directory(kept, out):
    source = kept.source
    for dry_run in (True, False):
        result = kept.restore(out, delete=True, excludes=("it", "inside"), dry_run=dry_run)
        assert result.deleted == 3 + 2 + 1 + 2
        assert sorted(row.path for row in result.errors) == [str(source / name) for name in ("big", "link")]
    assert (out / "more/of/it/x").exists()
    assert not (out / "more/y").exists()
    assert not (out / "extra").exists()
    assert (out / "big/inside").exists(), "excluded: so the file that belongs there is listed instead"


def test_never_deletes_absent_names_and_keeps_other_types(kept, out):
    for dry_run in (True, False):
        result = kept.restore(out, delete=True, overwrite="never", dry_run=dry_run)
        assert (result.deleted, result.errors) == (10, [])
    assert (out / "big/inside").exists()
    assert (out / "sub/deep/c/not/empty").exists()


def test_a_single_file_leaves_its_neighbours_alone(kept, out):
    source = kept.source
    (out / "a").write_bytes(b"other")
    result = kept.restore(out, path=source / "a", delete=True)
    assert (result.files, result.deleted, result.errors) == (1, 0, [])
    assert (out / "a").read_bytes() == noise(3_000, 1)
    assert (out / "extra").exists()


def test_an_entry_that_cannot_be_removed_is_listed_and_the_rest_goes_on(kept, out, monkeypatch):
    source = kept.source
    clear = Folder.clear

    def stubborn(self, name, **more):
        if name == b"y":
            raise PermissionError(1, "Operation not permitted")
        return clear(self, name, **more)

    monkeypatch.setattr(Folder, "clear", stubborn)
    result = kept.restore(out, delete=True)
    assert [row.path for row in result.errors] == [str(source / "more/y")]
    assert "cannot be deleted" in result.errors[0].message
    assert os.listdir(out / "more") == ["y"]
    assert result.deleted == 14 - 2
    assert not (out / "extra").exists()
    assert (out / "big").is_file()


def test_the_repositorys_own_directories_stay(kept, out):
    world = kept.world
    for name in ("x", "y"):
        (out / f"more/repository-{name}").symlink_to(world.root)
    home = out / "more/home"
    elsewhere = world.root.parent / "moved"
    world.root.rename(elsewhere)
    try:
        elsewhere.rename(home)
        world.root = home
        result = kept.restore(out, delete=True)
        assert any("lives" in row.message for row in result.errors)
        assert kept.restore(out.parent / "again").errors == []
    finally:
        world.root = kept.source.parent / "repository"
        home.rename(world.root)


def test_a_directory_that_could_not_be_read_keeps_its_contents(kept, tmp_path, monkeypatch):
    world = kept.world
    from drtool.operations.backup import scan

    source = fill(tmp_path / "source", {"closed/x": b"x", "open/y": b"y"})
    enter = scan.open_directory_path

    def denied(path, **more):
        if path.endswith(b"/closed"):
            raise PermissionError(13, "Permission denied")
        return enter(path, **more)

    monkeypatch.setattr(scan, "open_directory_path", denied)
    assert len(world.backup(source).errors) == 1
    monkeypatch.undo()
    fill(source, {"open/z": b"z"})
    result = world.restore(source, path=source, delete=True)
    assert (source / "closed/x").exists()
    assert not (source / "open/z").exists()
    assert result.deleted == 1


def test_in_place_nothing_beside_the_backed_up_paths_is_removed(kept, tmp_path):
    """`latest:/home --to /home` of a snapshot of /home/me: the others at home are not in it, and stay."""
    world = kept.world
    home = fill(tmp_path / "home", {"me/mine": b"mine", "you/yours": b"yours"})
    world.backup(home / "me")
    fill(home, {"me/new": b"new"})
    for dry_run in (True, False):
        result = world.restore(home, path=home, delete=True, dry_run=dry_run)
        assert (result.deleted, result.errors) == (1, [])
    assert sorted(os.listdir(home)) == ["me", "you"]
    assert os.listdir(home / "me") == ["mine"]
    assert stat.S_ISDIR((home / "you").stat().st_mode)


def test_elsewhere_everything_that_is_not_in_the_snapshot_goes(kept, tmp_path):
    world = kept.world
    home = fill(tmp_path / "home", {"me/mine": b"mine"})
    world.backup(home / "me")
    out = fill(tmp_path / "elsewhere", {"you/yours": b"yours"})
    assert world.restore(out, path=home, delete=True).deleted == 2
    assert os.listdir(out) == ["me"]


def test_temporary_files_of_a_restore_that_was_killed_go(kept, out):
    left = b".drtool-0123456789abcdef"
    for folder in (out, out / "sub"):
        (folder / os.fsdecode(left)).write_bytes(b"half")
    (out / ".drtool-mine").write_bytes(b"mine")
    dry = kept.restore(out, overwrite="always", dry_run=True)
    assert (out / os.fsdecode(left)).exists()
    result = kept.restore(out, overwrite="always")
    assert (dry.deleted, result.deleted) == (0, 0)
    assert not (out / os.fsdecode(left)).exists()
    assert not (out / "sub" / os.fsdecode(left)).exists()
    assert (out / ".drtool-mine").exists()


def test_temporary_files_of_a_restore_under_way_stay(kept, out):
    """As `create_beside` makes them, in another process."""
    left = out / ".drtool-0123456789abcdef"
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        fcntl.flock(os.open(left, os.O_CREAT | os.O_WRONLY, 0o600), fcntl.LOCK_SH)
        os.write(writing, b"!")
        signal.pause()
    try:
        assert os.read(reading, 1) == b"!"
        kept.restore(out, overwrite="always")
        assert left.exists()
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    kept.restore(out, overwrite="always")
    assert not left.exists()


def test_a_file_system_mounted_on_an_empty_directory_stays(kept, out, monkeypatch):
    monkeypatch.setattr(Sweep, "_mounted", lambda self, folder, frame: frame.names in {(b"empty",), (b"sub",)})
    for dry_run in (True, False):
        result = kept.restore(out, delete=True, dry_run=dry_run)
        assert (result.deleted, result.errors) == (13, [])
    assert (out / "empty/z").exists()
    assert not (out / "sub/extra.txt").exists()
