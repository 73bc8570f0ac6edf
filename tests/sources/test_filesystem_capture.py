"""What a scan sees, what it reuses, and what it does when the tree moves under it."""

import os
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path

import msgspec
import pytest
from trees_in_memory import FOREVER_NS, Tree, capture, capture_once, completed, make_socket, opened

from drtool.errors import UsageError
from drtool.sources.filesystem import (
    OwnerNames,
    Recent,
    Rules,
    capture_directory,
    complete,
    describe_stat,
    open_directory,
    open_directory_path,
    open_for_read,
    plan_roots,
    read_patterns,
    settle_directory,
    still_same,
    with_uncaptured,
)
from drtool.sources.filesystem.removing import remove
from drtool.trees import FileType

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: devices, owners, other users")


def rules_for(path: Path, *patterns: str, **options: bool) -> Rules:
    return Rules(plan_roots([os.fsencode(path)]), patterns, **options)


# -- unchanged


def test_an_unchanged_directory_is_the_parents_very_objects(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    (tmp_path / "empty").touch()
    (tmp_path / "link").symlink_to("file")
    (tmp_path / "below").mkdir()
    os.mkfifo(tmp_path / "fifo")
    previous = completed(capture_once(tmp_path))
    again = capture_once(tmp_path, previous)
    assert again.same
    assert again.fresh == []
    assert all(previous[entry.name] is entry for entry in again.entries)
    assert [entry.name for entry in again.entries] == [b"below", b"empty", b"fifo", b"file", b"link"]


def test_what_is_younger_than_the_parents_scan_is_read_again(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    previous = completed(capture_once(tmp_path))
    again = capture_once(tmp_path, previous, recent_after_ns=previous[b"file"].ctime_ns)
    assert not again.same
    assert again.fresh == [0]


@pytest.mark.parametrize("change", ["content", "mode", "mtime", "replaced", "kind"])
def test_every_change_is_seen(tmp_path: Path, change: str) -> None:
    file = tmp_path / "file"
    file.write_text("x")
    previous = completed(capture_once(tmp_path))
    old = file.stat()
    time.sleep(0.01)  # the kernel's clock ticks every 4 ms
    if change == "content":
        file.write_text("y")
        os.utime(file, ns=(old.st_mtime_ns, old.st_mtime_ns))
    elif change == "mode":
        file.chmod(0o600)
    elif change == "mtime":
        os.utime(file, ns=(1, 1))
    elif change == "replaced":
        (tmp_path / "new").write_text("y")
        os.utime(tmp_path / "new", ns=(old.st_mtime_ns, old.st_mtime_ns))
        (tmp_path / "new").rename(file)
    else:
        file.unlink()
        file.mkdir()
    again = capture_once(tmp_path, previous)
    assert not again.same
    assert again.entries[0] is not previous[b"file"]
    assert bool(again.fresh) == (change != "kind")


def test_a_name_that_is_gone_makes_a_directory_different(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("x")
    (tmp_path / "b").write_text("x")
    previous = completed(capture_once(tmp_path))
    (tmp_path / "b").unlink()
    again = capture_once(tmp_path, previous)
    assert [entry is previous[b"a"] for entry in again.entries] == [True]
    assert not again.same


def test_an_incomplete_entry_is_not_trusted(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("x")
    previous = completed(capture_once(tmp_path))
    previous[b"a"] = with_uncaptured(previous[b"a"], "content", PermissionError(13, "Permission denied"))
    assert previous[b"a"].uncaptured == ("content: Permission denied",)
    assert capture_once(tmp_path, previous).fresh == [0]


def test_ignoring_ctime_keeps_content_but_sees_the_mode(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("x")
    previous = completed(capture_once(tmp_path))
    time.sleep(0.01)
    file.chmod(0o600)
    again = capture_once(tmp_path, previous, rules=rules_for(tmp_path, ignore_ctime=True))
    assert again.fresh == []
    assert (again.entries[0].mode, again.entries[0].content) == (0o600, b"c" * 32)
    file.chmod(0o644)
    assert capture_once(tmp_path, previous, rules=rules_for(tmp_path, ignore_ctime=True)).same


def test_ignoring_inodes_reuses_what_was_copied(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    previous = completed(capture_once(tmp_path))
    previous[b"file"] = msgspec.structs.replace(previous[b"file"], inode=1)
    assert capture_once(tmp_path, previous).fresh == [0]
    assert capture_once(tmp_path, previous, rules=rules_for(tmp_path, ignore_inode=True)).same


def test_another_device_number_alone_changes_nothing_but_hard_links(tmp_path: Path) -> None:
    (tmp_path / "alone").write_text("x")
    (tmp_path / "one").write_text("x")
    os.link(tmp_path / "one", tmp_path / "two")
    here = completed(capture_once(tmp_path))
    previous = {name: msgspec.structs.replace(entry, device=1) for name, entry in here.items()}
    again = capture_once(tmp_path, previous)
    assert again.entries[0] is previous[b"alone"]
    assert {entry.device for entry in again.entries[1:]} == {here[b"one"].device}
    assert again.fresh == []  # but their content need not be read


def test_directories_settle_to_the_same_object_or_a_new_subtree(tmp_path: Path) -> None:
    (tmp_path / "below").mkdir()
    previous = completed(capture_once(tmp_path))
    entry = capture_once(tmp_path, previous).entries[0]
    with opened(tmp_path / "below") as fd:
        assert settle_directory(entry, fd, b"t" * 32) is previous[b"below"]
        assert settle_directory(entry, fd, b"u" * 32).subtree == b"u" * 32


# -- details


def test_sockets_are_left_out_and_fifos_are_not_opened(tmp_path: Path) -> None:
    make_socket(tmp_path / "socket")
    os.mkfifo(tmp_path / "fifo")  # opening it would block for ever
    captured = capture_once(tmp_path)
    assert [entry.name for entry in captured.entries] == [b"fifo"]
    assert captured.problems == []


def test_holes_are_found(tmp_path: Path) -> None:
    size_bytes = 4 << 20
    with (tmp_path / "sparse").open("wb") as file:
        file.seek(1 << 20)
        file.write(b"x" * 4096)
        file.truncate(size_bytes)
    (entry,) = capture_once(tmp_path).entries
    assert entry.size_bytes == size_bytes
    assert entry.holes == ((0, 1 << 20), ((1 << 20) + 4096, size_bytes - (1 << 20) - 4096))


def test_names_are_bytes_in_byte_order(tmp_path: Path) -> None:
    wanted = [b"\n", b" ", b"-", b"A", b"a", b"a\nb", b"\xc3\xa9", b"\xf0\x9f\x98\x80", b"\xff\xfe"]
    for name in wanted:
        os.close(os.open(os.path.join(os.fsencode(tmp_path), name), os.O_CREAT))
    assert [entry.name for entry in capture_once(tmp_path).entries] == sorted(wanted)


# -- the tree moves


def test_a_file_swapped_for_a_symlink_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("x")
    (tmp_path / "file").symlink_to("secret")
    with opened(tmp_path) as fd, pytest.raises(OSError, match="symbolic links"):
        open_for_read(fd, b"file")


def test_a_file_swapped_for_a_fifo_neither_blocks_nor_is_taken(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    (entry,) = capture_once(tmp_path).entries
    (tmp_path / "file").unlink()
    os.mkfifo(tmp_path / "file")
    with opened(tmp_path) as directory:
        fd = open_for_read(directory, b"file")
        assert not still_same(fd, entry)
        os.close(fd)


def test_a_directory_swapped_for_a_symlink_is_not_entered(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "below").symlink_to("real")
    with opened(tmp_path) as fd:
        with pytest.raises(OSError):
            open_directory(fd, b"below")
        os.close(open_directory(fd, b"below", follow=True))


@pytest.mark.parametrize("change", ["grow", "rewrite", "chmod"])
def test_a_change_while_reading_is_noticed(tmp_path: Path, change: str) -> None:
    file = tmp_path / "file"
    file.write_text("x")
    (entry,) = capture_once(tmp_path).entries
    with opened(tmp_path) as directory:
        fd = open_for_read(directory, b"file")
        assert still_same(fd, entry)
        time.sleep(0.01)
        if change == "grow":
            file.write_text("xy")
        elif change == "rewrite":
            file.write_text("y")
        else:
            file.chmod(0o600)
        assert not still_same(fd, entry)
        os.close(fd)


def test_a_replaced_file_can_be_described_from_its_descriptor(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("old")
    capture_once(tmp_path)
    (tmp_path / "new").write_text("newer")
    (tmp_path / "new").chmod(0o600)
    (tmp_path / "new").rename(tmp_path / "file")
    with opened(tmp_path / "file") as fd:
        now = complete(describe_stat(b"file", os.fstat(fd), OwnerNames()), fd)
        assert still_same(fd, now)
    assert now == capture_once(tmp_path).entries[0]


def test_a_long_path_is_opened_in_steps_and_only_its_last_part_is_not_followed(tmp_path: Path) -> None:
    part = b"d" * 250
    path = os.fsencode(tmp_path)
    fd = os.open(path, os.O_RDONLY)
    for _ in range(20):
        os.mkdir(part, dir_fd=fd)
        below = os.open(part, os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd, path = below, path + b"/" + part
    os.symlink(b"nowhere", b"link", dir_fd=fd)
    again = open_directory_path(path, follow=False)
    assert os.path.samestat(os.fstat(again), os.fstat(fd))
    with pytest.raises(OSError):
        open_directory_path(path + b"/link", follow=False)
    os.close(again)
    os.close(fd)
    with opened(tmp_path) as room:
        assert remove(room, part, recursive=True) == 21


def test_files_that_come_and_go_are_no_failure(tmp_path: Path) -> None:
    stop = threading.Event()

    def churn() -> None:
        while not stop.is_set():
            for number in range(40):
                (tmp_path / f"f{number}").touch()
            for number in range(40):
                (tmp_path / f"f{number}").unlink()

    (tmp_path / "stays").write_text("x")
    churner = threading.Thread(target=churn)
    churner.start()
    try:
        for _ in range(100):
            captured = capture_once(tmp_path)
            assert captured.problems == []
            assert b"stays" in [entry.name for entry in captured.entries]
    finally:
        stop.set()
        churner.join()


AS_NOBODY = """
import os, sys
from drtool.sources.filesystem import *
os.setgroups([]); os.setgid(65534); os.setuid(65534)
path = os.fsencode(sys.argv[1])
fd = os.open(path, os.O_RDONLY)
captured = capture_directory(fd, path, None, Rules(plan_roots([path])), Recent(), OwnerNames())
for entry in captured.entries:
    try:
        os.close((open_directory if entry.type == 4 else open_for_read)(fd, entry.name))
        print(entry.name.decode(), "opened")
    except OSError as error:
        print(entry.name.decode(), with_uncaptured(entry, "content", error).uncaptured[0])
print(len(captured.problems), "problems")
"""


@as_root
def test_what_may_not_be_read_is_said_and_the_rest_is_taken(tmp_path: Path) -> None:
    open_to_all = tmp_path / "open"
    open_to_all.mkdir(mode=0o755)
    for above in (tmp_path, *tmp_path.parents):
        if above.stat().st_mode & 0o005 != 0o005:
            os.chmod(above, 0o755)
    (open_to_all / "closed").mkdir(mode=0o700)
    (open_to_all / "secret").write_text("x")
    (open_to_all / "secret").chmod(0o600)
    (open_to_all / "public").write_text("x")
    (open_to_all / "public").chmod(0o644)
    said = subprocess.run(
        [sys.executable, "-c", AS_NOBODY, os.fspath(open_to_all)], capture_output=True, text=True, check=True
    ).stdout
    assert said.splitlines() == [
        "closed content: Permission denied",
        "public opened",
        "secret content: Permission denied",
        "0 problems",
    ]


def test_a_directory_that_may_be_listed_but_not_searched_reports_each_name(tmp_path: Path) -> None:
    if os.geteuid() == 0:
        pytest.skip("root may search every directory")
    (tmp_path / "below").mkdir()
    (tmp_path / "below/file").touch()
    (tmp_path / "below").chmod(0o400)
    captured = capture_once(tmp_path / "below")
    (tmp_path / "below").chmod(0o700)
    assert [problem.path for problem in captured.problems] == [os.fsencode(tmp_path / "below/file")]


# -- roots


def test_roots_are_absolute_sorted_and_taken_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a/b").mkdir(parents=True)
    (tmp_path / "c").touch()
    monkeypatch.chdir(tmp_path)
    here = os.fsencode(tmp_path)
    roots = plan_roots(
        [b"c", b"a/b", b"./a/", b"a/../a", b"//" + here.lstrip(b"/") + b"/c", b"gone", b"c/under-a-file"]
    )
    assert roots.paths == (here + b"/a", here + b"/c")
    assert roots.missing == (here + b"/gone", here + b"/c/under-a-file")


def test_parents_contribute_only_the_way_down(tmp_path: Path) -> None:
    (tmp_path / "a/b/c").mkdir(parents=True)
    (tmp_path / "a/other").touch()
    (tmp_path / "a/b/c/file").write_text("x")
    rules = Rules(plan_roots([os.fsencode(tmp_path / "a/b")]))
    assert capture(tmp_path, rules).paths() == ["a", "a/b", "a/b/c", "a/b/c/file"]


def test_a_named_symlink_is_followed_and_one_below_is_not(tmp_path: Path) -> None:
    (tmp_path / "real/below").mkdir(parents=True)
    (tmp_path / "real/inner").symlink_to("below")
    (tmp_path / "real/file").write_text("x")
    (tmp_path / "way").symlink_to("real")
    (tmp_path / "name").symlink_to("real/file")
    tree = capture(tmp_path, Rules(plan_roots([os.fsencode(tmp_path / "way"), os.fsencode(tmp_path / "name")])))
    assert tree["way"].type == FileType.DIRECTORY
    assert tree["way/inner"].type == FileType.SYMLINK
    assert tree["name"].type == FileType.FILE
    assert tree.inside[b"name"] == b"x"


def test_a_dangling_path_is_missing(tmp_path: Path) -> None:
    (tmp_path / "dangling").symlink_to("nowhere")
    assert plan_roots([os.fsencode(tmp_path / "dangling")]).missing == (os.fsencode(tmp_path / "dangling"),)


# -- rules


def make(root: Path, *paths: str) -> None:
    for path in paths:
        if path.endswith("/"):
            (root / path).mkdir(parents=True, exist_ok=True)
        else:
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).write_text("x")


def names_of(tree: Tree) -> set[str]:
    return set(tree.paths())


def test_patterns_are_relative_to_the_named_path(tmp_path: Path) -> None:
    make(
        tmp_path, "a.tmp", "keep", "x/a.tmp", "x/keep", ".cache/inside", "top", "x/top", "dir/inside/deep", "n\nl/a.tmp"
    )
    rules = rules_for(tmp_path, "*.tmp", ".cache/", "/top", "dir/**")
    assert names_of(capture(tmp_path, rules)) == {"keep", "x", "x/keep", "x/top", "dir", "n\nl"}


def test_the_last_match_wins_and_excluded_directories_are_not_entered(tmp_path: Path) -> None:
    make(tmp_path, "logs/a", "logs/keep", "a.log", "keep.log", "sub/a.log")
    rules = rules_for(tmp_path, "logs/", "!logs/keep", "*.log", "!keep.log")
    assert names_of(capture(tmp_path, rules)) == {"keep.log", "sub"}


def test_a_pattern_with_the_roots_own_name_means_that_place(tmp_path: Path) -> None:
    make(tmp_path, "r[1]/x/file", "r[1]/r[1]/x", "r[1]/y")
    root = tmp_path / "r[1]"
    assert names_of(capture(root, rules_for(root, f"{root}/x"))) == {"r[1]", "r[1]/x", "y"}
    escaped = str(root).replace("[", "\\[")
    assert names_of(capture(root, rules_for(root, f"{escaped}/x/"))) == {"r[1]", "r[1]/x", "y"}


def test_the_root_itself_is_never_excluded(tmp_path: Path) -> None:
    make(tmp_path, "root/file", "passwd")
    roots = plan_roots([os.fsencode(tmp_path / "root"), os.fsencode(tmp_path / "passwd")])
    everything = {"root", "root/file", "passwd"}
    for pattern in ("root", "passwd", str(tmp_path / "root"), str(tmp_path / "root/")):
        assert names_of(capture(tmp_path, Rules(roots, [pattern]))) == everything
    assert names_of(capture(tmp_path, Rules(roots, ["*"]))) == {"root", "passwd"}


def test_what_is_named_below_another_path_is_taken_though_excluded(tmp_path: Path) -> None:
    make(tmp_path, "b/c/file", "b/other", "d")
    roots = plan_roots([os.fsencode(tmp_path), os.fsencode(tmp_path / "b/c")])
    assert roots.paths == (os.fsencode(tmp_path),)
    assert names_of(capture(tmp_path, Rules(roots, ["b"]))) == {"b", "b/c", "b/c/file", "d"}


def test_cache_directories_are_kept_empty(tmp_path: Path) -> None:
    make(tmp_path, "cache/data", "fake/data")
    (tmp_path / "cache/CACHEDIR.TAG").write_bytes(b"Signature: 8a477f597d28d172789f06886806bc55\n# made by a test")
    (tmp_path / "fake/CACHEDIR.TAG").write_bytes(b"Signature: something else")
    rules = rules_for(tmp_path, exclude_caches=True)
    assert names_of(capture(tmp_path, rules)) == {"cache", "fake", "fake/CACHEDIR.TAG", "fake/data"}


def test_files_that_are_too_large_are_left_out(tmp_path: Path) -> None:
    (tmp_path / "large").write_bytes(b"x" * 101)
    (tmp_path / "small").write_bytes(b"x" * 100)
    rules = Rules(plan_roots([os.fsencode(tmp_path)]), larger_than_bytes=100)
    first = capture_once(tmp_path, rules=rules)
    assert [entry.name for entry in first.entries] == [b"small"]
    assert capture_once(tmp_path, completed(first), rules=rules).same
    assert not capture_once(tmp_path, completed(capture_once(tmp_path)), rules=rules).same


@pytest.mark.skipif(not os.path.ismount("/dev/shm"), reason="needs a mount point: /dev/shm is none here")
def test_mount_points_are_kept_as_empty_directories_unless_named() -> None:
    dev = Path("/dev")
    one = Rules(plan_roots([b"/dev"]), one_file_system=True)
    captured = capture_once(dev, rules=one)
    assert b"shm" in [entry.name for entry in captured.entries]
    assert b"shm" not in [captured.entries[index].name for index in captured.enter]
    again = capture_once(dev, completed(captured), rules=one)
    assert b"shm" not in [again.entries[index].name for index in again.enter]
    both = Rules(plan_roots([b"/dev", b"/dev/shm"]), one_file_system=True)
    captured = capture_once(dev, rules=both)
    assert b"shm" in [captured.entries[index].name for index in captured.enter]


def test_an_exclude_file_is_read_as_git_would(tmp_path: Path) -> None:
    (tmp_path / "patterns").write_bytes(b"\xef\xbb\xbf*.tmp\r\n# comment\n\ncaf\xe9\n")
    make(tmp_path, "a.tmp")
    os.close(os.open(os.fsencode(tmp_path) + b"/caf\xe9", os.O_CREAT))
    rules = rules_for(tmp_path, *read_patterns(str(tmp_path / "patterns")))
    assert names_of(capture(tmp_path, rules)) == {"patterns"}


def test_a_missing_exclude_file_is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot read the exclude file"):
        read_patterns(str(tmp_path / "absent"))


def test_everything_scanned_is_described_by_stat(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("xyz")
    os.utime(tmp_path / "file", ns=(5, -1_500_000_001))
    (entry,) = capture_once(tmp_path).entries
    found = (tmp_path / "file").stat()
    assert (entry.mode, entry.uid, entry.gid) == (stat.S_IMODE(found.st_mode), found.st_uid, found.st_gid)
    assert (entry.mtime_ns, entry.ctime_ns, entry.inode) == (-1_500_000_001, found.st_ctime_ns, found.st_ino)
    assert entry.user == OwnerNames().users[os.geteuid()]
    with opened(tmp_path) as fd:
        file = open_for_read(fd, b"file")
        assert complete(entry, file, content=b"c" * 32).content == b"c" * 32
        os.close(file)


def test_a_directory_is_captured_while_its_path_leads_elsewhere(tmp_path: Path) -> None:
    """Attributes too are asked through the descriptor: a rename meanwhile does not redirect us."""
    (tmp_path / "real").mkdir()
    (tmp_path / "real/link").symlink_to("first")
    where = os.fsencode(tmp_path / "real")
    with opened(tmp_path / "real") as fd:
        (tmp_path / "real").rename(tmp_path / "moved")
        (tmp_path / "real").mkdir()
        (tmp_path / "real/link").symlink_to("second")
        rules = Rules(plan_roots([where]))
        captured = capture_directory(fd, where, None, rules, Recent(FOREVER_NS), OwnerNames())
    assert [entry.link_target for entry in captured.entries] == [b"first"]
