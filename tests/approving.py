"""Somebody who says yes: a plan runs as a process of its own, and what its channel asks is answered by `plan approve`."""

import json
import re
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from command_shell import Ran, Shell

WITHIN_S = 120.0
_QUESTION = re.compile(r"drtool plan approve (\S+) (\S+)")


def run_approved(shell: Shell, told: Path, *words: str) -> tuple[Ran, list[str]]:
    """How it ended, and the steps that were approved. `told`: where the channel's command appends the documents that it gets."""
    told.write_text("")
    whole = [sys.executable, "-m", "drtool", *words]
    with (shell.directory / "out").open("w+b") as out, (shell.directory / "err").open("w+b") as err:
        run = subprocess.Popen(
            whole, cwd=shell.directory, env=shell.whole_environ(), stdin=subprocess.DEVNULL, stdout=out, stderr=err
        )
        try:
            approved = _answer(shell, run, told)
        finally:
            run.kill()
            run.wait()
        out.seek(0)
        err.seek(0)
        return Ran(run.returncode, out.read().decode(), err.read().decode()), approved


def _answer(shell: Shell, run: "subprocess.Popen[bytes]", told: Path) -> list[str]:
    approved: list[str] = []
    ends_at = time.monotonic() + WITHIN_S
    while run.poll() is None:
        assert time.monotonic() < ends_at, f"the run did not end within {WITHIN_S:.0f} s; approved: {approved}"
        for document in _documents(told.read_text()):
            for run_id, step in _QUESTION.findall(document.get("message", "")):
                if step not in approved:
                    answer = shell("plan", "approve", run_id, step)
                    assert answer.code == 0, answer.err
                    approved.append(step)
        time.sleep(0.1)
    return approved


def _documents(text: str) -> Sequence[dict[str, str]]:
    decoder = json.JSONDecoder()
    found, at = [], 0
    while at < len(text):
        try:
            document, at = decoder.raw_decode(text, at)
        except ValueError:
            break  # the rest of it is still to come
        found.append(document)
        at += len(text[at:]) - len(text[at:].lstrip())
    return found
