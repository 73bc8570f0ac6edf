"""Restoring as people need it: in place, to other owners, onto a full disk, again after a kill."""

import errno
import os
import shutil
import signal
import stat
import time
from pathlib import Path

import pytest
from three_sites import World, everything, fill, noise, portrait

from drtool.errors import DrtoolError, UsageError
from drtool.events import ignore
from drtool.operations.restore import RestoreRequest, files, restore
from drtool.operations.restore import run as running
from drtool.sources.filesystem import read_group_mapping, read_user_mapping

MANY = 2_000


@pytest.fixture(scope="module")
def kept(tmp_path_factory, founded):
    """(world, source, snapshot): many small files in a few directories, and a large one with a hole."""
    root = tmp_path_factory.mktemp("in-place")
    shutil.copytree(founded.root, root / "repository", symlinks=True)
    world = World(root / "repository", keyrings=founded.keyrings, workers=2)
    source = fill(root / "home/me", {f"d{n % 10}/{n}": b"%d" % n for n in range(MANY)})
    fill(source, {"large": noise(5 * 1024 * 1024, 1)})
    with (source / "sparse").open("wb") as file:
        file.seek(20 * 1024 * 1024)
        file.write(b"end")
    (source / "link").symlink_to("large")
    os.link(source / "d1/1", source / "d1/same")
    world.backup(source)
    return world, source, world.snapshots()[-1]


def inodes(top):
    """Return the traces of writes: inode, mtime and ctime of every name."""
    found = {}
    for folder, folders, names in os.walk(top):
        for name in (*folders, *names):
            row = os.lstat(os.path.join(folder, name))
            found[os.path.relpath(os.path.join(folder, name), top)] = (row.st_ino, row.st_mtime_ns, row.st_ctime_ns)
    return found


@pytest.mark.parametrize("overwrite", ["always", "if-changed"])
def test_in_place_only_differences_are_written(kept, overwrite):
    world, source, snapshot = kept
    untouched = portrait(source)
    for name in ("d3/13", "d3/23"):
        (source / name).write_bytes(b"spoiled")
    (source / "d4/1004").unlink()
    before = inodes(source.parent)
    result = world.restore(Path("/"), snapshot, overwrite=overwrite)
    assert (result.written_bytes, result.errors) == (2 + 2 + 4, [])
    assert result.files == MANY + 4
    after = inodes(source.parent)
    differing = {name for name in after if after[name] != before.get(name)}
    assert differing == {"me/d3", "me/d3/13", "me/d3/23", "me/d4", "me/d4/1004"}
    assert portrait(source) == untouched
    before = everything(source)
    assert world.restore(source, snapshot, path=source, overwrite=overwrite).written_bytes == 0
    assert {name: row[:-1] for name, row in everything(source).items()} == {
        name: row[:-1] for name, row in before.items()
    }


def test_after_a_kill_a_second_run_completes_it_and_clears_up(kept, tmp_path):
    world, source, snapshot = kept
    out = tmp_path / "out"
    with world.open() as repository:
        pid = os.fork()
        if pid == 0:
            try:
                request = RestoreRequest(snapshot=snapshot, path=os.fsencode(source), to=os.fsencode(out), workers=1)
                beside = running.Folder.finish
                running.Folder.finish = lambda *a, **k: os.kill(os.getpid(), signal.SIGKILL) or beside(*a, **k)
                restore(repository, request, ignore)
            finally:
                os._exit(1)
        assert os.waitpid(pid, 0)[1] == signal.SIGKILL
    (out / "d1/.drtool-00112233445566ff").write_bytes(b"half of something")
    time.sleep(0.05)
    (out / "d1/11").write_bytes(b"")  # cut off: as a kill in the middle of writing leaves it
    result = world.restore(out, snapshot, path=source, overwrite="if-changed")
    assert result.errors == []
    os.utime(out, ns=(0, source.stat().st_mtime_ns))
    assert portrait(out) == portrait(source)


def test_holes_stay_holes(kept, tmp_path):
    world, source, snapshot = kept
    (tmp_path / "sparse").write_bytes(b"x" * 30_000_000)
    result = world.restore(tmp_path, snapshot, path=source / "sparse", overwrite="always")
    assert result.written_bytes < 200_000
    assert (tmp_path / "sparse").stat().st_blocks * 512 < 200_000
    assert (tmp_path / "sparse").read_bytes() == (source / "sparse").read_bytes()


@pytest.mark.parametrize("name", ["d1/1", "d2/2", "large"])
@pytest.mark.spread(3)
def test_a_full_disk_ends_it_in_one_sentence_and_no_half_file_stays(kept, tmp_path, monkeypatch, name):
    world, source, snapshot = kept
    size_bytes = (source / name).stat().st_size
    before = b"" if name == "d1/1" else b"before"
    out = fill(tmp_path / "out", {name: before}) if before else tmp_path / "out"
    write = files.write_data

    def full(fd, entry, offset, data):
        if entry.name == os.fsencode(os.path.basename(name)) and entry.size_bytes == size_bytes:
            os.pwrite(fd, b"half", 0)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(fd, entry, offset, data)

    monkeypatch.setattr(files, "write_data", full)
    with pytest.raises(DrtoolError, match="no space is left") as caught:
        world.restore(out, snapshot, path=source, overwrite="always")
    assert caught.value.exit_code == 1
    assert "--overwrite if-changed" in caught.value.hint
    assert (out / name).read_bytes() == before if before else not (out / name).exists()
    assert not list(out.rglob(".drtool-*"))
    monkeypatch.undo()
    assert world.restore(out, snapshot, path=source, overwrite="if-changed").errors == []
    os.utime(out, ns=(0, source.stat().st_mtime_ns))
    assert portrait(out) == portrait(source)


def test_a_snapshot_larger_than_the_free_space_is_reported_before_any_write(kept, tmp_path, monkeypatch):
    snapshot = kept[2]
    heard = []
    room = os.statvfs(tmp_path)
    monkeypatch.setattr(os, "statvfs", lambda _: os.statvfs_result([*room[:4], 10, *room[5:]]))
    request = RestoreRequest(snapshot=snapshot, to=os.fsencode(tmp_path / "not/there"))
    running._warn_of_room(request, heard.append)
    assert "GiB are free" in heard[0].message
    fill(tmp_path, {"something": b"x"})
    running._warn_of_room(RestoreRequest(snapshot=snapshot, to=os.fsencode(tmp_path)), heard.append)
    assert len(heard) == 1, "how much of the existing files stays is unknown"


@pytest.mark.skipif(os.geteuid() != 0, reason="gives files away")
def test_owners_are_mapped_by_name_and_by_number(kept, tmp_path):
    world, _, _ = kept
    source = fill(tmp_path / "source", {"of nobody": b"1", "of a stranger": b"2", "sub/of root": b"3"})
    os.chown(source / "of nobody", 65534, 65534)
    os.chown(source / "of a stranger", 43210, 43211)
    world.backup(source)

    def owners(**more):
        out = tmp_path / f"out{len(os.listdir(tmp_path))}"
        assert world.restore(out, path=source, **more).errors == []
        assert world.restore(out, path=source, overwrite="always", **more).written_bytes == 0
        return {name: (row.st_uid, row.st_gid) for name in os.listdir(out) for row in [(out / name).stat()]}

    assert owners() == {"of nobody": (65534, 65534), "of a stranger": (43210, 43211), "sub": (0, 0)}
    mapped = owners(
        map_users=read_user_mapping(["43210:nobody", "nobody:4711"]), map_groups=read_group_mapping(["root:12"])
    )
    assert mapped == {"of nobody": (4711, 65534), "of a stranger": (65534, 43211), "sub": (0, 12)}


def test_a_name_goes_before_the_number_unless_numbers_are_asked_for(kept, tmp_path, monkeypatch):
    from drtool.sources.filesystem import OwnerIds

    assert OwnerIds().uid("root", 4711) == 0
    assert OwnerIds(numeric_ids=True).uid("root", 4711) == 4711
    assert OwnerIds(numeric_ids=True, users={"root": 5}).uid("root", 0) == 5
    assert OwnerIds().gid("no such group", 4711) == 4711


@pytest.mark.parametrize("text", ["alice", ":bob", "alice:", "a:b:c", "alice:no such user", "alice:99999999999"])
def test_a_mapping_that_cannot_be_meant_is_refused(text):
    with pytest.raises(UsageError):
        read_user_mapping([text])


def test_directories_created_on_the_way_get_the_snapshots_metadata(world):
    home = fill(world.root / "home", {"ann/private/keys/id": b"secret"})
    for path, mode in ((home, 0o711), (home / "ann", 0o700), (home / "ann/private", 0o750)):
        path.chmod(mode)
    owner = (1234, 1235) if os.geteuid() == 0 else (os.geteuid(), os.getegid())
    os.chown(home / "ann", *owner)
    world.backup(home)
    shutil.rmtree(home / "ann")
    inner = os.fsencode(home / "ann/private/keys")
    assert world.restore(inner, path=inner, in_place=True, overwrite="always").errors == []
    assert [stat.S_IMODE((home / name).stat().st_mode) for name in ("ann", "ann/private")] == [0o700, 0o750]
    assert ((home / "ann").stat().st_uid, (home / "ann").stat().st_gid) == owner
    assert (home / "ann/private/keys/id").read_bytes() == b"secret"
