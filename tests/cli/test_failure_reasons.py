"""The reasons that hooks receive for a failure, and that hooks run however a command ends."""

import os
import signal
import subprocess
import sys
import time

import pytest
from everyday_world import everyday_shell, log


@pytest.fixture(scope="module")
def shell(tmp_path_factory):
    return everyday_shell(tmp_path_factory.mktemp("reasons"))


def test_a_failure_hook_receives_source_and_cause(shell):
    text = (shell.directory / "drtool.yaml").read_text()
    config = shell.directory / "broken.yaml"
    dump = '{stream: {command: [sh, -c, "echo first; echo disk is dying >&2; exit 1"], name: d}}'
    config.write_text(text.replace("sources: {", f"sources: {{dump: {dump}, lacking: {{paths: [tree, nowhere]}}, "))
    assert shell("-c", str(config), "backup").code == 1
    (failed,) = (line for line in log(shell) if line.startswith("failed"))
    assert "source dump was not stored: sh failed with exit code 1: disk is dying" in failed
    assert "source lacking: " in failed
    assert "/nowhere: it does not exist" in failed
    assert shell("-c", str(config), "backup", "--source", "lacking").code == 3
    (failed,) = (line for line in log(shell) if line.startswith("failed"))
    assert failed.startswith("failed backup 3 source lacking: ")


def test_a_result_that_cannot_be_written_is_a_failure_for_hooks_too(shell):
    command = [sys.executable, "-m", "drtool", "backup"]
    with open("/dev/full", "wb") as full:
        ran = subprocess.run(
            command, cwd=shell.directory, env={**os.environ, **shell.environ}, stdout=full, stderr=-1, check=False
        )
    assert ran.returncode == 1
    _, after, failed = log(shell)
    assert after.startswith("after 1")
    assert "the result cannot be written to stdout: No space left on device" in failed


def test_a_lost_terminal_ends_a_backup_as_ctrl_c_does(shell):
    config = shell.directory / "slow.yaml"
    text = (shell.directory / "drtool.yaml").read_text()
    slow = '{stream: {command: [sh, -c, "touch begun; sleep 60"], name: d}}'
    config.write_text(text.replace("sources: {", f"sources: {{slow: {slow}, "))
    command = [sys.executable, "-m", "drtool", "-c", str(config), "backup", "--source", "slow"]
    running = subprocess.Popen(
        command,
        cwd=shell.directory,
        env={**os.environ, **shell.environ},
        stderr=-1,
        preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_DFL),  # noqa: PLW1509 - the tests may run under nohup
    )
    while not (shell.directory / "begun").exists():
        assert running.poll() is None
        time.sleep(0.02)
    running.send_signal(signal.SIGHUP)
    running.send_signal(signal.SIGHUP)
    running.communicate(timeout=60)
    assert running.returncode == 129
    before, after, failed = log(shell)
    assert (before, after) == ("before", "after 129")
    assert failed.startswith("failed backup 129 interrupted")
