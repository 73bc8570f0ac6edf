"""Streams of any length, chunked as they arrive. A failure on the way leaves no snapshot."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from three_sites import noise

from drtool.errors import DrtoolError, UsageError
from drtool.operations.backup import SourceJob
from drtool.sources.children import Output, kill_group, piped, started
from drtool.sources.configured import captured_source
from drtool.sources.port import virtual_path
from drtool.sources.stream import CommandStream, InputStream

MIB = 1024 * 1024
DAEMON = "setsid sh -c 'echo $$ >{0}/pid; exec sleep 60' {1} & until [ -s {0}/pid ]; do sleep 0.02; done"


def command(*argv, name="dump", **more):
    return SourceJob(name="s", captured=CommandStream(name, argv, **more))


def python(script, **more):
    return command(sys.executable, "-c", script, **more)


def stored(world, job, **request):
    with world.open() as repository:
        return world.run_jobs(repository, job, environ=dict(os.environ), **request).snapshots[0]


def fails(world, job):
    before = world.snapshots()
    with pytest.raises(DrtoolError) as caught:
        stored(world, job)
    assert world.snapshots() == before, "a source that failed left a snapshot"
    assert caught.value.exit_code == 1
    return caught.value


def test_the_output_of_a_command_is_restored(world, tmp_path):
    data = noise(9 * MIB + 12_345, 7)
    (tmp_path / "data").write_bytes(data)
    report = stored(world, command("cat", str(tmp_path / "data"), name="orders/dump.bin"))
    assert (report.files.new, report.processed_bytes) == (1, len(data))
    assert world.snapshots()[-1].paths == (b"/orders/dump.bin",)
    assert world.restore(tmp_path / "out").errors == []
    assert (tmp_path / "out/orders/dump.bin").read_bytes() == data


def test_the_same_output_stores_nothing_and_counts_as_unchanged(world, tmp_path):
    (tmp_path / "data").write_bytes(noise(6 * MIB, 8))
    job = command("cat", str(tmp_path / "data"), name="a/b/c")
    first = stored(world, job)
    again = stored(world, job)
    assert again.parent == first.id
    assert (again.files.new, again.files.changed, again.files.unmodified) == (0, 0, 1)
    assert (again.dirs.new, again.dirs.changed, again.dirs.unmodified) == (0, 0, 3)
    assert again.added_bytes == 0
    (tmp_path / "data").write_bytes(noise(6 * MIB, 8) + b"more")
    third = stored(world, job)
    assert (third.files.changed, third.files.unmodified) == (1, 0)
    assert third.added_bytes < 4 * MIB, "the data before the change is already stored"


@pytest.mark.parametrize("length", [1, 4 * MIB - 1, 4 * MIB, 4 * MIB + 1, 8 * MIB])
@pytest.mark.spread(4)
def test_lengths_around_the_shared_memory_pieces(world, tmp_path, length):
    script = f"import os; os.write(1, b'x'); b = bytes({length} - 1); os.sys.stdout.buffer.write(b)"
    assert stored(world, python(script)).processed_bytes == length
    assert world.restore(tmp_path / "out").errors == []
    assert (tmp_path / "out/dump").read_bytes() == b"x" + bytes(length - 1)


def test_a_command_that_dies_halfway_leaves_no_snapshot(world):
    script = "import os, sys; os.write(1, os.urandom(5_000_000)); sys.exit('the table orders is gone')"
    error = fails(world, python(script))
    assert "failed with exit code 1" in error.message
    assert "the table orders is gone" in error.message


def test_killed_and_missing_commands_leave_no_snapshot(world):
    assert "killed by signal 9" in fails(world, python("import os; print('half'); os.kill(os.getpid(), 9)")).message
    assert "there is no program drtool-no-such" in fails(world, command("drtool-no-such-program")).message


def test_an_empty_output_is_a_failure_unless_it_is_allowed(world, tmp_path):
    assert "printed nothing" in fails(world, command("true")).message
    assert stored(world, command("true", allow_empty=True)).files.new == 1
    assert world.restore(tmp_path / "out").errors == []
    assert (tmp_path / "out/dump").read_bytes() == b""


def test_long_stderr_output_neither_blocks_nor_is_shown(world):
    script = (
        "import sys; sys.stderr.write('warning\\n' * 100_000); print('data'); sys.stderr.write('more\\n' * 100_000)"
    )
    assert stored(world, python(script)).processed_bytes == 5


def test_an_open_stderr_does_not_outlast_the_command(world):
    script = (
        "import subprocess; subprocess.Popen(['sleep', '30'], stdout=subprocess.DEVNULL); print('data', flush=True)"
    )
    began = time.monotonic()
    assert stored(world, python(script)).processed_bytes == 5
    assert time.monotonic() - began < 20


def test_a_slow_stream_keeps_the_backup_going(world, monkeypatch):
    """Checkpoints are made while no data arrives, because a silent session could expire."""
    from drtool.operations.backup import checkpoints, run

    monkeypatch.setattr(checkpoints, "CHECKPOINT_S", 0.5)
    made = []
    real = run.WriterSession.checkpoint
    monkeypatch.setattr(run.WriterSession, "checkpoint", lambda self: made.append(1) or real(self))
    stored(world, python("import time; print('a', flush=True); time.sleep(2.5); print('b')"))
    assert made


def test_stdin_is_read_once_and_stored(world, tmp_path):
    data = noise(5 * MIB, 9)
    (tmp_path / "data").write_bytes(data)
    with subprocess.Popen(["cat", tmp_path / "data"], stdout=subprocess.PIPE) as writer:
        assert writer.stdout is not None
        report = stored(world, SourceJob(name="", captured=InputStream("in", writer.stdout.fileno())))
    assert report.processed_bytes == len(data)
    assert world.restore(tmp_path / "out").errors == []
    assert (tmp_path / "out/in").read_bytes() == data


def test_an_empty_stdin_is_a_failure(world):
    with open(os.devnull, "rb") as nothing:
        assert (
            "stdin was empty" in fails(world, SourceJob(name="", captured=InputStream("x", nothing.fileno()))).message
        )


def test_a_dry_run_names_the_program_and_starts_nothing(world, tmp_path):
    report = stored(world, command("touch", str(tmp_path / "started")), dry_run=True)
    assert report.id is None
    assert report.files.new == 1
    assert "/touch" in report.facts[0]
    assert not (tmp_path / "started").exists()
    with pytest.raises(DrtoolError, match="no program"):
        stored(world, command("drtool-no-such-program"), dry_run=True)


def test_paths_and_a_stream_can_be_one_snapshot(world, tmp_path):
    tree = tmp_path / "tree"
    tree.mkdir()
    (tree / "file").write_text("hello")
    job = SourceJob(name="both", paths=(os.fsencode(tree),), captured=CommandStream("0/facts", ["echo", "facts"]))
    first = stored(world, job)
    assert first.files.new == 2
    time.sleep(2.1)  # files younger than two seconds are read again
    again = stored(world, job)
    assert again.files.unmodified == 2
    assert world.restore(tmp_path / "out").errors == []
    assert (tmp_path / "out/0/facts").read_text() == "facts\n"
    assert (tmp_path / f"out{tree}/file").read_text() == "hello"


def test_a_captured_name_that_is_also_a_path_is_refused(world, tmp_path):
    (tmp_path / "file").write_text("x")
    name = f"{tmp_path.parts[1]}/other"
    job = SourceJob(name="", paths=(os.fsencode(tmp_path),), captured=CommandStream(name, ["echo", "x"]))
    assert "both a path" in fails(world, job).message


def test_an_interrupted_backup_ends_the_command(tmp_path):
    """In a process of its own, as for a real signal."""
    script = f"""
import sys, signal
from drtool.errors import Interrupted
from drtool.sources.children import piped
def stop(number, frame): raise Interrupted(number)
signal.signal(signal.SIGTERM, stop)
try:
    with piped(["sh", "-c", "sleep 300 & echo $! > {tmp_path}/pid; wait"], {{"PATH": "/usr/bin:/bin"}}) as output:
        while output.readinto(memoryview(bytearray(10))) is None: print("waiting", flush=True)
except Interrupted:
    sys.exit(7)
"""
    child = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE)
    assert child.stdout is not None
    child.stdout.readline()
    child.terminate()
    assert child.wait(20) == 7
    child.stdout.close()
    pid = int((tmp_path / "pid").read_text())
    deadline = time.monotonic() + 5
    stat = Path(f"/proc/{pid}/stat")
    while stat.exists() and ") Z" not in stat.read_text():
        assert time.monotonic() < deadline, "children of the command are still running"
        time.sleep(0.05)


@pytest.mark.parametrize("name", ["", "/", "a//b", "a/", "..", "a/../b", "./a", "x" * 256, "a/" * 2048 + "a", "a\0b"])
def test_names_that_no_file_can_have_are_refused(name):
    with pytest.raises(ValueError):
        virtual_path(name)


@pytest.mark.parametrize("name", ["a", "/a", "a/b.c", "ü", " ", "-"])
def test_names_with_or_without_a_slash(name):
    assert virtual_path(name) == b"/" + os.fsencode(name.removeprefix("/"))


def test_a_bad_name_in_the_configuration_is_a_usage_error():
    from drtool.config.schema import SourceConfig, StreamConfig

    with pytest.raises(UsageError, match=r"\.\."):
        captured_source(SourceConfig(stream=StreamConfig(command=("x",), name="../x")), "/")


def test_a_configured_source_of_empty_directories_is_a_failure(world, tmp_path):
    """An unmounted disk looks like this. A path that the user names on the command line is stored as it is."""
    (tmp_path / "mnt").mkdir()
    paths = (os.fsencode(tmp_path / "mnt"),)
    with world.open() as repository:
        (failure,) = world.run_jobs(repository, SourceJob(name="disk", paths=paths)).failed
        assert (failure.exit_code, "is empty (is something not mounted" in failure.message) == (1, True)
        assert world.snapshots() == []
        world.run_jobs(repository, SourceJob(name="", paths=paths))
        (tmp_path / "mnt/file").touch()
        assert world.run_jobs(repository, SourceJob(name="disk", paths=paths)).snapshots[0].files.new == 1


def lives(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


@pytest.mark.parametrize("holds", ["", "2>/dev/null", ">/dev/null", ">/dev/null 2>&1"])
def test_a_daemon_of_the_command_ends_with_it_although_it_holds_a_pipe(tmp_path, holds):
    script = f"{DAEMON.format(tmp_path, holds)}; printf data"
    buffer, data = memoryview(bytearray(100)), b""
    with piped(["sh", "-c", script], os.environ) as output:
        while (got := output.readinto(buffer)) != 0:
            data += buffer[: got or 0]
    assert data == b"data"
    assert not lives((tmp_path / "pid").read_text().strip())


def test_an_output_ends_with_its_program_though_the_pipe_stays_open(tmp_path):
    child = started(["sh", "-c", f"{DAEMON.format(tmp_path, '')}; head -c 50000 /dev/zero"], os.environ)
    try:
        output, buffer, size_bytes = Output(child), memoryview(bytearray(7000)), 0
        while (got := output.readinto(buffer)) != 0:
            size_bytes += got or 0
        assert (size_bytes, output.end()) == (50_000, 0)
    finally:
        kill_group(child)
        os.kill(int((tmp_path / "pid").read_text()), 9)
