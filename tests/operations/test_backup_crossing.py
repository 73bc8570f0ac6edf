"""Directories and files that are awkward to enter: unreadable ones on the way, automounts, leases, inodes that do not last."""

import ctypes
import os
import re
import shutil
import signal
import struct
import subprocess
import sys
from pathlib import Path

import pytest
from three_sites import fill, in_a_child, noise

from drtool.operations.backup import SourceJob, scan
from drtool.sources.filesystem import Recent, reading
from drtool.sources.filesystem.rights import unseen

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs the rights of root")
USER = 65534


def backup_of(world, path, **options):
    with world.open() as repository:
        job = SourceJob(name="", paths=(os.fsencode(path),), **options)
        return world.run_jobs(repository, job).snapshots[0]


@as_root
def test_directories_above_need_not_be_readable(world):
    home = fill(world.root / "home/ann", {"letter": b"Dear Ada", "more/scan": noise(5000)})
    for path in (world.root, *world.root.rglob("*")):
        os.chown(path, USER, USER)
    os.chown(world.root / "home", 0, 0)
    os.setxattr(world.root / "home", "user.note", b"for those who may read it")
    (world.root / "home").chmod(0o711)

    def round_trip():
        assert world.backup(home).errors == []
        assert world.backup(home).files.unmodified == 2
        assert world.restore(world.root / "out", path=home).errors == []
        assert (world.root / "out/letter").read_bytes() == b"Dear Ada"

    assert in_a_child(round_trip, uid=USER) == 0


@as_root
def test_a_named_directory_that_cannot_be_read_is_an_error(world):
    closed = fill(world.root / "closed", {"file": b"x"})
    for path in (world.root, *world.root.rglob("*")):
        os.chown(path, USER, USER)
    closed.chmod(0o311)

    def attempt():
        (error,) = world.backup(closed).errors
        assert error.path == str(closed)

    assert in_a_child(attempt, uid=USER) == 0


@pytest.fixture
def automounted(world, monkeypatch):
    """A directory on which a file system is mounted when it is first opened, as an automounter does it."""
    place = world.root / "source/auto"
    place.mkdir(parents=True)
    opening = scan.open_directory_path

    def open_and_mount(path, *, follow):
        if path == os.fsencode(place) and not os.path.ismount(place):
            subprocess.run(["mount", "-t", "tmpfs", "tmpfs", str(place)], check=True)
            fill(place, {"sub/precious": b"precious"})
        return opening(path, follow=follow)

    monkeypatch.setattr(scan, "open_directory_path", open_and_mount)
    yield place
    subprocess.run(["umount", "-l", str(place)], check=False)


@as_root
def test_a_file_system_mounted_on_access_is_captured(world, automounted):
    source = automounted.parent
    assert world.backup(source).errors == []
    assert world.restore(world.root / "out", path=source).errors == []
    assert (world.root / "out/auto/sub/precious").read_bytes() == b"precious"
    assert world.backup(source).dirs.new == 0


@as_root
def test_on_one_file_system_it_is_an_empty_directory(world, automounted):
    source = automounted.parent
    assert backup_of(world, source, one_file_system=True).errors == []
    assert world.restore(world.root / "out", path=source).errors == []
    assert os.listdir(world.root / "out") == ["auto"]
    assert os.listdir(world.root / "out/auto") == []


def test_a_directory_that_takes_the_place_of_another_is_an_error(world, monkeypatch):
    source = fill(world.root / "source", {"d/file": b"harmless"})
    opening = scan.open_directory_path

    def swap_and_open(path, *, follow):
        if path == os.fsencode(source / "d") and not (source / "old").exists():
            os.rename(source / "d", source / "old")
            fill(source, {"d/file": b"another"})
        return opening(path, follow=follow)

    monkeypatch.setattr(scan, "open_directory_path", swap_and_open)
    (error,) = world.backup(source).errors
    assert error.path == str(source / "d")


HOLDER = """
import fcntl, os, signal, sys, time
fd = os.open(sys.argv[1], os.O_RDWR)
def give_up(*_):
    time.sleep(0.2)
    fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_UNLCK)
signal.signal(signal.SIGIO, give_up)
fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_WRLCK)
print("held", flush=True)
while True:
    time.sleep(1)
"""


@pytest.fixture
def leased(tmp_path):
    """A file on which another process holds a write lease, and the means to take one on other files."""
    holders = []

    def lease(path):
        holder = subprocess.Popen([sys.executable, "-c", HOLDER, str(path)], stdout=subprocess.PIPE, text=True)
        holders.append(holder)
        if holder.stdout.readline() != "held\n":
            pytest.skip("this file system has no leases")
        return path

    yield lease
    for holder in holders:
        holder.send_signal(signal.SIGKILL)
        holder.communicate()


def test_a_leased_file_is_waited_for(world, leased):
    source = fill(world.root / "source", {"file": b"oplocked", "large": noise(5 * 2**20)})
    leased(source / "file")
    leased(source / "large")
    assert world.backup(source).errors == []
    assert world.restore(world.root / "out", path=source).errors == []
    assert (world.root / "out/file").read_bytes() == b"oplocked"


def test_a_restore_waits_for_the_lease_of_a_compared_file(world, leased):
    source = fill(world.root / "source", {"file": b"oplocked"})
    world.backup(source)
    leased(source / "file")
    result = world.restore(source, path=source, overwrite="always")
    assert result.errors == []
    assert result.written_bytes == 0


def test_a_lease_that_is_never_given_up_is_an_error(monkeypatch, tmp_path):
    monkeypatch.setattr(reading, "_LEASE_WAIT_S", 0.05)
    monkeypatch.setattr(reading, "_LEASE_POLL_S", 0.01)

    def refuse(*_, **__):
        raise BlockingIOError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(BlockingIOError):
        reading.open_leased(b"file", os.O_RDONLY)


def test_inodes_and_ctimes_that_do_not_last_can_be_ignored(world):
    source = fill(world.root / "source", {"a": b"before", "sub/b": noise(7000, 1)})
    for path in (source / "a", source / "sub/b"):
        os.utime(path, (1, 1))
    backup_of(world, source)
    shutil.copytree(source, world.root / "copy")
    shutil.rmtree(source)
    os.rename(world.root / "copy", source)
    (source / "a").write_bytes(b"hidden")  # size and mtime are as they were, so it is not read
    os.utime(source / "a", (1, 1))
    again = backup_of(world, source, ignore_inode=True, ignore_ctime=True)
    assert again.files.unmodified == 2
    assert world.restore(world.root / "out", path=source).errors == []
    assert (world.root / "out/a").read_bytes() == b"before"
    assert backup_of(world, source).files.changed == 1


def test_a_directory_with_a_different_inode_at_each_look_can_be_captured(world, monkeypatch):
    source = fill(world.root / "source", {"d/file": b"content"})
    opening = scan.open_directory_path

    def open_another(path, *, follow):
        if path == os.fsencode(source / "d"):
            shutil.copytree(source / "d", world.root / "copy")
            shutil.rmtree(source / "d")
            os.rename(world.root / "copy", source / "d")
        return opening(path, follow=follow)

    monkeypatch.setattr(scan, "open_directory_path", open_another)
    assert backup_of(world, source, ignore_inode=True).errors == []
    assert world.restore(world.root / "out", path=source).errors == []
    assert (world.root / "out/d/file").read_bytes() == b"content"


def test_a_file_dated_in_the_future_is_not_read_again(world):
    source = fill(world.root / "source", {"film": noise(5000)})
    os.utime(source / "film", ns=(2**61, 2**61))
    world.backup(source)
    again = world.backup(source)
    assert again.files.unmodified == 1
    assert again.dirs.changed == 0


NOW_NS = 1_796_000_000 * 10**9


@pytest.mark.parametrize(
    ("time_ns", "is_recent"),
    [
        (NOW_NS - 10, False),
        (NOW_NS, True),
        (NOW_NS + 50, True),
        (NOW_NS + 101, False),
    ],
)
def test_recent_are_the_times_between_the_last_scan_and_now(time_ns, is_recent):
    assert Recent.since(NOW_NS + 5, NOW_NS + 100, 10).holds(time_ns) is is_recent


def test_where_the_clock_was_set_back_everything_later_is_recent():
    recent = Recent.since(NOW_NS, NOW_NS - 100, 10)
    assert recent.holds(NOW_NS + 10**18)
    assert not recent.holds(NOW_NS - 11)


def test_a_dry_run_counts_a_young_file_as_it_is(world):
    source = fill(world.root / "source", {"a": b"a", "b": b"b"})
    world.backup(source)
    (source / "b").write_bytes(b"other")
    looked = world.backup(source, dry_run=True)
    assert (looked.files.new, looked.files.changed, looked.files.unmodified) == (0, 1, 1)
    stored = world.backup(source)
    assert (stored.files.new, stored.files.changed, stored.files.unmodified) == (0, 1, 1)


@as_root
def test_root_without_all_rights_gets_a_warning_about_hidden_parts(world):
    source = fill(world.root / "source", {"file": b"content"})
    os.setxattr(source / "file", "trusted.note", b"1")

    def without_admin():
        give_up(CAP_SYS_ADMIN)
        assert world.backup(source).errors == []
        assert any("trusted." in message for message in world.warnings())

    assert world.backup(source).errors == []
    assert not any("trusted." in message for message in world.warnings())
    assert in_a_child(without_admin) == 0


CAP_SYS_ADMIN = 21


def give_up(number):
    """Take a capability from this process, as CapabilityBoundingSet of a unit does."""
    libc = ctypes.CDLL(None, use_errno=True)
    header = struct.pack("=Ii", 0x20080522, 0)
    data = ctypes.create_string_buffer(24)
    assert libc.capget(header, data) == 0
    words = list(struct.unpack("=6I", data.raw))
    words[0] &= ~(1 << number)  # effective, followed by permitted and inheritable
    words[1] &= ~(1 << number)
    assert libc.capset(header, struct.pack("=6I", *words)) == 0


def test_hidden_parts_follow_from_the_rights_of_the_process():
    assert unseen("Name:\tx\nCapEff:\t000001ffffffffff\n") == []
    assert len(unseen("CapEff:\t0000000000000004\n")) == 1
    assert len(unseen("CapEff:\t0000000000000000\n")) == 2
    assert unseen("nothing of the kind") == []


@pytest.mark.parametrize("setting", ["PrivateTmp", "PrivateDevices", "ProtectKernelModules", "InaccessiblePaths"])
def test_the_unit_of_the_backup_hides_no_files(setting):
    unit = (Path(__file__).parents[2] / "examples/systemd/drtool-backup.service").read_text()
    assert not re.search(rf"^{setting}=", unit, re.MULTILINE)
    assert "CAP_SYS_ADMIN" in re.search(r"^CapabilityBoundingSet=(.*)$", unit, re.MULTILINE)[1]
