"""Times on file systems that round them, or cannot hold them: rounding is no error, another time is."""

import os
from types import SimpleNamespace

import pytest
from three_sites import fill

from drtool.operations.restore import RestoreRequest, destination_of
from drtool.operations.verify import differences
from drtool.sources.filesystem import same_time
from drtool.sources.filesystem.times import is_exact, proves_exactness

S = 10**9
LATER = 1_700_000_000 * S
"""An even second."""


def found(mtime_ns, ctime_ns):
    return SimpleNamespace(st_mtime_ns=mtime_ns, st_ctime_ns=ctime_ns)


@pytest.mark.parametrize(
    ("name", "mtime_ns", "there_ns", "ctime_ns", "same"),
    [
        ("equal", LATER + 1, LATER + 1, LATER + 123, True),
        ("vfat", LATER + S + 5, LATER, LATER + 10 * S, True),
        ("vfat, ctime to 10 ms", LATER + S + 5, LATER, LATER + 10**7, True),
        ("ext3", LATER + S + 5, LATER + S, LATER + 3 * S, True),
        ("ext3 rounds to 1 s, not to 2", LATER + S + 5, LATER - S, LATER + 3 * S, False),
        ("NTFS", LATER + 199, LATER + 100, LATER + 300, True),
        ("ext4 does not round", LATER + S + 5, LATER, LATER + 123_456_789, False),
        ("clamped to 2038", 2**32 * S, (2**31 - 1) * S, LATER + S, False),
        ("clamped to 1980", 0, 315_532_800 * S, LATER, False),
    ],
)
def test_a_time_is_the_same_within_the_steps_of_its_file_system(name, mtime_ns, there_ns, ctime_ns, same):
    assert same_time(found(there_ns, ctime_ns), mtime_ns) == same, name


def test_only_a_time_with_nanoseconds_proves_that_none_is_rounded():
    assert proves_exactness(LATER + 1)
    assert not proves_exactness(LATER + 500_000_000)
    assert is_exact(LATER)
    assert not is_exact(0), "exFAT holds tenths of seconds and no time before 1980"


@pytest.fixture
def source(world):
    source = fill(world.root / "source", {"old": b"1", "odd": b"2", "deep/even": b"3"})
    for name, time_ns in (("old", 5 * S), ("odd", LATER + S + 7), ("deep/even", LATER), ("deep", LATER), (".", LATER)):
        os.utime(source / name, ns=(time_ns, time_ns))
    world.backup(source)
    return source


@pytest.fixture
def vfat(monkeypatch):
    """Let every file system hold what vfat holds: even seconds from 1980 on."""
    real_utime, real_stat, real_fstat = os.utime, os.stat, os.fstat

    def even(time_ns):
        return max(time_ns, 315_532_800 * S) // (2 * S) * 2 * S

    def utime(target, *, ns, **more):
        return real_utime(target, ns=tuple(map(even, ns)), **more)

    def rounded(result):
        fields, extra = result.__reduce__()[1]
        ctime_ns = even(result.st_ctime_ns)
        return os.stat_result(fields, {**extra, "st_ctime_ns": ctime_ns, "st_ctime": ctime_ns / S})

    monkeypatch.setattr(os, "utime", utime)
    monkeypatch.setattr(os, "stat", lambda *a, **k: rounded(real_stat(*a, **k)))
    monkeypatch.setattr(os, "fstat", lambda fd: rounded(real_fstat(fd)))


def test_rounding_is_no_difference_and_a_time_that_cannot_be_held_is_reported(world, source, vfat):
    out = world.root / "out"
    result = world.restore(out, path=source)
    (row,) = result.errors
    assert (row.path, row.restored) == (f"{source}/old", True)
    assert "mtime" in row.message
    assert "1970-01-01 00:00:05" in row.message
    assert "1980" in row.message
    with world.open() as repository:
        repository.load_index()
        (snapshot,) = repository.view.state.snapshots
        request = RestoreRequest(snapshot=snapshot, to=os.fsencode(out), path=os.fsencode(source))
        with destination_of(repository, request) as root:
            rows = list(differences(repository, snapshot, root, os.fsencode(source)))
    assert [row.path for row in rows] == [f"{source}/old"]


def test_items_with_rounded_times_are_not_written_again(world, source, vfat):
    out = world.root / "out"
    world.restore(out, path=source)
    for overwrite in ("if-changed", "always"):
        result = world.restore(out, path=source, overwrite=overwrite, excludes=("old",))
        assert (result.written_bytes, result.errors) == (0, [])
