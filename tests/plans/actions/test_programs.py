"""Programs of plans: the call always returns, and no process is left."""

import os
import signal
import sys
import threading
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from thoroughness import sample

from drtool.errors import DrtoolError
from drtool.plans.actions import programs
from drtool.plans.actions.programs import ERRORS_BYTES, run_program
from drtool.sources import tethered


def run(*argv, within_s=20.0, **more):
    return run_program(argv, ends_at=time.monotonic() + within_s, **more)


def sh(line, **more):
    return run("/bin/sh", "-c", line, **more)


def python(text, **more):
    return run(sys.executable, "-I", "-S", "-c", text, **more)


def alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except FileNotFoundError:
        return False


@pytest.fixture
def impatient(monkeypatch):
    monkeypatch.setattr(tethered, "GRACE_S", 0.3)


def test_the_output_of_a_program_is_kept():
    result = sh("printf out; printf err >&2; exit 3")
    assert (result.exit_code, result.stdout, result.stderr) == (3, b"out", "err")
    assert result.ended_by == "itself"
    assert not result.truncated


def test_a_program_that_is_not_there_is_named():
    with pytest.raises(DrtoolError, match="there is no program no-such-program") as caught:
        run("no-such-program")
    assert "install it" in caught.value.hint


def test_a_missing_directory_is_not_reported_as_a_missing_program(tmp_path):
    with pytest.raises(DrtoolError, match=r"there is no directory .*/gone"):
        run("/bin/true", cwd=tmp_path / "gone")


def test_a_file_that_is_not_a_program_is_reported(tmp_path):
    (tmp_path / "data").write_text("no program")
    with pytest.raises(DrtoolError, match="cannot be started"):
        run(str(tmp_path / "data"))


def test_a_missing_user_is_reported():
    with pytest.raises(DrtoolError, match="cannot be started"):
        run("/bin/true", user="no-such-user-here")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can run programs as others")
def test_another_user_has_none_of_our_groups():
    assert run("id", "-u", user="nobody").stdout.strip() == b"65534"
    assert b"65534" in run("id", "-G", user="nobody").stdout
    assert b"0" not in run("id", "-G", user="nobody").stdout.split()


def test_full_pipes_do_not_block():
    text = "import sys; sys.stdout.write('o' * 3_000_000); sys.stderr.write('e' * 3_000_000)"
    result = python(text)
    assert len(result.stdout) == 3_000_000
    assert result.stderr == "e" * ERRORS_BYTES


def test_output_beyond_the_limit_is_dropped_and_marked(monkeypatch):
    monkeypatch.setattr(programs, "KEPT_BYTES", 100_000)
    result = python("import sys; sys.stdout.write('x' * 1_000_000)")
    assert result.stdout == b"x" * 100_000
    assert result.truncated
    assert result.exit_code == 0


@settings(max_examples=sample(12), deadline=None)
@given(st.binary(max_size=300_000))
def test_what_goes_in_comes_out(data):
    result = run("cat", stdin=data)
    assert result.stdout == data


def test_more_input_than_a_pipe_holds_for_a_program_that_reads_none():
    assert run("true", stdin=b"x" * 2_000_000).exit_code == 0
    assert sh("exec 0<&-; sleep 0.3; exit 4", stdin=b"x" * 2_000_000).exit_code == 4


def test_a_program_that_closed_its_output_is_waited_for():
    result = sh("exec 1>&- 2>&-; sleep 0.5; exit 5")
    assert result.exit_code == 5
    assert result.seconds >= 0.5


def test_a_timeout_ends_a_program_and_its_children(tmp_path):
    result = sh(f"sleep 60 & echo $! > {tmp_path}/pid; echo before; wait", within_s=0.5)
    assert result.ended_by == "timeout"
    assert result.exit_code == -signal.SIGTERM
    assert result.stdout == b"before\n"
    assert not alive((tmp_path / "pid").read_text().strip())


def test_a_program_that_ignores_sigterm_is_killed(impatient, tmp_path):
    line = f"trap '' TERM; echo $$ > {tmp_path}/pid; while :; do sleep 0.05; done"
    result = sh(line, within_s=0.4)
    assert (result.ended_by, result.exit_code) == ("timeout", -signal.SIGKILL)
    assert not alive((tmp_path / "pid").read_text().strip())


def test_a_cancelled_run_ends_it_soon():
    cancelled = threading.Event()
    threading.Timer(0.3, cancelled.set).start()
    began = time.monotonic()
    result = sh("sleep 60", cancelled=cancelled)
    assert result.ended_by == "cancelled"
    assert time.monotonic() - began < 30


def test_processes_left_in_the_group_are_ended_too(tmp_path):
    began = time.monotonic()
    result = sh(f"sleep 60 & echo $! > {tmp_path}/pid; exit 0")
    assert (result.exit_code, result.ended_by) == (0, "itself")
    assert not alive((tmp_path / "pid").read_text().strip())
    assert time.monotonic() - began < 30, "a zombie that is never reaped is not waited for"


def test_a_child_that_goes_on_writing_does_not_keep_the_call(impatient):
    began = time.monotonic()
    result = sh("echo mine; yes & exit 7")
    assert result.exit_code == 7
    assert result.stdout.startswith(b"mine\n")
    assert time.monotonic() - began < 30


def test_output_written_just_before_the_end_is_read():
    for _ in range(10):
        assert len(python("import os; os.write(1, b'x' * 60_000); os._exit(0)").stdout) == 60_000


def test_the_environment_is_what_is_given():
    assert run("/usr/bin/env", env={"A": "b"}).stdout == b"A=b\n"


def test_the_signal_that_ended_it_is_reported():
    assert sh("kill -KILL $$").exit_code == -signal.SIGKILL


def test_no_descriptor_of_ours_is_left_or_handed_on(tmp_path):
    before = len(os.listdir("/proc/self/fd"))
    with open(tmp_path / "secret", "w") as file:
        os.set_inheritable(file.fileno(), True)
        listed = run("ls", "-l", "/proc/self/fd").stdout
    assert b"secret" not in listed
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_process_that_leaves_the_group_is_ended_too(impatient, tmp_path):
    """`timeout` moves itself to a group of its own."""
    line = f"timeout 60 sh -c 'echo $$ > {tmp_path}/pid; while :; do sleep 0.05; done' & wait"
    assert sh(line, within_s=0.5).ended_by == "timeout"
    assert not alive((tmp_path / "pid").read_text().strip())


def test_a_program_that_kills_its_own_group_is_reported_as_killed():
    assert sh("kill -TERM 0; sleep 5").exit_code == -signal.SIGTERM


def test_killing_the_tether_leaves_no_process(tmp_path):
    result = sh(f"echo $$ > {tmp_path}/pid; sleep 0.5; kill -KILL $PPID; sleep 60")
    assert result.exit_code == -signal.SIGKILL
    assert not alive((tmp_path / "pid").read_text().strip())


def test_ignored_signals_are_reset_for_the_program():
    assert sh("kill -PIPE $$; echo survived").exit_code == -signal.SIGPIPE
