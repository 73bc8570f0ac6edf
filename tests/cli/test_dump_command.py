"""`dump`: the output equals the stored content, and incomplete output never looks complete."""

import io
import os
import subprocess
import sys
import tarfile
import zipfile

import pytest
from command_shell import shell_in
from three_sites import fill, noise

BIG = noise(6_000_000, 1)


@pytest.fixture(scope="module")
def shell(tmp_path_factory):
    """A snapshot with difficult entries for archives, in a repository of one site."""
    shell = shell_in(tmp_path_factory.mktemp("dump"))
    assert shell("init", "--target", f"a={shell.directory / 'a'}").code == 0
    source = fill(shell.directory / "home", {"big": BIG, "empty": b"", "sub/ä ö": b"umlauts", "two": b"twice"})
    os.link(source / "two", source / "sub" / "second")
    os.symlink("big", source / "link")
    os.utime(source / "two", ns=(1, 1_600_000_000_123_456_789))
    os.chmod(source / "empty", 0o640)
    os.mkfifo(source / "pipe")
    for name in ("link", "pipe"):
        os.link(source / name, source / "sub" / name, follow_symlinks=False)
    assert shell("backup", str(source)).code == 0
    return shell


def dump(shell, *words):
    """Return exit code, stdout and stderr."""
    done = subprocess.run(
        [sys.executable, "-m", "drtool", "dump", *words],
        cwd=shell.directory,
        env={**os.environ, **shell.environ},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
    )
    return done.returncode, done.stdout, done.stderr.decode()


def home(shell, name=""):
    return f"latest:{shell.directory / 'home'}{name}"


def test_a_file_comes_out_as_it_went_in(shell):
    assert dump(shell, home(shell, "/big")) == (0, BIG, "")
    assert dump(shell, home(shell, "/empty")) == (0, b"", "")


@pytest.mark.parametrize(
    ("place", "told"),
    [("/nothing", "is not in snapshot"), ("/sub", "is a directory"), ("/link", "is symlink"), ("", "is a directory")],
)
@pytest.mark.spread(4)
def test_anything_but_a_file_gives_nothing_on_stdout(shell, place, told):
    code, out, err = dump(shell, home(shell, place))
    assert (code, out) == (1, b"")
    assert told in err


def test_a_tar_holds_everything(shell, tmp_path):
    code, out, _ = dump(shell, home(shell), "--archive", "tar")
    assert code == 0
    with tarfile.open(fileobj=io.BytesIO(out)) as archive:
        names = archive.getnames()
        assert sorted(names) == [
            *("big", "empty", "link", "pipe"),
            *("sub", "sub/link", "sub/pipe", "sub/second", "sub/ä ö", "two"),
        ]
        assert archive.extractfile("big").read() == BIG
        assert archive.getmember("empty").mode == 0o640
        assert archive.getmember("link").linkname == "big"
        assert archive.getmember("pipe").isfifo()
        linked = [member for member in archive if member.islnk()]
        assert [(member.name, member.linkname) for member in linked] == [
            *(("sub/link", "link"), ("sub/pipe", "pipe"), ("two", "sub/second")),
        ]
        assert archive.getmember("sub/second").pax_headers["mtime"] == "1600000000.123456789"
    done = subprocess.run(["tar", "-xf", "-", "-C", tmp_path], input=out, check=True, capture_output=True)
    assert done.stderr == b""
    for one, other in (("two", "sub/second"), ("link", "sub/link"), ("pipe", "sub/pipe")):
        assert (tmp_path / one).lstat().st_ino == (tmp_path / other).lstat().st_ino


def test_a_zip_holds_contents_and_modes(shell):
    code, out, err = dump(shell, home(shell), "--archive", "zip")
    assert (code, "/home/pipe: left out: a zip archive cannot hold a fifo, but a tar archive can" in err) == (3, True)
    with zipfile.ZipFile(io.BytesIO(out)) as archive:
        assert archive.testzip() is None
        assert archive.read("big") == BIG
        assert archive.read("sub/ä ö") == b"umlauts"
        assert archive.getinfo("empty").external_attr >> 16 & 0o777 == 0o640
        assert archive.read("link") == b"big"


def test_a_whole_snapshot_has_relative_names(shell):
    _, out, _ = dump(shell, "latest", "--archive", "tar")
    with tarfile.open(fileobj=io.BytesIO(out)) as archive:
        assert str(shell.directory / "home" / "big")[1:] in archive.getnames()
        assert not any(name.startswith("/") or ".." in name.split("/") for name in archive.getnames())


def test_into_a_file_there_is_a_document(shell, tmp_path):
    done = shell("dump", home(shell, "/big"), "--to", str(tmp_path / "big"), "--json")
    assert (done.code, done.document["files"], done.document["bytes"]) == (0, 1, len(BIG))
    assert (tmp_path / "big").read_bytes() == BIG
    assert (tmp_path / "big").stat().st_mode & 0o777 == 0o600
    again = shell("dump", home(shell, "/big"), "--to", str(tmp_path / "big"))
    assert (again.code, "already exists" in again.err) == (2, True)
    assert shell("dump", home(shell, "/big"), "--json").code == 2


def test_a_reader_that_leaves_early_gets_no_message_and_no_success(shell):
    with subprocess.Popen(
        [sys.executable, "-m", "drtool", "dump", home(shell), "--archive", "tar"],
        cwd=shell.directory,
        env={**os.environ, **shell.environ},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as run:
        run.stdout.read(100)
        run.stdout.close()
        assert run.stderr.read() == b""
    assert run.returncode == 141


@pytest.mark.parametrize("words", [["/big"], ["", "--archive", "tar"], ["", "--archive", "zip"]], ids=str)
@pytest.mark.spread(3)
def test_a_full_disk_behind_stdout_is_one_sentence_and_a_failure(shell, words):
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            [sys.executable, "-m", "drtool", "dump", home(shell, words[0]), *words[1:]],
            cwd=shell.directory,
            env={**os.environ, **shell.environ, "PYTHONUNBUFFERED": "1"},
            stdout=full,
            stderr=subprocess.PIPE,
            check=False,
        )
    told = [line for line in done.stderr.decode().splitlines() if "hint:" not in line and "left out" not in line]
    assert (done.returncode, len(told), "stdout cannot be written: No space left" in told[0]) == (1, 1, True)


def test_a_slow_reader_of_a_non_blocking_pipe_gets_every_byte(shell):
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    with subprocess.Popen(
        [sys.executable, "-m", "drtool", "dump", home(shell, "/big")],
        cwd=shell.directory,
        env={**os.environ, **shell.environ, "PYTHONUNBUFFERED": "1"},
        stdout=writing,
    ) as run:
        os.close(writing)
        with open(reading, "rb", buffering=0) as pipe:
            pieces = [pipe.read(1000)]
            while piece := pipe.read(65_536):
                pieces.append(piece)
    assert run.returncode == 0
    assert b"".join(pieces) == BIG


@pytest.mark.parametrize("kind", ["tar", "zip", None])
@pytest.mark.spread(3)
def test_damaged_content_never_looks_complete(shell, kind, tmp_path):
    """The largest pack loses its middle. The file cannot be read, and no reader accepts the output as an archive."""
    packs = sorted((shell.directory / "a" / "packs").rglob("*"), key=lambda path: path.stat().st_size * path.is_file())
    whole = packs[-1].read_bytes()
    packs[-1].write_bytes(whole[:1_000_000] + bytes(len(whole) - 1_000_000))
    try:
        words = [home(shell), "--archive", kind] if kind else [home(shell, "/big")]
        code, out, err = dump(shell, *words)
        done = shell("dump", *words, "--to", str(tmp_path / "out"))
    finally:
        packs[-1].write_bytes(whole)
    assert (code, done.code) == (1, 1)
    assert "no good copy" in err
    assert os.listdir(tmp_path) == []
    if kind == "tar":
        assert subprocess.run(["tar", "-tf", "-"], input=out, capture_output=True, check=False).returncode != 0
    elif kind == "zip":
        with pytest.raises(zipfile.BadZipFile):
            zipfile.ZipFile(io.BytesIO(out))
