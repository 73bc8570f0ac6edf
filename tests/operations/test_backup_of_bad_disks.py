"""A disk that fails while it is read: the backup ends, names what it could not read, and every command accepts the snapshot."""

import errno
import os
from pathlib import Path

import pytest
from three_sites import fill, noise

from drtool.events import ignore
from drtool.operations.prune import PruneRequest, prune
from drtool.operations.stats import stats
from drtool.operations.survive import SurviveRequest, survive
from drtool.trees import Entry, FileType, read_content

ERRORS = (errno.EIO, errno.ESTALE, errno.EACCES)
MIB = 1 << 20
LARGE = 6 * MIB


@pytest.fixture
def source(place):
    files = {"good": b"good", "bad/small": noise(5_000, 1), "bad/large": noise(LARGE, 2), "stale/in": b"in"}
    return fill(place / "source", files)


def path_of(fd: int) -> str:
    return os.readlink(f"/proc/self/fd/{fd}")


@pytest.fixture
def disk(monkeypatch):
    """A disk whose calls fail for some paths: `disk(call, path, number, at)` from byte `at` on."""
    faults = []

    def failing(call, fd, name, offset=0):
        path = os.path.join(path_of(fd), os.fsdecode(name)) if fd is not None else os.fsdecode(name)
        for wanted, suffix, number, at in faults:
            if wanted == call and path.endswith(suffix) and offset >= at:
                raise OSError(number, os.strerror(number))

    real_open, real_preadv, real_scandir = os.open, os.preadv, os.scandir

    def open_(path, flags, mode=0o777, *, dir_fd=None):
        failing("open", dir_fd, path)
        return real_open(path, flags, mode, dir_fd=dir_fd)

    def preadv(fd, buffers, offset, flags=0):
        failing("read", fd, "", offset + sum(len(buffer) for buffer in buffers) - 1)
        return real_preadv(fd, buffers, offset, flags)

    def scandir(path="."):
        if isinstance(path, int):
            failing("list", path, "")
        return real_scandir(path)

    monkeypatch.setattr(os, "open", open_)
    monkeypatch.setattr(os, "preadv", preadv)
    monkeypatch.setattr(os, "scandir", scandir)
    return lambda call, suffix, number, at=0: faults.append((call, suffix, number, at))


def every_command_accepts(world):
    assert not world.verify().damaged
    with world.open() as repository:
        prune(repository, PruneRequest(now_ns=10**18), ignore)
        stats(repository)
        survive(repository, SurviveRequest(), ignore)


@pytest.mark.parametrize("number", ERRORS, ids=errno.errorcode.get)
@pytest.mark.parametrize(("call", "suffix", "at", "lost"), [
    ("open", "bad/small", 0, {"small"}),
    ("read", "bad/small/", 0, {"small"}),
    ("open", "bad/large", 0, {"large"}),
    ("read", "bad/large/", 5 * MIB, {"large"}),
    ("list", "stale/", 0, {"in"}),
    ("open", "source/stale", 0, {"in"}),
])  # fmt: skip
@pytest.mark.spread(7)
def test_unreadable_data_is_named_and_every_command_still_works(world, source, disk, number, call, suffix, at, lost):
    disk(call, suffix, number, at)
    report = world.backup(source)
    (problem,) = report.errors
    assert os.strerror(number) in problem.message
    assert report.files.new == 4 - len(lost)
    there = {"in": {"stale"}}.get(*lost, lost)
    assert Path(os.fsdecode(problem.path)).name in there
    every_command_accepts(world)
    result = world.restore(world.root / "out", path=source)
    assert {Path(os.fsdecode(failure.path)).name for failure in result.errors} == there
    assert (world.root / "out/good").read_bytes() == b"good"
    assert not any(path.name in lost for path in (world.root / "out").rglob("*"))


def test_many_large_files_that_break_off_do_not_hang_the_backup(world, disk):
    """Each had a buffer of a fixed number of buffers, and did not give it back."""
    source = fill(world.root / "source", {f"{n:02}": noise(LARGE, n) for n in range(8)})
    for n in range(7):
        disk("read", f"{n:02}/", errno.EIO, 5 * MIB)
    report = world.backup(source)
    assert len(report.errors) == 7
    assert world.restore(world.root / "out", path=source).errors != []
    assert (world.root / "out/07").read_bytes() == noise(LARGE, 7)


def test_a_file_that_vanishes_between_listing_and_reading_is_no_failure(world, source, disk, monkeypatch):
    real = os.open

    def open_(path, flags, mode=0o777, *, dir_fd=None):
        if path == b"small":
            (source / "bad/small").unlink(missing_ok=True)
        return real(path, flags, mode, dir_fd=dir_fd)

    monkeypatch.setattr(os, "open", open_)
    report = world.backup(source)
    assert report.errors == []
    assert report.files.new == 3


def test_a_name_that_is_listed_and_has_no_metadata_is_named(world, source):
    from drtool.sources.filesystem import gone

    error = OSError(errno.ENOENT, "No such file or directory")
    stale = OSError(errno.ESTALE, "Stale file handle")
    assert not gone(error, os.fsencode(source / "good")), "it is there: opening it failed for another reason"
    assert gone(error, os.fsencode(source / "absent"))
    assert not gone(stale, os.fsencode(source / "absent"))


def test_a_failed_entry_with_a_depth_and_no_content_reads_as_empty():
    """An earlier version wrote such entries for files above 512 MiB that broke off, and maintenance must cope with them."""
    entry = Entry(
        name=b"f",
        type=FileType.FILE,
        mode=0o644,
        uid=0,
        gid=0,
        size_bytes=1 << 30,
        content_depth=1,
        uncaptured=("content: EIO",),
    )
    assert list(read_content(entry, lambda _chunk: pytest.fail("there is nothing to fetch"))) == []


def test_a_large_file_that_breaks_off_has_neither_content_nor_depth(world, disk, monkeypatch):
    monkeypatch.setattr("drtool.trees.pages.LIST_IDS", 2)
    source = fill(world.root / "source", {"good": b"good", "large": noise(3 * LARGE, 5)})
    disk("read", "large/", errno.EIO, 16 * MIB)
    assert len(world.backup(source).errors) == 1
    every_command_accepts(world)


def test_a_file_of_unknown_size_is_read_to_its_end(world):
    report = world.backup(Path("/proc/version"))
    assert report.errors == []
    owner = [] if os.geteuid() == 0 else ["owner: Operation not permitted"]
    assert [row.message for row in world.restore(world.root / "out", path=Path("/proc/version")).errors] == owner
    assert (world.root / "out/version").read_bytes() == Path("/proc/version").read_bytes()
