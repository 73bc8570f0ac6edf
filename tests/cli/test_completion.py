"""Completion as a shell does it: the script is sourced and completes words."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

BIN = Path(sys.executable).parent
COMPLETE = """
eval "$(_DRTOOL_COMPLETE=source_bash drtool)"
COMP_WORDS=({words})
COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1))
_drtool_completion drtool
printf '%s\\n' "${{COMPREPLY[@]}}"
"""


def shell(program, script, home):
    """`home` is empty: completion needs no configuration, and leaves nothing behind."""
    environment = {"PATH": f"{BIN}:{os.environ['PATH']}", "HOME": str(home)}
    done = subprocess.run([*program, script], env=environment, cwd=home, capture_output=True, text=True, check=True)
    assert done.stderr == ""
    return done.stdout


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        ("drtool res", ["restore"]),
        ("drtool plan re", ["resume", "report"]),
        ("drtool restore latest --ov", ["--overwrite"]),
        ("drtool restore latest --overwrite if", ["if-changed"]),
        ("drtool --conf", ["--config"]),
    ],
)
@pytest.mark.spread(4)
def test_bash_completes(words, offered, tmp_path):
    assert shell(["bash", "--norc", "-c"], COMPLETE.format(words=words), tmp_path).split() == offered
    assert list(tmp_path.iterdir()) == []


def test_each_shell_has_a_script(tmp_path):
    for name, sign in {"bash": "complete -o default -F", "zsh": "#compdef drtool", "fish": "complete "}.items():
        script = shell(["sh", "-c"], f"_DRTOOL_COMPLETE=source_{name} drtool", tmp_path)
        assert sign in script
        if shutil.which(name) is not None:
            subprocess.run([name, "-n", "/dev/stdin"], input=script, text=True, check=True)
