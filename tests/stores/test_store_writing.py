"""The two ways to write to the disk, and who may vote."""

import errno
import os
from fcntl import F_GETFL, fcntl
from mmap import mmap
from pathlib import Path

import pytest

from drtool.stores import LocalStore
from drtool.stores.voting import MAY_VOTE, type_of_mount, verdict

MOUNTS = """\
22 1 254:0 / / rw,relatime - ext4 /dev/vda rw
30 22 0:26 / /mnt/nas rw,nosuid shared:5 - nfs4 nas:/export rw
31 22 0:27 /sub /mnt/my\\040disk rw shared:6 master:2 - fuse.sshfs host:/ rw
"""


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return LocalStore.create(tmp_path / "site")


@pytest.fixture
def buffer() -> memoryview:
    mapped = mmap(-1, 1 << 20)
    mapped[:] = os.urandom(1 << 20)
    return memoryview(mapped)


@pytest.fixture
def writes(monkeypatch: pytest.MonkeyPatch) -> list[tuple[bool, int]]:
    """Record, for each write, whether it bypassed the page cache, and its size."""
    seen: list[tuple[bool, int]] = []
    real = os.write

    def watched(descriptor: int, data: memoryview) -> int:
        written = real(descriptor, data)
        seen.append((bool(fcntl(descriptor, F_GETFL) & os.O_DIRECT), written))
        return written

    monkeypatch.setattr(os, "write", watched)
    return seen


@pytest.mark.skipif(not hasattr(os, "O_DIRECT"), reason="this system has no O_DIRECT")
def test_whole_pages_of_an_aligned_buffer_go_past_the_page_cache(
    store: LocalStore, buffer: memoryview, writes: list[tuple[bool, int]]
) -> None:
    store.put("x", buffer[:1_000_001])
    assert sum(written for _, written in writes) == 1_000_001
    if not writes[0][0]:
        pytest.skip("this file system takes no direct writes")
    assert writes == [(True, 1_000_001 // 4096 * 4096), (False, 1_000_001 % 4096)]
    assert store.get("x") == buffer[:1_000_001]


def test_unaligned_or_small_writes_go_through_the_page_cache(
    store: LocalStore, buffer: memoryview, writes: list[tuple[bool, int]]
) -> None:
    store.put("x", buffer[1:])
    store.put("y", buffer[:5000])
    store.put("z", bytes(buffer))
    assert not any(direct for direct, _ in writes)


def test_a_file_system_that_refuses_direct_writes_gets_the_same_bytes(
    store: LocalStore, buffer: memoryview, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.write

    def refuse_direct(descriptor: int, data: memoryview) -> int:
        if fcntl(descriptor, F_GETFL) & os.O_DIRECT:
            raise OSError(errno.EINVAL, "refused")
        return real(descriptor, data)

    monkeypatch.setattr(os, "write", refuse_direct)
    store.put("x", buffer)
    assert store.get("x") == buffer


def test_a_file_system_that_refuses_to_open_for_direct_writes_gets_the_same_bytes(
    store: LocalStore, buffer: memoryview, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.open

    def refuse_direct(path: str, flags: int, *args: int, **options: int) -> int:
        if flags & os.O_DIRECT and flags & os.O_CREAT:
            os.close(
                real(path, flags & ~os.O_DIRECT, *args, **options)
            )  # like file systems that create the name anyway
            raise OSError(errno.EINVAL, "refused")
        return real(path, flags, *args, **options)

    monkeypatch.setattr(os, "open", refuse_direct)
    store.put("x", buffer)
    assert store.get("x") == buffer
    assert list(store.root.iterdir()) == [store.root / "x"]


def test_short_writes_are_continued(store: LocalStore, buffer: memoryview, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, data: real(descriptor, data[: min(len(data), 8192 * 5)]))
    store.put("x", buffer[:999_999])
    assert store.get("x") == buffer[:999_999]
    store.put("y", buffer[1:])
    assert store.get("y") == buffer[1:]


def test_files_and_directories_are_private(store: LocalStore) -> None:
    store.put("packs/ab/x", b"1")
    assert (store.root / "packs" / "ab" / "x").stat().st_mode & 0o777 == 0o600
    assert (store.root / "packs").stat().st_mode & 0o777 == 0o700


def test_local_file_systems_vote_and_network_and_fuse_ones_do_not() -> None:
    assert type_of_mount(MOUNTS, "22") == "ext4"
    assert type_of_mount(MOUNTS, "30") == "nfs4"
    assert type_of_mount(MOUNTS, "31") == "fuse.sshfs"
    assert type_of_mount(MOUNTS, "99") == ""
    assert all(verdict(name).can_vote for name in MAY_VOTE)
    for name in ("nfs4", "cifs", "fuse.sshfs", "fuseblk", "9p", "vfat", ""):
        assert not verdict(name).can_vote
        assert "vote: true" in verdict(name).reason


def test_a_store_reports_its_file_system(store: LocalStore) -> None:
    found = store.vote_verdict()
    assert store.can_vote() == found.can_vote == (found.file_system in MAY_VOTE)
    if Path("/proc/self/mountinfo").exists():
        assert found.file_system
