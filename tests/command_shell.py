"""The command line as cron runs it: in a directory of its own, without a terminal."""

import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import command_zygote

import drtool

TIMEOUT_S = 120.0


@dataclass
class Ran:
    """How one command line ended."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        return json.loads(self.out)

    @property
    def error(self) -> dict[str, Any]:
        return self.document["error"]


@dataclass
class Shell:
    """Runs `drtool` in a directory of its own, without a terminal, as cron does."""

    directory: Path
    environ: dict[str, str] = field(default_factory=dict)
    zygote: command_zygote.Zygote | None = None
    """Forks the commands; the one that all tests share if there is none."""

    def __call__(self, *words: str | bytes, stdin: int = subprocess.DEVNULL, **environ: str) -> Ran:
        whole = self.whole_environ(**environ)
        if stdin == subprocess.DEVNULL and command_zygote.suits(whole):
            return self._forked([os.fsdecode(word) for word in words], whole)
        done = subprocess.run(
            [sys.executable, "-m", "drtool", *words],
            cwd=self.directory,
            env=whole,
            stdin=stdin,
            capture_output=True,
            check=False,
            timeout=TIMEOUT_S,
        )
        return Ran(done.returncode, done.stdout.decode("utf-8"), done.stderr.decode("utf-8"))

    def whole_environ(self, **environ: str) -> dict[str, str]:
        """What a command's process inherits."""
        return {**os.environ, **self.environ, **environ}

    def _forked(self, words: list[str], environ: dict[str, str]) -> Ran:
        with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err, open(os.devnull, "rb") as nothing:
            streams = [nothing.fileno(), out.fileno(), err.fileno()]
            zygote = self.zygote or command_zygote.shared()
            code = zygote.run(words, self.directory, environ, streams, TIMEOUT_S)
            out.seek(0)
            err.seek(0)
            return Ran(code, out.read().decode("utf-8"), err.read().decode("utf-8"))


def shell_in(directory: Path) -> Shell:
    environ = {
        "DRTOOL_STATE_DIR": str(directory / "state"),
        "DRTOOL_CACHE_DIR": str(directory / "cache"),
        "DRTOOL_PASSWORD": "correct horse",
        "XDG_DATA_HOME": str(directory / "data"),
        "TZ": "UTC",
        "PYTHONPATH": str(Path(drtool.__file__).parent.parent),
    }
    return Shell(directory, environ)
