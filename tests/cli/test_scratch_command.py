"""`scratch list` and `scratch remove`, as text and JSON."""

import subprocess
import sys
from pathlib import Path

import drtool

MAKER = """
import sys
from pathlib import Path
from drtool.plans.scratch import make_scratch
with make_scratch(Path("state"), "r1", size_bytes=3 << 20, inodes=1, roots=(Path("state/scratch"),)) as scratch:
    (scratch.path / "sub").mkdir()
    (scratch.path / "sub/file").touch()
    print("made", flush=True)
    sys.stdin.read()
"""


def maker(shell):
    """A process with a scratch space."""
    environ = {"PYTHONPATH": str(Path(drtool.__file__).parent.parent)}
    words = [sys.executable, "-c", MAKER]
    process = subprocess.Popen(
        words, cwd=shell.directory, env=environ, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "made\n"
    return process


def test_without_scratch_spaces_nothing_is_needed(shell):
    assert shell("scratch", "list", "--json").document == {"spaces": [], "unreadable": []}
    assert shell("scratch", "list").out == "there is no scratch space\n"
    assert shell("scratch", "remove", "--run", "r1", "--json").code == 1
    assert shell("scratch", "remove", "--run", "../r1", "--json").code == 2
    assert shell("scratch", "remove", "--json").code == 2
    assert not (shell.directory / "state").exists()


def test_a_space_in_use_is_refused_and_one_that_was_left_is_removed(shell):
    with maker(shell) as process:
        (row,) = shell("scratch", "list", "--json").document["spaces"]
        assert (row["run"], row["process"], row["pid"], row["asked_bytes"]) == ("r1", "alive", process.pid, 3 << 20)
        listed = shell("scratch", "list").out
        assert "running" in listed
        assert "3.0 MiB" in listed
        refused = shell("scratch", "remove", "--run", "r1", "--json")
        assert (refused.code, refused.error["kind"]) == (11, "refused")
        assert "--force" in refused.error["hint"]
        process.kill()
    path = Path(row["path"])
    (row,) = shell("scratch", "list", "--json").document["spaces"]
    assert row["process"] == "gone"
    would = shell("scratch", "remove", "--run", "r1", "--dry-run", "--json")
    assert (would.code, would.document["dry_run"], path.exists()) == (0, True, True)
    assert [each["path"] for each in would.document["removed"]] == [str(path)]
    done = shell("scratch", "remove", "--run", "r1")
    assert (done.code, done.out) == (0, f"removed {path}\n")
    assert not path.exists()
    assert shell("scratch", "list", "--json").document["spaces"] == []


def test_leftovers_give_exit_8_and_stay_listed(shell):
    with maker(shell) as process:
        process.kill()
    (row,) = shell("scratch", "list", "--json").document["spaces"]
    path = Path(row["path"])
    (path / "sub/file").unlink()
    (path / "sub").rmdir()
    path.rmdir()
    path.symlink_to("/")
    done = shell("scratch", "remove", "--run", "r1", "--json")
    assert done.code == 8
    assert done.document["left"] == [{"path": str(path), "reason": "it is not a directory"}]
    assert len(shell("scratch", "list", "--json").document["spaces"]) == 1
    assert "left " in shell("scratch", "remove", "--run", "r1").out
