"""The quickstart is run as it stands: every command of its `sh` blocks, in order, in one shell that stops at a failure."""

import os
import re
import subprocess
import sys
from pathlib import Path

from command_shell import shell_in

PAGE = Path(__file__).parents[2] / "docs/quickstart.md"


def test_every_command_of_the_quickstart_works_and_the_file_comes_back(tmp_path):
    blocks = re.findall(r"^```sh\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    assert sum("drtool " in block for block in blocks) >= 4
    program = tmp_path / "bin" / "drtool"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m drtool "$@"\n')
    program.chmod(0o755)
    environ = os.environ | shell_in(tmp_path).environ | {"PATH": f"{program.parent}:{os.environ['PATH']}"}
    for name in ("DRTOOL_PASSWORD", "DRTOOL_CONFIG"):
        environ.pop(name, None)
    done = subprocess.run(
        ["bash", "-ec", "".join(blocks)],
        cwd=tmp_path,
        env=environ,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "nothing missing, nothing damaged" in done.stdout
    assert (tmp_path / "tour" / "rescued" / "ada.txt").read_text() == "Dear Ada,\n"
    assert not (tmp_path / "tour" / "letters" / "ada.txt").exists()
