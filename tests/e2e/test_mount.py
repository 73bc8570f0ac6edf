"""A real mount: what is seen there is what was backed up, and it ends when it is unmounted or told to."""

import errno
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from bucket_sites import wait_for
from command_shell import shell_in
from three_sites import fill, noise, portrait

LINKS = [("big", "sub/also"), ("symlink", "sub/symlink"), ("fifo", "sub/fifo")]


def demand_fuse() -> None:
    """A skip, or in CI a failure, where nothing can be mounted."""
    if shutil.which("fusermount3") is None or not os.access("/dev/fuse", os.R_OK | os.W_OK):
        (pytest.fail if os.environ.get("CI") else pytest.skip)("FUSE is not here: apt-get install fuse3")


@pytest.fixture(scope="module")
def shell(tmp_path_factory):
    demand_fuse()
    shell = shell_in(tmp_path_factory.mktemp("mount"))
    assert shell("init", "--target", f"a={shell.directory / 'a'}").code == 0
    files = {"big": noise(5_000_000, 1), "sub/empty": b"", "sub/deep/x": b"x"} | {f"many/{n}": b"" for n in range(3000)}
    source = fill(shell.directory / "home", files)
    os.symlink("../big", source / "sub" / "link")
    os.setxattr(source / "big", "user.note", b"kept")
    os.symlink("target", source / "symlink")
    os.mkfifo(source / "fifo")
    for one, two in LINKS:
        os.link(source / one, source / two, follow_symlinks=False)
    assert shell("backup", str(source)).code == 0
    return shell


@pytest.fixture
def mounted(shell, tmp_path):
    """(the directory, the process)."""
    where = tmp_path / "then"
    where.mkdir()
    with subprocess.Popen(
        [sys.executable, "-m", "drtool", "mount", str(where)],
        cwd=shell.directory,
        env={**os.environ, **shell.environ},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as run:
        try:
            wait_for(lambda: os.path.ismount(where) or run.poll() is not None)
            assert run.poll() is None, run.stderr.read()
            yield where, run
        finally:
            subprocess.run(["fusermount3", "-u", "-z", where], check=False, capture_output=True)
            run.terminate()


def home(shell, where):
    return where / "latest" / str(shell.directory / "home")[1:]


def test_what_is_seen_is_what_was_backed_up(shell, mounted):
    where, _ = mounted
    there = home(shell, where)
    assert portrait(there) == portrait(shell.directory / "home")
    assert os.readlink(there / "sub" / "link") == "../big"
    assert os.getxattr(there / "big", "user.note") == b"kept"
    with (there / "big").open("rb") as file:
        file.seek(3_000_000)
        assert file.read(1000) == (shell.directory / "home" / "big").read_bytes()[3_000_000:3_001_000]
    assert len(os.listdir(there / "many")) == 3000
    (snapshot,) = os.listdir(where / "snapshots")
    assert os.listdir(where / "ids") == [snapshot[-8:]]


def test_nothing_can_be_written(shell, mounted):
    where, _ = mounted
    for act in (
        lambda: (where / "x").write_bytes(b""),
        (home(shell, where) / "big").unlink,
        lambda: (home(shell, where) / "big").open("r+b"),
        lambda: os.mkdir(where / "snapshots" / "x"),
    ):
        with pytest.raises(OSError, match="Read-only") as refused:
            act()
        assert refused.value.errno == errno.EROFS
    with pytest.raises(FileNotFoundError):
        os.stat(where / "nowhere")


def test_it_ends_when_it_is_unmounted(mounted):
    where, run = mounted
    subprocess.run(["fusermount3", "-u", where], check=True)
    assert run.wait(20) == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_unmounts_it(mounted, number):
    where, run = mounted
    run.send_signal(number)
    run.wait(20)
    assert not os.path.ismount(where)


@pytest.mark.thorough
def test_it_stays_small(shell, mounted):
    where, run = mounted
    for _ in range(3):
        portrait(home(shell, where))
    rows = Path(f"/proc/{run.pid}/status").read_text().splitlines()
    peak_kib = int(next(row for row in rows if row.startswith("VmHWM")).split()[1])
    assert peak_kib < 200 * 1024


def test_a_damaged_file_is_an_error_and_the_rest_is_there(shell, mounted):
    where, _ = mounted
    packs = sorted((shell.directory / "a" / "packs").rglob("*"), key=lambda path: path.stat().st_size * path.is_file())
    whole = packs[-1].read_bytes()
    packs[-1].write_bytes(bytes(len(whole)))
    try:
        with pytest.raises(OSError, match="Input/output") as refused:
            (home(shell, where) / "big").read_bytes()
        assert refused.value.errno == errno.EIO
        assert (home(shell, where) / "sub").is_dir()
    finally:
        packs[-1].write_bytes(whole)


@pytest.mark.parametrize("what", ["missing", "full"])
def test_only_an_empty_directory_is_mounted_on(shell, tmp_path, what):
    if what == "full":
        fill(tmp_path / "full", {"x": b""})
    done = shell("mount", str(tmp_path / what))
    assert done.code == 2, done.err


def test_names_of_one_file_are_hard_links(shell, mounted, tmp_path):
    where, _ = mounted
    there = home(shell, where)
    assert all((there / one).lstat().st_ino == (there / two).lstat().st_ino for one, two in LINKS)
    paths = [*there.iterdir(), *there.glob("sub/*")]
    assert len({path.lstat().st_ino for path in paths}) == len(paths) - len(LINKS)
    listed = {entry.name: entry.inode() for entry in os.scandir(there)}
    assert listed == {path.name: path.lstat().st_ino for path in there.iterdir()}
    (tmp_path / "copy").mkdir()
    names = [there / name for name in ("big", "symlink", "fifo", "sub")]
    subprocess.run(["cp", "-a", *names, tmp_path / "copy"], check=True)
    for one, two in LINKS:
        assert (tmp_path / "copy" / one).lstat().st_ino == (tmp_path / "copy" / two).lstat().st_ino
