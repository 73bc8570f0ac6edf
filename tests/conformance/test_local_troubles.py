"""A directory on a disk that fills up, turns read-only, vanishes or is replaced: each has its own error; nothing is lost."""

import errno
import os
import shutil
import subprocess
from collections.abc import Callable
from mmap import mmap
from pathlib import Path

import pytest

from drtool.errors import ObjectMissing, StoreError, TargetFull, TargetOffline, TargetReadOnly, TargetUnanswered
from drtool.stores import Buffer, LocalStore, durable

Mount = Callable[[str], Path]
NOBODY = 65534


def temporary_files(root: Path) -> list[Path]:
    return list(root.rglob(".tmp-*"))


def fill(store: LocalStore, prefix: str, data: Buffer) -> int:
    """Store objects until the disk is full, and return their number."""
    for i in range(100):
        try:
            store.put(f"{prefix}/{i:02}", data)
        except TargetFull:
            return i
    return pytest.fail("the disk did not fill up")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "site"


@pytest.mark.parametrize("size_bytes", [300_000, 1 << 20])
def test_a_full_disk_is_reported_and_leaves_nothing_behind(mounted: Mount, size_bytes: int) -> None:
    root = mounted("size=2m")
    store = LocalStore.open(root)
    store.put("kept", b"k" * 1000)
    buffer = mmap(-1, size_bytes)
    stored = fill(store, "packs", buffer)
    assert temporary_files(root) == []
    assert store.get("kept") == b"k" * 1000
    assert [row.size_bytes for row in store.list("packs/")] == [size_bytes] * stored
    with pytest.raises(TargetFull):
        store.put_if_absent("v-1", bytes(2 << 20))
    assert temporary_files(root) == []
    store.delete("packs/00")
    store.put("packs/00", bytes(size_bytes))


def test_a_disk_without_inodes_is_full(mounted: Mount) -> None:
    root = mounted("size=4m,nr_inodes=12")
    store = LocalStore.open(root)
    stored = fill(store, "x", b"1")
    assert 0 < stored < 12
    store.delete("x/00")
    store.delete("x/01")  # on a tmpfs the second name made by link(2) also takes the space of an inode
    assert store.put_if_absent("x/new", b"1")
    assert temporary_files(root) == []


def test_a_disk_that_turned_read_only_is_reported_and_still_read(mounted: Mount) -> None:
    root = mounted("size=2m")
    store = LocalStore.open(root)
    store.put("x", b"1")
    subprocess.run(["mount", "-o", "remount,ro", root], check=True)
    for write in (
        lambda: store.put("x", b"2"),
        lambda: store.put("new/y", b"2"),
        lambda: store.put_if_absent("v-1", b"2"),
        lambda: store.delete("x"),
    ):
        with pytest.raises(TargetReadOnly):
            write()
    assert store.get("x") == b"1"
    assert store.read_tagged("x") is not None
    assert [row.name for row in store.list()] == ["x"]


def check_offline(store: LocalStore) -> None:
    for call in (
        lambda: store.put("x", b"2"),
        lambda: store.put_if_absent("y", b"2"),
        lambda: store.get("x"),
        lambda: store.stat("x"),
        lambda: store.read_tagged("x"),
        lambda: list(store.list()),
        lambda: store.delete("x"),
        store.free_bytes,
    ):
        with pytest.raises(TargetOffline, match="replaced or unmounted"):
            call()


def test_an_unmounted_root_is_offline_and_not_filled(mounted: Mount) -> None:
    root = mounted("size=2m")
    store = LocalStore.open(root)
    store.put("x", b"1")
    subprocess.run(["umount", "-l", root], check=True)
    check_offline(store)
    assert list(root.iterdir()) == []


def test_something_mounted_over_the_root_is_offline(mounted: Mount) -> None:
    root = mounted("size=2m")
    store = LocalStore.open(root)
    store.put("x", b"1")
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "drtool-test", root], check=True)
    try:
        check_offline(store)
    finally:
        subprocess.run(["umount", "-l", root], check=True)
    assert store.get("x") == b"1"


@pytest.mark.parametrize("put_another_there", [False, True])
def test_a_root_that_was_moved_away_is_offline(root: Path, put_another_there: bool) -> None:
    store = LocalStore.create(root)
    store.put("x", b"1")
    root.rename(root.with_name("moved"))
    if put_another_there:
        root.mkdir()
    check_offline(store)
    if put_another_there:
        assert list(root.iterdir()) == []


def test_a_write_that_raced_with_the_root_going_away_is_not_acknowledged(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = LocalStore.create(root)
    real = durable.sync_directory

    def move_away_then_sync(directory: int) -> None:
        if root.exists():
            root.rename(root.with_name("moved"))
        real(directory)

    monkeypatch.setattr(durable, "sync_directory", move_away_then_sync)
    with pytest.raises(TargetOffline):
        store.put("x", b"1")


def test_opening_creates_nothing(root: Path) -> None:
    with pytest.raises(TargetOffline):
        LocalStore.open(root)
    assert not root.exists()
    root.write_text("a file")
    with pytest.raises(TargetOffline):
        LocalStore.open(root)


def test_a_directory_removed_below_the_root_is_made_again(root: Path) -> None:
    store = LocalStore.create(root)
    store.put("packs/ab/1", b"1")
    shutil.rmtree(root / "packs")
    store.put("packs/ab/2", b"2")
    assert [row.name for row in store.list()] == ["packs/ab/2"]


def test_a_lost_permission_is_reported(root: Path) -> None:
    store = LocalStore.create(root)
    store.put("x", b"1")
    root.chmod(0o500)
    (root / "x").chmod(0)
    as_root = os.geteuid() == 0
    if as_root:
        os.chmod(root.parent, 0o755)  # the directories of pytest are private
        os.chown(root, NOBODY, NOBODY)
        os.seteuid(NOBODY)
    try:
        with pytest.raises((TargetReadOnly, StoreError)) as failure:
            store.put("y", b"1")
        assert "permission denied" in str(failure.value)
        with pytest.raises(StoreError, match="permission denied") as failure:
            store.get("x")
        assert not isinstance(failure.value, ObjectMissing)
    finally:
        if as_root:
            os.seteuid(0)
        root.chmod(0o700)
    assert temporary_files(root) == []


@pytest.mark.parametrize(
    ("number", "expected"),
    [
        (errno.ENOSPC, TargetFull), (errno.EDQUOT, TargetFull), (errno.EROFS, TargetReadOnly),
        (errno.EACCES, TargetReadOnly), (errno.ESTALE, TargetUnanswered), (errno.ENOTCONN, TargetUnanswered),
        (errno.EIO, StoreError), (errno.EMFILE, StoreError),
    ],
)  # fmt: skip
@pytest.mark.parametrize("step", ["fsync", "rename", "link", "write"])
def test_a_failure_at_any_step_has_its_meaning_and_leaves_no_temporary_file(
    root: Path, monkeypatch: pytest.MonkeyPatch, step: str, number: int, expected: type[StoreError]
) -> None:
    store = LocalStore.create(root)
    store.put("x", b"old")

    def fail(*args: object, **options: object) -> None:
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patch:
        patch.setattr(os, step, fail)
        for write in (lambda: store.put("x", b"new"), lambda: store.put_if_absent("y", b"new")):
            if step in ("rename", "link") and (step == "link") != (write.__code__.co_names[0] == "put_if_absent"):
                continue
            with pytest.raises(StoreError) as failure:
                write()
            assert type(failure.value) is expected
    assert store.get("x") == b"old"
    assert temporary_files(root) == []
    assert [row.name for row in store.list()] == ["x"]


def test_where_links_are_refused_a_rename_that_never_replaces_does(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = LocalStore.create(root)

    def refuse(*args: object, **options: object) -> None:
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(os, "link", refuse)
    assert store.put_if_absent("v-1", b"1")
    assert not store.put_if_absent("v-1", b"2")
    assert store.get("v-1") == b"1"
    assert temporary_files(root) == []


def test_foreign_files_are_not_listed(root: Path) -> None:
    store = LocalStore.create(root)
    store.put("packs/ab", b"1")
    (root / "Upper").write_text("x")
    (root / "lost+found").mkdir()
    (root / "packs" / ".tmp-0123").write_text("x")
    (root / "packs" / ".nfs1").write_text("x")
    (root / "link").symlink_to("packs/ab")
    (root / "loop").symlink_to(".")
    os.mkfifo(root / "pipe")
    with open(os.fsencode(root) + b"/\xff\xfe", "wb"):
        pass
    os.mkdir(os.fsencode(root) + b"/\xffdir")
    assert [row.name for row in store.list()] == ["packs/ab"]
    for name in ("pipe", "link", "loop"):
        with pytest.raises(StoreError):
            store.get(name)


def test_a_closed_store_raises_an_error(root: Path) -> None:
    store = LocalStore.create(root)
    store.close()
    store.close()
    with pytest.raises(StoreError, match="closed"):
        store.put("x", b"1")
    with pytest.raises(StoreError, match="closed"):
        list(store.list())
