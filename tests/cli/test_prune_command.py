"""`drtool prune` as an operator sees it."""

import os

import pytest
from command_shell import Shell, shell_in


@pytest.fixture
def shell(tmp_path) -> Shell:
    made = shell_in(tmp_path)
    (tmp_path / "tree").mkdir()
    assert made("init", "--target", f"a={tmp_path}/a", "--copies", "1").code == 0
    return made


def orphan(shell: Shell):
    name = os.urandom(32).hex()
    path = shell.directory / "a" / "packs" / name[:2] / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(bytes(1000))
    return path


def test_a_preview_then_the_act(shell):
    (shell.directory / "tree/file").write_bytes(os.urandom(5000))
    assert shell("backup", "tree").code == 0
    left = orphan(shell)
    would = shell("prune", "--dry-run", "--json")
    assert (would.code, would.document["removed"]) == (0, {"packs": 1, "bytes": 1000})
    assert left.exists()
    did = shell("prune", "--json")
    assert (did.code, did.document["removed"], did.document["pending"]["packs"]) == (0, {"packs": 1, "bytes": 1000}, 0)
    assert not left.exists()
    words = shell("prune").out
    assert "removed 0 packs" in words
    assert "kept" in words


def test_nothing_is_said_with_quiet_and_help_tells_the_exit_codes(shell):
    assert shell("-q", "prune").out == ""
    helped = shell("prune", "--help").out
    assert "11" in helped
    assert "--dry-run" in helped
