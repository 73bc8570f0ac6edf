"""What was captured comes back, all of it, and nothing outside of the destination is touched."""

import errno
import os
import shutil
import stat
import struct
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from thoroughness import sample
from trees_in_memory import capture, comparable, opened, put_back

from drtool.errors import UsageError
from drtool.sources.filesystem import Folder, HardLinks, count, flags_of, write_data
from drtool.sources.filesystem.attributes import set_flags
from drtool.sources.filesystem.removing import remove
from drtool.trees import Entry, FileType

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: owners, devices, trusted attributes, flags")
UNTIED = {FileType.FILE: 0o640, FileType.DIRECTORY: 0o750}


def file_entry(name: bytes = b"file", **more: object) -> Entry:
    plain: dict[str, object] = {"uid": os.geteuid(), "gid": os.getegid(), "mode": 0o640, "mtime_ns": 1, **more}
    return Entry(name=name, type=FileType.FILE, **plain)  # type: ignore[arg-type]


def round_trip(source: Path, to: Path) -> list[str]:
    tree = capture(source)
    problems = put_back(tree, to)
    assert comparable(capture(to)) == comparable(tree)
    return problems


def acl(*entries: tuple[int, int, int]) -> bytes:
    """The kernel's form of a POSIX ACL: (tag, permissions, id); tags 1 user, 2 named user, 4 group, 16 mask, 32 other."""
    return struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in entries)


NONE = 0xFFFFFFFF
ACL = acl((1, 6, NONE), (2, 6, 12345), (4, 4, NONE), (16, 6, NONE), (32, 0, NONE))
DEFAULT_ACL = acl((1, 7, NONE), (2, 7, 54321), (4, 5, NONE), (16, 7, NONE), (32, 7, NONE))
CAPABILITY = struct.pack("<IIIII", 0x02000001, 0x400, 0, 0, 0)


@as_root
def test_everything_posix_comes_back(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / "file").write_text("content")
    os.link(source / "file", source / "z-hard")
    (source / "below").mkdir(mode=0o700)
    os.link(source / "file", source / "below/hard")
    (source / "dangling").symlink_to("nowhere")
    (source / "loop").symlink_to("loop")
    os.chown(source / "loop", 1234, 5678, follow_symlinks=False)
    os.utime(source / "loop", ns=(1, -1_234_567_891), follow_symlinks=False)
    os.mkfifo(source / "fifo", 0o622)
    os.mknod(source / "null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    os.mknod(source / "disk", stat.S_IFBLK | 0o660, os.makedev(250, 260))
    (source / "setuid").write_text("x")
    os.chown(source / "setuid", 1234, 5678)
    (source / "setuid").chmod(0o6755)
    (source / "sticky").mkdir()
    (source / "sticky").chmod(0o3777)
    (source / "unreadable").write_text("x")
    (source / "unreadable").chmod(0)
    for name in (b"\xff\xfe", b"new\nline", b" ", b"-rf", b"x" * 255):
        Path(os.fsdecode(os.path.join(os.fsencode(source), name))).write_text("x")
    for number, mtime_ns in enumerate(
        (-1, -2_000_000_000_000_000_001, 1_700_000_000_123_456_789, 4_000_000_000_000_000_001)
    ):
        (source / f"time{number}").touch()
        os.utime(source / f"time{number}", ns=(mtime_ns, mtime_ns))
    os.utime(source / "below", ns=(7, 7))
    assert round_trip(source, tmp_path / "to") == []
    restored = tmp_path / "to"
    assert (restored / "file").stat().st_ino == (restored / "below/hard").stat().st_ino
    assert (restored / "file").stat().st_nlink == 3


@as_root
def test_attributes_acls_capabilities_and_flags_come_back(tmp_path: Path) -> None:
    source = tmp_path / "source"
    (source / "below").mkdir(parents=True)
    (source / "file").write_text("x")
    (source / "read-only").write_text("x")
    os.setxattr(source / "read-only", "user.note", b"\0\xff")
    (source / "read-only").chmod(0o444)
    os.chown(source / "file", 1234, 5678)
    os.setxattr(source / "file", "trusted.note", b"t")
    os.setxattr(source / "file", "security.capability", CAPABILITY)
    os.setxattr(source / "file", "system.posix_acl_access", ACL)
    os.setxattr(source / "below", "system.posix_acl_default", DEFAULT_ACL)
    os.setxattr(source / "below", "user.empty", b"")
    (source / "link").symlink_to("file")
    os.setxattr(source / "link", "trusted.note", b"of the link", follow_symlinks=False)
    (source / "below/child").write_text("x")
    flagged = ("file", "below")
    for name in flagged:
        with opened(source / name) as fd:
            set_flags(fd, 0x40 | 0x80)  # nodump, noatime
    try:
        with opened(source / "file") as fd:
            set_flags(fd, 0x40 | 0x10)  # immutable
        tree = capture(source)
        assert put_back(tree, tmp_path / "to") == []
        assert comparable(capture(tmp_path / "to")) == comparable(tree)
        assert tree["file"].flags in (0x50, 0)
        assert {name for name, _ in tree["file"].xattrs} >= {b"trusted.note", b"security.capability"}
    finally:
        with opened(tmp_path) as room:
            remove(room, b"source", recursive=True)
            remove(room, b"to", recursive=True)
    assert list(tmp_path.iterdir()) == []


def test_holes_come_back_as_holes(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    with (source / "sparse").open("wb") as file:
        file.write(b"a" * 8192)
        file.seek(1 << 20)
        file.write(b"b" * 8192)
        file.truncate(8 << 20)
    with (source / "all hole").open("wb") as file:
        file.truncate(1 << 20)
    round_trip(source, tmp_path / "to")
    assert (tmp_path / "to/sparse").stat().st_blocks == (source / "sparse").stat().st_blocks
    assert (tmp_path / "to/all hole").stat().st_blocks == 0


def test_data_is_written_around_holes_in_pieces_of_any_size(tmp_path: Path) -> None:
    holes = ((10, 20), (50, 5), (90, 10))
    content = bytearray(range(1, 101))
    for hole, length in holes:
        content[hole : hole + length] = bytes(length)
    entry = file_entry(size_bytes=100, holes=holes)
    for step in (1, 7, 33, 100):
        assert written_in_steps(tmp_path / f"step{step}", entry, bytes(content), step) == 65
        assert (tmp_path / f"step{step}").read_bytes() == content


def test_data_where_a_hole_was_recorded_is_not_lost(tmp_path: Path) -> None:
    """The map of the holes is older than the content of a file that changed while it was read."""
    content = bytes(range(1, 101))
    entry = file_entry(size_bytes=100, holes=((10, 20), (50, 50)))
    for step in (7, 100):
        assert written_in_steps(tmp_path / f"step{step}", entry, content, step) == 100
        assert (tmp_path / f"step{step}").read_bytes() == content


def written_in_steps(path: Path, entry: Entry, content: bytes, step: int) -> int:
    with Folder.destination(os.fsencode(path.parent)) as folder:
        fd = folder.create_file(entry, os.fsencode(path.name))
        written = sum(write_data(fd, entry, at, content[at : at + step]) for at in range(0, len(content), step))
        os.close(fd)
    return written


# -- nothing leaks in


@as_root
def test_the_destinations_default_acl_setgid_and_umask_do_not_leak(tmp_path: Path) -> None:
    source, to = tmp_path / "source", tmp_path / "to"
    (source / "below/deeper").mkdir(parents=True)
    (source / "below/file").write_text("x")
    (source / "file").write_text("x")
    os.mkfifo(source / "fifo")
    for path in source.rglob("*"):
        os.chown(path, 1234, 5678)
        path.chmod(UNTIED.get(FileType(path.stat().st_mode >> 12), 0o600))
    to.mkdir()
    os.chown(to, 77, 88)
    to.chmod(0o2755)
    os.setxattr(to, "system.posix_acl_default", DEFAULT_ACL)
    with opened(to) as fd:
        set_flags(fd, 0x40)
    previous = os.umask(0o777)
    try:
        assert round_trip(source, to) == []
    finally:
        os.umask(previous)
    assert os.getxattr(to, "system.posix_acl_default") == DEFAULT_ACL


@as_root
def test_metadata_of_what_exists_becomes_exactly_the_entrys(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    os.setxattr(tmp_path / "file", "user.extra", b"e")
    os.setxattr(tmp_path / "file", "system.posix_acl_access", ACL)
    entry = file_entry(size_bytes=1, xattrs=((b"user.wanted", b"w"),), uid=1234, gid=5678, mode=0o4711)
    with Folder.destination(os.fsencode(tmp_path)) as folder:
        assert not folder.matches(entry)
        assert folder.correct(entry) == []
        assert folder.matches(entry)
        changed = (tmp_path / "file").stat().st_ctime_ns
        assert folder.matches(entry)
    assert (tmp_path / "file").stat().st_ctime_ns == changed
    assert os.listxattr(tmp_path / "file") == ["user.wanted"]


@as_root
@pytest.mark.parametrize(
    "change",
    [
        {"mode": 0o600}, {"uid": 5}, {"gid": 5}, {"mtime_ns": 2}, {"size_bytes": 2}, {"xattrs": ((b"user.a", b""),)},
    ],
    ids=str,
)  # fmt: skip
def test_every_difference_is_noticed(tmp_path: Path, change: dict[str, object]) -> None:
    (tmp_path / "file").write_text("x")
    entry = file_entry(size_bytes=1)
    with Folder.destination(os.fsencode(tmp_path)) as folder:
        folder.correct(entry)
        assert folder.matches(entry)
        assert not folder.matches(msgspec.structs.replace(entry, **change))


def test_another_link_target_is_noticed(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("a")
    entry = msgspec.structs.replace(file_entry(b"link"), type=FileType.SYMLINK, link_target=b"a", size_bytes=1)
    with Folder.destination(os.fsencode(tmp_path)) as folder:
        folder.correct(entry)
        assert folder.matches(entry)
        assert not folder.matches(msgspec.structs.replace(entry, link_target=b"b"))


# -- what is in the way


def test_a_symlink_where_a_directory_belongs_is_replaced_not_followed(tmp_path: Path) -> None:
    outside, to = tmp_path / "outside", tmp_path / "to"
    outside.mkdir()
    to.mkdir()
    (to / "below").symlink_to(outside)
    with Folder.destination(os.fsencode(to)) as folder, folder.enter(b"below") as below:
        os.close(below.create_file(file_entry()))
    assert list(outside.iterdir()) == []
    assert not (to / "below").is_symlink()
    assert (to / "below/file").exists()


def test_a_symlink_where_a_file_belongs_is_never_written_through(tmp_path: Path) -> None:
    (tmp_path / "outside").write_text("untouched")
    (tmp_path / "file").symlink_to("outside")
    with Folder.destination(os.fsencode(tmp_path)) as folder:
        with pytest.raises(FileExistsError):
            folder.create_file(file_entry())
        with pytest.raises(OSError, match="symbolic links"):
            folder.open_file(b"file", write=True)
        with pytest.raises(OSError, match="replaced meanwhile"):
            folder.correct(file_entry())
        fd, temporary = folder.create_beside(file_entry())
        write_data(fd, file_entry(), 0, b"new")
        os.close(fd)
        folder.replace(temporary, b"file")
    assert (tmp_path / "outside").read_text() == "untouched"
    assert (tmp_path / "file").read_text() == "new"
    assert not (tmp_path / "file").is_symlink()


def test_a_fifo_where_a_file_is_expected_is_not_opened_for_ever(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "file")
    with Folder.destination(os.fsencode(tmp_path)) as folder, pytest.raises(OSError, match="no regular file"):
        folder.open_file(b"file")


def test_a_full_directory_gives_way_only_with_delete(tmp_path: Path) -> None:
    (tmp_path / "name/below").mkdir(parents=True)
    (tmp_path / "name/below/file").write_text("x")
    with Folder.destination(os.fsencode(tmp_path)) as folder:
        with pytest.raises(OSError) as refused:
            folder.clear(b"name")
        assert refused.value.errno == errno.ENOTEMPTY
        assert (tmp_path / "name/below/file").exists()
        assert count(folder.fd, b"name") == 3
        assert folder.clear(b"name", delete=True) == 3
        assert folder.clear(b"name", delete=True) == 0


def test_removal_stays_inside(tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside/file").write_text("x")
    (tmp_path / "name").mkdir()
    (tmp_path / "name/link").symlink_to(tmp_path / "outside")
    with opened(tmp_path) as room:
        remove(room, b"name", recursive=True)
    assert (tmp_path / "outside/file").exists()
    assert not (tmp_path / "name").exists()


def test_paths_beyond_what_the_kernel_takes_are_made_linked_and_removed(tmp_path: Path) -> None:
    depth, part = 300, b"d" * 200  # 60,000 bytes; PATH_MAX is 4,096
    entry = file_entry(links=2, inode=1, device=1)
    with Folder.destination(os.fsencode(tmp_path)) as root:
        links = HardLinks(root)
        folder, opened_folders = root, []
        for _ in range(depth):
            folder = folder.enter(part)
            opened_folders.append(folder)
        os.close(folder.create_file(entry))
        found = folder.stat(b"file")
        assert found is not None
        links.remember(entry, (*[part] * depth, b"file"), found)
        again = msgspec.structs.replace(entry, name=b"again")
        assert links.link(again, root)
        assert links.is_linked(again, (tmp_path / "again").stat())
        for folder in opened_folders:
            folder.close()
        assert count(root.fd, part) == depth + 1
        assert root.clear(part, delete=True) == depth + 1


def test_a_swapped_file_gains_no_name(tmp_path: Path) -> None:
    entry = file_entry(links=2, inode=1, device=1)
    with Folder.destination(os.fsencode(tmp_path)) as root:
        links = HardLinks(root)
        os.close(root.create_file(entry))
        links.remember(entry, (b"file",), (tmp_path / "file").stat())
        (tmp_path / "other").write_text("secret")
        (tmp_path / "other").rename(tmp_path / "file")
        with pytest.raises(OSError, match="the first name was replaced meanwhile"):
            links.link(msgspec.structs.replace(entry, name=b"again"), root)
    assert not (tmp_path / "again").exists()


def test_a_file_as_destination_is_a_usage_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for path in (tmp_path / "file", tmp_path / "file/below"):
        with pytest.raises(UsageError, match="not a directory"):
            Folder.destination(os.fsencode(path))


@as_root
def test_immutable_files_and_directories_give_way_to_root(tmp_path: Path) -> None:
    (tmp_path / "below").mkdir()
    (tmp_path / "below/file").write_text("old")
    for path in (tmp_path / "below/file", tmp_path / "below"):
        with opened(path) as fd:
            set_flags(fd, 0x10)
            if not flags_of(fd):
                pytest.skip("this file system has no immutable flag")
    with Folder.destination(os.fsencode(tmp_path)) as folder, folder.enter(b"below") as below:
        fd, temporary = below.create_beside(file_entry())
        assert below.finish_file(fd, file_entry(flags=0x10)) == []
        os.close(fd)
        with opened(tmp_path / "below" / os.fsdecode(temporary)) as fd:
            assert flags_of(fd) == 0x10
            set_flags(fd, 0)
        below.replace(temporary, b"file")
    with opened(tmp_path) as fd:
        assert remove(fd, b"below", recursive=True) == 2


# -- not root

AS_NOBODY = """
import os, sys
from drtool.sources.filesystem import *
from drtool.trees import Entry, FileType
os.setgroups([]); os.setgid(65534); os.setuid(65534)
with Folder.destination(os.fsencode(sys.argv[1])) as folder:
    entry = Entry(name=b"file", type=FileType.FILE, mode=0o6755, uid=0, gid=0, mtime_ns=5,
                  xattrs=((b"trusted.a", b""), (b"user.a", b"x")))
    fd = folder.create_file(entry)
    print(*folder.finish_file(fd, entry), sep="\\n")
    os.close(fd)
    with folder.enter(b"locked") as below:
        os.close(below.create_file(entry))
        print(*below.finish(Entry(name=b"locked", type=FileType.DIRECTORY, mode=0o500, uid=65534, gid=65534)), sep="\\n")
    try:
        folder.make(Entry(name=b"null", type=FileType.CHARACTER_DEVICE, mode=0o666, uid=0, gid=0, rdev=259))
    except OSError as error:
        print("device:", error.strerror)
"""


@as_root
def test_without_privileges_what_could_not_be_set_is_said(tmp_path: Path) -> None:
    to = tmp_path / "to"
    to.mkdir()
    (to / "locked").mkdir(mode=0)
    for path in (to, to / "locked"):
        os.chown(path, 65534, 65534)
    for above in tmp_path.parents:
        if above.stat().st_mode & 0o005 != 0o005:
            os.chmod(above, 0o755)
    tmp_path.chmod(0o755)
    said = subprocess.run(
        [sys.executable, "-c", AS_NOBODY, os.fspath(to)], capture_output=True, text=True, check=True
    ).stdout
    assert [line for line in said.splitlines() if line] == [
        "owner: Operation not permitted",
        "mode: without its owner it does not become setuid or setgid",
        "xattr trusted.a: Operation not permitted",
        "device: Operation not permitted",
    ]
    assert stat.S_IMODE((to / "file").stat().st_mode) == 0o755
    assert os.getxattr(to / "file", "user.a") == b"x"
    assert stat.S_IMODE((to / "locked").stat().st_mode) == 0o500
    assert (to / "locked/file").exists()


# -- any tree

names = st.binary(min_size=1, max_size=12).filter(
    lambda name: b"/" not in name and b"\0" not in name and name not in (b".", b"..")
)
modes = st.integers(0, 0o7777)
mtimes = st.integers(-(2**31) * 10**9, 2**33 * 10**9)
leaves = st.one_of(
    st.tuples(st.just("file"), st.binary(max_size=200), modes, mtimes),
    st.tuples(st.just("symlink"), names, modes, mtimes),
    st.tuples(st.just("fifo"), st.just(b""), modes, mtimes),
)
trees = st.recursive(
    st.dictionaries(names, leaves, max_size=5),
    lambda below: st.dictionaries(names, st.one_of(leaves, below), max_size=4),
    max_leaves=12,
)


def build(directory: bytes, tree: dict[bytes, object]) -> None:
    os.mkdir(directory)
    for name, what in tree.items():
        path = os.path.join(directory, name)
        if isinstance(what, dict):
            build(path, what)
            continue
        kind, content, mode, mtime_ns = what  # type: ignore[misc]
        if kind == "symlink":
            os.symlink(content, path)
        elif kind == "fifo":
            os.mkfifo(path)
        else:
            with open(path, "wb") as file:
                file.write(content)
        if kind != "symlink":
            os.chmod(path, mode)
        os.utime(path, ns=(mtime_ns, mtime_ns), follow_symlinks=False)


@as_root
@settings(max_examples=sample(60), deadline=None)
@given(tree=trees)
def test_any_tree_comes_back(tree: dict[bytes, object], tmp_path_factory: pytest.TempPathFactory) -> None:
    room = tmp_path_factory.mktemp("any")
    build(os.fsencode(room / "source"), tree)
    assert round_trip(room / "source", room / "to") == []
    shutil.rmtree(room)
