"""Scratch spaces: private, with enough room, listed before they exist, and removed with any contents, after any outcome."""

import ctypes
import os
import signal
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from killed_midway import every_step
from msgspec.structs import replace
from three_sites import everything, in_a_child

import drtool
from drtool.errors import DrtoolError, Interrupted, Refused, UsageError
from drtool.plans.scratch import list_scratch, make_scratch, remove_scratch, remove_tree, take_over
from drtool.plans.scratch import space as space_module
from drtool.plans.scratch.registry import register
from drtool.plans.scratch.space import NoRoom, Room, choose_root, roots_of

DYING = """
import os, signal, sys
from pathlib import Path
from drtool.plans.scratch import make_scratch
state = Path(sys.argv[1])
with make_scratch(state, "r1", size_bytes=1, inodes=1, roots=(Path(sys.argv[2]),)) as scratch:
    (scratch.path / "below").mkdir()
    (scratch.path / "below/file").write_text("restored")
    print(scratch.path, flush=True)
    if sys.argv[3] == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    sys.stdin.read()
"""


@pytest.fixture
def state(tmp_path):
    return tmp_path / "state"


def make(state, run="r1", **more):
    values = {"size_bytes": 1000, "inodes": 10, "roots": (state / "scratch",)}
    return make_scratch(state, run, **{**values, **more})


def other_process(state, root, what):
    words = [sys.executable, "-c", DYING, str(state), str(root), what]
    environ = {"PYTHONPATH": str(Path(drtool.__file__).parent.parent)}
    return subprocess.Popen(words, env=environ, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def test_it_is_private_empty_listed_and_gone_afterwards(state):
    with make(state) as scratch:
        assert list(scratch.path.iterdir()) == []
        assert stat.S_IMODE(scratch.path.stat().st_mode) == 0o700
        assert stat.S_IMODE((state / "scratch").stat().st_mode) == 0o700
        assert scratch.path.parent == (state / "scratch").resolve()
        (row,) = list_scratch(state).spaces
        assert (row.run, row.process, row.present, row.asked_bytes, row.pid) == ("r1", "alive", True, 1000, os.getpid())
        assert row.path == str(scratch.path)
        (record,) = (state / "scratch").glob("*.json")
        assert stat.S_IMODE(record.stat().st_mode) == 0o600
        (scratch.path / "file").write_text("restored")
    assert (scratch.removed, scratch.left) == (True, ())
    assert not scratch.path.exists()
    assert list_scratch(state).spaces == ()
    assert not (state / "scratch").exists()


def test_one_run_may_have_several(state):
    with make(state) as one, make(state) as other:
        assert one.path != other.path
        assert len(list_scratch(state).spaces) == 2
    assert list_scratch(state).spaces == ()


def fail_after(action):
    action()
    raise RuntimeError


def test_an_exception_or_a_signal_removes_it(state):
    with pytest.raises(RuntimeError), make(state) as scratch:
        fail_after((scratch.path / "file").touch)
    assert not scratch.path.exists()

    def interrupt(number, _frame):
        raise Interrupted(number)

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGTERM)).start()
        with pytest.raises(Interrupted), make(state) as scratch:
            threading.Event().wait(10)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert (scratch.removed, scratch.path.exists()) == (True, False)


def test_a_fork_that_leaves_the_block_removes_nothing(state):
    manager = make(state)
    with manager as scratch:
        assert in_a_child(lambda: manager.__exit__(None, None, None)) == 0
        assert scratch.path.exists()
    assert not scratch.path.exists()


def test_the_space_of_a_killed_process_is_listed_and_can_be_removed(state, tmp_path):
    with other_process(state, tmp_path / "elsewhere", "die") as process:
        path = Path(process.stdout.readline().strip())
        process.wait()
    (row,) = list_scratch(state).spaces
    assert (row.process, row.present, row.path) == ("gone", True, str(path))
    assert [each.path for each in remove_scratch(state, "r1", dry_run=True).removed] == [str(path)]
    assert (path / "below/file").exists()
    done = remove_scratch(state, "r1")
    assert ([each.path for each in done.removed], done.left) == ([str(path)], ())
    assert not path.exists()
    assert list_scratch(state).spaces == ()


def test_the_space_of_a_running_process_is_removed_only_by_force(state, tmp_path):
    with other_process(state, tmp_path, "wait") as process:
        path = Path(process.stdout.readline().strip())
        with pytest.raises(Refused, match=f"process {process.pid} of run r1 is running"):
            remove_scratch(state, "r1")
        with pytest.raises(Refused):
            remove_scratch(state, "r1", dry_run=True)
        assert path.exists()
        remove_scratch(state, "r1", force=True)
        assert not path.exists()
        process.kill()


def test_a_resumed_run_takes_its_space_over(state):
    with other_process(state, state / "scratch", "die") as process:
        path = Path(process.stdout.readline().strip())
        process.wait()
    (record,) = (each for each in space_records(state))
    with take_over(state, record) as scratch:
        assert (scratch.path, (path / "below/file").read_text()) == (path, "restored")
        assert list_scratch(state).spaces[0].process == "alive"
        with pytest.raises(Refused, match="may still be in use"):
            take_over(state, scratch.record).__enter__()
    assert not path.exists()


def space_records(state):
    from drtool.plans.scratch.registry import records

    return records(state)[0]


def test_a_run_without_a_space_removes_nothing(state):
    with pytest.raises(DrtoolError, match="there is no scratch space of run r9"):
        remove_scratch(state, "r9")


@pytest.mark.parametrize("run", ["", "..", "a/b", ".hidden", "-x", "a b", "x" * 101, "r.1"])
def test_a_run_that_could_lead_elsewhere_is_refused(run, state):
    with pytest.raises(UsageError, match="not a run id"):
        make(state, run).__enter__()
    with pytest.raises(UsageError, match="not a run id"):
        remove_scratch(state, run)


@given(
    free=st.integers(0, 10_000),
    size=st.integers(0, 10_000),
    inodes=st.none() | st.integers(0, 100),
    asked=st.integers(0, 100),
)
def test_a_tenth_more_must_be_free(free, size, inodes, asked):
    lacks = Room(free_bytes=free, inodes=inodes).lacks(size, asked)
    assert (lacks == "") == (free * 10 >= size * 11 and (inodes is None or inodes * 10 >= asked * 11))


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"size_bytes": 1 << 60}, "bytes are needed (a tenth more than 1152921504606846976)"),
        ({"inodes": 1 << 60}, "inodes"),
    ],
)
def test_too_little_room_is_refused_before_anything_is_made(asked, words, state):
    with pytest.raises(NoRoom) as raised:
        make(state, **asked).__enter__()
    if "inodes" in asked and "inodes" not in raised.value.message:
        pytest.skip("this file system does not count inodes")
    assert words in raised.value.message
    assert not state.exists()


def test_the_root_with_the_most_room_and_enough_inodes_is_chosen(tmp_path, monkeypatch):
    rooms = {
        "few": Room(free_bytes=10, inodes=None),
        "many": Room(free_bytes=1000, inodes=5),
        "some": Room(free_bytes=500, inodes=None),
    }
    monkeypatch.setattr(space_module, "room_at", lambda root: rooms[root.name])
    roots = [tmp_path / name for name in rooms]
    assert choose_root(roots, 5, 2).name == "many"
    assert choose_root(roots, 400, 50).name == "some"
    with pytest.raises(NoRoom, match=r"at .*many: 1102 bytes are needed"):
        choose_root(roots, 1001, 1)
    assert roots_of(tmp_path, None) == (tmp_path / "scratch",)
    assert roots_of(tmp_path, Path("/var/tmp")) == (tmp_path / "scratch", Path("/var/tmp"))


def test_a_root_where_others_could_replace_ours_is_refused(state, tmp_path):
    tmp_path.chmod(0o777)
    with pytest.raises(UsageError, match="any user may replace"):
        make(state, roots=(tmp_path,)).__enter__()
    tmp_path.chmod(0o1777)
    with make(state, roots=(tmp_path,)) as scratch:
        assert scratch.path.parent == tmp_path.resolve()


WRONG = {
    "path": lambda record, outside: replace(record, path=str(outside)),
    "path with dots": lambda record, outside: replace(record, path=f"{outside}/x/../drtool-{record.name}"),
    "relative": lambda record, outside: replace(record, path=f"drtool-{record.name}"),
    "run": lambda record, outside: replace(record, run="r2"),
}


@pytest.mark.parametrize("change", WRONG.values(), ids=WRONG)
def test_no_record_leads_a_removal_elsewhere(change, state, tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "kept").touch()
    with make(state) as scratch:
        register(state, change(scratch.record, outside))
        (bad, space) = list_scratch(state).unreadable
        assert (bad.path.endswith(".json"), space.reason) == (True, "it has no record")
        with pytest.raises(Refused, match="without a readable record"):
            remove_scratch(state, "r1")
        assert remove_scratch(state, "r1", force=True).left == ()
        assert not scratch.path.exists()
    assert (outside / "kept").exists()


def test_a_link_in_its_place_is_no_space(state, tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "kept").touch()
    with make(state) as scratch:
        scratch.path.rmdir()
        scratch.path.symlink_to(outside)
    assert (scratch.removed, [each.reason for each in scratch.left]) == (False, ["it is not a directory"])
    assert (outside / "kept").exists()
    assert list_scratch(state).spaces[0].present


def test_links_are_removed_and_not_followed(tmp_path):
    outside = tmp_path / "outside"
    (outside / "deep").mkdir(parents=True)
    (outside / "deep/kept").write_text("kept")
    os.link(outside / "deep/kept", tmp_path / "linked")
    before = everything(outside)
    top = tmp_path / "top"
    (top / "a").mkdir(parents=True)
    (top / "a/directory").symlink_to(outside)
    (top / "a/up").symlink_to("../..")
    (top / "file").symlink_to(outside / "deep/kept")
    (top / "dangling").symlink_to("nowhere")
    os.mkfifo(top / "pipe")
    assert remove_tree(top) == ()
    assert not top.exists()
    assert everything(outside) == before


def test_read_only_and_locked_directories_are_removed(tmp_path):
    top = tmp_path / "top"
    for mode in (0o000, 0o100, 0o400, 0o500, 0o555):
        (top / f"{mode:o}/below").mkdir(parents=True)
        (top / f"{mode:o}/below/file").touch()
        (top / f"{mode:o}/below/file").chmod(0o400)
        (top / f"{mode:o}/below").chmod(mode)
        (top / f"{mode:o}").chmod(mode)
    top.chmod(0o555)
    if os.getuid() == 0:  # root is never refused, but an ordinary user is
        tmp_path.chmod(0o777)
        for path in (tmp_path, *tmp_path.parents):
            if not path.stat().st_mode & 0o001:  # the directories of pytest are private to its user
                path.chmod(path.stat().st_mode | 0o055)
        for path, _, files in os.walk(top, topdown=False):
            for name in files:
                os.chown(os.path.join(path, name), 4321, 4321)
            os.chown(path, 4321, 4321)

        def remove():
            assert remove_tree(top) == ()

        assert in_a_child(remove, uid=4321) == 0
    else:
        assert remove_tree(top) == ()
    assert not top.exists()


def test_a_tree_deeper_than_any_path_or_stack_is_removed(tmp_path):
    top = tmp_path / "top"
    top.mkdir()
    here = os.open(top, os.O_RDONLY)
    for _ in range(3000):
        os.mkdir("d" * 20, dir_fd=here)
        below = os.open("d" * 20, os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = below
    os.close(here)
    descriptors = len(os.listdir("/proc/self/fd"))
    assert remove_tree(top) == ()
    assert not top.exists()
    assert (
        len(os.listdir("/proc/self/fd")) <= descriptors
    )  # fewer, because leftovers of earlier tests may be collected meanwhile


def test_names_that_are_not_text_are_removed(tmp_path):
    top = tmp_path / "top"
    top.mkdir()
    for name in (b"caf\xe9", b"a\nb", b"-rf", b" ", b"x" * 255):
        os.mkdir(os.fsencode(top) + b"/" + name)
        with open(os.fsencode(top) + b"/" + name + b"/" + name, "wb"):
            pass
    assert remove_tree(top) == ()
    assert not top.exists()


def immutable(path):
    return subprocess.run(["chattr", "+i", path], capture_output=True, check=False).returncode == 0


def test_immutable_files_are_named_and_the_rest_is_removed(tmp_path):
    top = tmp_path / "top"
    (top / "a/b").mkdir(parents=True)
    for name in ("a/b/fixed", "a/b/loose", "a/loose", "loose"):
        (top / name).touch()
    if not immutable(top / "a/b/fixed"):
        pytest.skip("nothing can be made immutable here")
    try:
        (left,) = remove_tree(top)
        assert (left.path, "immutable" in left.reason) == (str(top / "a/b/fixed"), True)
        assert [str(path.relative_to(top)) for path in sorted(top.rglob("*"))] == ["a", "a/b", "a/b/fixed"]
    finally:
        subprocess.run(["chattr", "-i", top / "a/b/fixed"], check=True)
    assert remove_tree(top) == ()


def test_an_immutable_directory_is_named_once(tmp_path):
    top = tmp_path / "top"
    (top / "fixed").mkdir(parents=True)
    (top / "fixed/file").touch()
    if not immutable(top / "fixed"):
        pytest.skip("nothing can be made immutable here")
    try:
        assert [left.path for left in remove_tree(top)] == [str(top / "fixed/file")]
    finally:
        subprocess.run(["chattr", "-i", top / "fixed"], check=True)


def mount(source, target):
    """Make a bind mount in a mount namespace of this process."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mount(os.fsencode(source), os.fsencode(target), None, 4096, None):
        raise OSError(ctypes.get_errno(), "mount")


def private_mounts():
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(0x00020000) or libc.mount(b"none", b"/", None, 0x4000 | 0x40000, None):  # private from here on
        raise OSError(ctypes.get_errno(), "unshare")


@pytest.mark.skipif(os.getuid() != 0, reason="needs to mount")
def test_no_mount_is_crossed_not_even_of_the_same_file_system(tmp_path):
    outside = tmp_path / "outside"
    (outside / "deep").mkdir(parents=True)
    (outside / "deep/kept").write_text("kept")
    top = tmp_path / "top"
    (top / "a/mounted").mkdir(parents=True)
    (top / "a/loose").touch()
    (top / "a/file").touch()
    before = everything(outside)

    def remove():
        try:
            private_mounts()
            mount(outside, top / "a/mounted")
            mount(outside / "deep/kept", top / "a/file")
        except OSError:
            os._exit(77)
        assert sorted((left.path, left.reason) for left in remove_tree(top)) == [
            (str(top / "a/file"), "something is mounted there"),
            (str(top / "a/mounted"), "something is mounted there"),
        ]
        assert sorted(os.listdir(top / "a")) == ["file", "mounted"]

    code = in_a_child(remove)
    if code == 77:
        pytest.skip("nothing can be mounted here")
    assert code == 0
    assert everything(outside) == before


def test_a_missing_directory_counts_as_removed(tmp_path):
    assert remove_tree(tmp_path / "none") == ()
    assert remove_tree(tmp_path / "no/such/parent") == ()
    (tmp_path / "file").touch()
    assert [left.reason for left in remove_tree(tmp_path / "file")] == ["it is not a directory"]
    assert (tmp_path / "file").exists()


def test_a_directory_moved_during_the_removal_stops_it(tmp_path, monkeypatch):
    top, outside = tmp_path / "top", tmp_path / "outside"
    (top / "a/b/c").mkdir(parents=True)
    outside.mkdir()
    (outside / "kept").touch()
    plain = os.rmdir

    def rmdir(name, **more):
        if name == "c":
            (top / "a/b").rename(outside / "b")
        plain(name, **more)

    monkeypatch.setattr(os, "rmdir", rmdir)
    (left,) = remove_tree(top)
    assert "its parent was moved" in left.reason
    assert (outside / "kept").exists()


@pytest.mark.sampled
def test_after_a_kill_at_any_step_every_space_is_listed(state):
    def run():
        with make(state) as scratch:
            (scratch.path / "below").mkdir()
            (scratch.path / "below/file").write_text("restored")

    for _step in every_step(run):
        found = list_scratch(state)
        assert found.unreadable == ()
        if found.spaces:
            assert remove_scratch(state, "r1").left == ()
        assert not [path for path in (state / "scratch").glob("*") if not path.name.startswith(".tmp-")]
        assert list_scratch(state).spaces == ()
