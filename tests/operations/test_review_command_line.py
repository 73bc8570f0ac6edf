"""A refusal of the system is one sentence, not a crash, and no hint names an option that the command does not have."""

import json
import os
import shlex
import subprocess
import sys

import pytest

from drtool.cli.main import run


@pytest.fixture
def shell(tmp_path, monkeypatch):
    for name in ("cache", "state"):
        monkeypatch.setenv(f"DRTOOL_{name.upper()}_DIR", str(tmp_path / name))
    monkeypatch.setenv("DRTOOL_CONFIG", str(tmp_path / "drtool.yaml"))
    monkeypatch.setenv("DRTOOL_PASSWORD", "secret")
    targets = [word for site in "abc" for word in ("--target", f"{site}={tmp_path / site}")]
    assert run(["-q", "init", *targets]) == 0
    return tmp_path


def test_a_state_directory_that_cannot_be_is_one_sentence(shell, monkeypatch, capsys):
    (shell / "file").touch()
    monkeypatch.setenv("DRTOOL_STATE_DIR", str(shell / "file"))
    assert run(["snapshots", "--json"]) == 1
    error = json.loads(capsys.readouterr().out)["error"]
    assert str(shell / "file") in error["message"]
    assert "bug" not in error["message"]


def test_a_destination_that_cannot_be_made_is_one_sentence(shell, capsys):
    (shell / "source").mkdir()
    assert run(["-q", "backup", str(shell / "source")]) == 0
    capsys.readouterr()
    assert run(["restore", "latest", "--to", "/proc/nowhere/below"]) == 2
    told = capsys.readouterr().err
    assert "/proc/nowhere" in told
    assert "bug" not in told


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no /dev/full here")
@pytest.mark.parametrize("form", [[], ["--json"], ["--json-lines"]])
@pytest.mark.spread(3)
def test_a_result_that_cannot_be_written_is_said_and_is_no_success(shell, form):
    with open("/dev/full", "w", encoding="ascii") as full:
        done = subprocess.run(
            [sys.executable, "-m", "drtool", *form, "snapshots"],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert done.returncode == 1
    assert "No space left" in done.stderr
    assert "Traceback" not in done.stderr
    assert "bug" not in done.stderr


def test_without_a_quorum_a_backup_hints_at_a_command_that_reads(shell, capsys):
    for site in "bc":
        (shell / site).rename(shell / f"{site}.away")
    config = str(shell / "drtool.yaml")
    assert run(["backup", "-c", config, str(shell)]) == 6
    hint = capsys.readouterr().err.partition("hint: ")[2]
    words = shlex.split(hint.partition(": ")[2])
    assert words == ["drtool", "-c", config, "snapshots", "--manifest-from", "any"]
    assert run(words[1:]) == 0
