"""A file that is written to while it is read: it is stored in a state that it had, or it is listed."""

import os

import pytest
from three_sites import fill, noise

from drtool.operations.backup import worker
from drtool.operations.backup.builder import TORN
from drtool.operations.backup.feeding import _Prefix
from drtool.sources.filesystem import same_state, stat_between_ticks

MIB = 1024 * 1024
SIZES = pytest.mark.parametrize("size_bytes", [3_000, 3 * MIB, 9 * MIB], ids=["one chunk", "small", "large"])


class Writer:
    """Writes to a file in the middle of each pass over it, between two reads, for a given number of times."""

    def __init__(self, monkeypatch, path, times, write):
        self.path, self.left, self.write = path, times, write
        large, small = _Prefix.readinto, worker.BackupWorker._fill
        writer = self

        def readinto(self, buffer):
            got = large(self, buffer)
            if writer.is_of(self._fd) and 0 < self.offset <= 5 * MIB:
                writer.act()
            return got

        def fill_buffer(self, fd, size_bytes):
            if not writer.is_of(fd):
                return small(self, fd, size_bytes)
            half = size_bytes // 2
            first = bytes(self._buffer[: os.preadv(fd, [self._buffer[:half]], 0)])
            writer.act()
            length = small(self, fd, size_bytes)
            self._buffer[: len(first)] = first
            return max(length, len(first))

        monkeypatch.setattr(_Prefix, "readinto", readinto)
        monkeypatch.setattr(worker.BackupWorker, "_fill", fill_buffer)

    def is_of(self, fd):
        return os.path.samestat(os.fstat(fd), os.stat(self.path))

    def act(self):
        if self.left > 0:
            self.left -= 1
            self.write(self.left)


def rewriter(path, size_bytes):
    """Changes one byte at the beginning and one at the end, in one transaction of its program."""

    def write(number):
        with path.open("r+b") as file:
            for offset in (0, size_bytes - 1):
                file.seek(offset)
                file.write(b"%d" % (number % 10))

    return write


@SIZES
def test_it_is_read_again_when_it_was_written_to_once(world, monkeypatch, size_bytes):
    source = fill(world.root / "source", {"database": b"9" + noise(size_bytes - 2) + b"9"})
    path = source / "database"
    Writer(monkeypatch, path, 1, rewriter(path, size_bytes))
    assert world.backup(source).errors == []
    monkeypatch.undo()
    world.restore(world.root / "out", path=source)
    assert (world.root / "out/database").read_bytes() == path.read_bytes()


@SIZES
def test_it_is_listed_when_it_is_written_to_each_time(world, monkeypatch, size_bytes):
    source = fill(world.root / "source", {"database": b"9" + noise(size_bytes - 2) + b"9", "other": b"1"})
    path = source / "database"
    Writer(monkeypatch, path, 100, rewriter(path, size_bytes))
    (row,) = world.backup(source).errors
    assert (row.path, row.message) == (str(path), TORN)
    monkeypatch.undo()
    result = world.restore(world.root / "out", path=source)
    assert result.errors == []
    assert (world.root / "out/database").stat().st_size == size_bytes
    report = world.backup(source)
    assert (report.errors, report.files.changed) == ([], 1)


@SIZES
def test_it_is_stored_as_it_was_when_it_only_grows(world, monkeypatch, size_bytes):
    source = fill(world.root / "source", {"log": noise(size_bytes)})
    path = source / "log"

    def append(_):
        with path.open("ab") as file:
            file.write(noise(1_000))

    Writer(monkeypatch, path, 100, append)
    assert world.backup(source).errors == []
    monkeypatch.undo()
    world.restore(world.root / "out", path=source)
    stored = (world.root / "out/log").read_bytes()
    assert len(stored) >= size_bytes
    assert path.read_bytes().startswith(stored)


@pytest.mark.parametrize("size_bytes", [9 * MIB], ids=["large"])
def test_a_change_that_leaves_the_time_is_found_by_the_ctime(world, monkeypatch, size_bytes):
    """rsync --inplace --times, and databases that are copied with their times."""
    source = fill(world.root / "source", {"image": b"9" + noise(size_bytes - 2) + b"9"})
    path = source / "image"
    write = rewriter(path, size_bytes)

    def keep_time(number):
        before = path.stat()
        write(number)
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))

    Writer(monkeypatch, path, 1, keep_time)
    assert world.backup(source).errors == []
    monkeypatch.undo()
    world.restore(world.root / "out", path=source)
    assert (world.root / "out/image").read_bytes() == path.read_bytes()


def test_a_write_after_the_first_look_gives_another_time(tmp_path):
    """Two writes in one tick of the kernel's clock leave the same time, so the first look waits for the next tick."""
    path = tmp_path / "busy"
    for number in range(5):
        path.write_bytes(b"%d" % number)
        fd = os.open(path, os.O_RDWR)
        try:
            before = stat_between_ticks(fd)
            os.pwrite(fd, b"x", 0)
            assert not same_state(before, os.fstat(fd))
        finally:
            os.close(fd)
