"""Streams as cron and shell pipes have them."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from command_shell import Shell, shell_in


@pytest.fixture(scope="module")
def shell(tmp_path_factory) -> Shell:
    made = shell_in(tmp_path_factory.mktemp("streams"))
    targets = [word for site in "abc" for word in ("--target", f"{site}={made.directory / site}")]
    assert made("init", *targets).code == 0
    with (made.directory / "drtool.yaml").open("a") as config:
        config.write(
            'sources: {dump: {stream: {command: [sh, -c, "echo ${DRTOOL_PASSWORD:-none}"], name: a/dump.txt}}}\n'
        )
    return made


def test_a_pipe_into_stdin_and_back(shell):
    with subprocess.Popen(["echo", "hello"], stdout=subprocess.PIPE) as echo:
        ran = shell("backup", "--stdin", "--stdin-name", "greeting", "--json", stdin=echo.stdout.fileno())
    assert ran.code == 0, ran.err
    row = ran.document["snapshots"][0]
    assert (row["files"]["new"], row["processed_bytes"]) == (1, 6)
    assert shell("restore", f"{row['id']}:greeting", "--to", "out").code == 0
    assert (shell.directory / "out/greeting").read_text() == "hello\n"


def test_a_configured_stream_sees_no_password(shell):
    ran = shell("backup", "--source", "dump")
    assert (ran.code, ran.out.count("\n")) == (0, 1), ran.err
    assert shell("restore", "latest", "--source", "dump", "--to", "out2").code == 0
    assert (shell.directory / "out2/a/dump.txt").read_text() == "none\n"


def test_a_command_that_fails_says_why(shell):
    before = shell("snapshots", "--json").document
    ran = shell("backup", "--stdin-command", "--json", "--", "sh", "-c", "echo half; echo no such table >&2; exit 3")
    assert ran.code == 1
    assert "exit code 3: no such table" in ran.error["message"]
    assert shell("snapshots", "--json").document["snapshots"] == before["snapshots"]


@pytest.mark.parametrize(
    "words",
    [
        ["--stdin", "--stdin-name", "a/../b"],
        ["--stdin", "--stdin-name", "a//b"],
        ["--stdin-name", "x"],
        ["--stdin-command"],
        ["/etc", "--stdin-command", "--", "true"],
        ["--stdin", "/etc"],
        ["--stdin", "--source", "dump"],
        ["--stdin", "--exclude", "x"],
        ["--stdin", "--stdin-command", "--", "true"],
    ],
)
def test_what_makes_no_sense_is_a_usage_error(shell, words):
    assert shell("backup", *words).code == 2


def test_an_interrupted_backup_ends_the_command_and_leaves_no_snapshot(shell):
    before = shell("snapshots", "--json").document["snapshots"]
    noted = shell.directory / "pid"
    words = [sys.executable, "-m", "drtool", "backup", "--stdin-command", "--"]
    words += ["sh", "-c", f"echo half; sleep 300 & echo $! > {noted}; wait"]
    with subprocess.Popen(words, cwd=shell.directory, env={**os.environ, **shell.environ}) as child:
        ends_at = time.monotonic() + 60
        while not noted.exists() or not noted.read_text().strip():
            assert time.monotonic() < ends_at
            time.sleep(0.05)
        child.send_signal(signal.SIGTERM)
        assert child.wait(60) == 143
    stat = Path(f"/proc/{noted.read_text().strip()}/stat")
    assert not stat.exists() or ") Z" in stat.read_text(), "what the command had started is still at work"
    assert shell("snapshots", "--json").document["snapshots"] == before
