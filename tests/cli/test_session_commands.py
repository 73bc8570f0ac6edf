"""`session list` and `session expire`, as text and JSON."""

import subprocess
import sys
from contextlib import contextmanager

import pytest

WRITER = """
import os, sys
from pathlib import Path
from drtool.events import ignore
from drtool.repository import RepositorySpec, TargetSpec, open_repository
top = Path(sys.argv[1])
targets = tuple(TargetSpec(name=f"{site}/main", url=str(top / site)) for site in "abc")
spec = RepositorySpec(label="x", targets=targets, cache_dir=top / "cache", state_dir=top / "state",
                      password=lambda: b"correct horse", host=os.uname().nodename)
with open_repository(spec, ignore) as repository:
    repository.begin(repository.writer(), "home")
    print("open", flush=True)
    sys.stdin.read()
"""


@contextmanager
def writer(shell):
    """A process with an open session."""
    words = [sys.executable, "-c", WRITER, str(shell.directory)]
    with subprocess.Popen(words, env=shell.environ, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"open\n"
        yield process
        process.kill()


def test_no_session_is_open(stored):
    assert stored("session", "list", "--json").document["sessions"] == []
    assert stored("session", "list").out == "no session is open\n"
    assert stored("session", "expire", "ff", "--json").code == 1
    assert stored("session", "expire", "").code == 2


def test_a_session_is_listed_refused_forced_and_ended(stored):
    with writer(stored):
        (row,) = stored("session", "list", "--json").document["sessions"]
        assert (row["kind"], row["source"], row["process"]) == ("backup", "home", "alive")
        assert row["opened"].endswith("Z")
        assert "running" in stored("session", "list").out
        refused = stored("session", "expire", row["id"][:8], "--json")
        assert (refused.code, refused.error["kind"]) == (11, "refused")
        assert str(row["pid"]) in refused.error["message"]
    would = stored("session", "expire", row["id"][:8], "--dry-run", "--json")
    assert (would.code, would.document["dry_run"]) == (0, True)
    (gone,) = stored("session", "list", "--json").document["sessions"]
    assert gone["process"] == "gone"
    done = stored("session", "expire", row["id"][:8])
    assert done.code == 0
    assert done.out.startswith("ended session ")
    assert stored("session", "list", "--json").document["sessions"] == []


@pytest.mark.thorough
def test_a_rebalance_that_another_mover_stops_fails_and_prints_the_command_that_helps(stored):
    """The mover of another host that will not come back."""
    mover = (
        WRITER.replace('"home")', '"", "mover")')
        .replace('"state"', '"state-there"')
        .replace("os.uname().nodename", '"there"')
    )
    assert stored("target", "add", "d", str(stored.directory / "d")).code == 0
    assert stored("target", "drain", "b").code == 0
    words = [sys.executable, "-c", mover, str(stored.directory)]
    with subprocess.Popen(words, env=stored.environ, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"open\n"
        process.kill()
    failed = stored("rebalance", "--json")
    assert (failed.code, failed.document["stopped"], failed.error["kind"]) == (1, "mover-open", "rejected")
    assert "on there (process" in failed.error["message"]
    (row,) = stored("session", "list", "--json").document["sessions"]
    command = f"drtool session expire {row['id'][:8]} --force"
    assert failed.error["hint"].endswith(command)
    refused = stored("session", "expire", row["id"][:8], "--json")
    assert (refused.code, refused.error["hint"].endswith(command)) == (11, True)
    assert stored(*command.split()[1:]).code == 0
    assert stored("rebalance", "--json").code == 0
