"""drtool's own commands as child processes. Each backup, restore or verify step is a process that can be ended.

Invariants
    The password goes through a pipe that only the child holds. It is neither in the arguments nor in the environment.
"""

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from drtool.plans.actions.port import ChildResult, Work
from drtool.plans.actions.programs import run_program

_PASSWORDS = ("DRTOOL_PASSWORD", "DRTOOL_PASSWORD_FILE", "DRTOOL_PASSWORD_COMMAND")


class DrtoolProgram:
    """An implementation of `port.Drtool`."""

    def __init__(
        self,
        environ: Mapping[str, str],
        config_path: Path | None,
        state_dir: Path,
        cache_dir: Path,
        password: Callable[[], bytes],
        redact: Callable[[str], str],
    ) -> None:
        self.environ = {name: value for name, value in environ.items() if name not in _PASSWORDS} | {
            "DRTOOL_STATE_DIR": str(state_dir),
            "DRTOOL_CACHE_DIR": str(cache_dir),
        }
        self._config_path, self._password, self._redact = config_path, password, redact

    def __call__(self, words: Sequence[str], work: Work) -> tuple[ChildResult, dict[str, Any]]:
        ours, theirs = os.pipe()
        try:
            os.write(theirs, self._password() + b"\n")  # far less than the capacity of a pipe
            os.close(theirs)
            result = run_program(
                [*self._start(ours), *words],
                ends_at=work.ends_at,
                cancelled=work.cancelled,
                env=self.environ,
                pass_fds=(ours,),
            )
        finally:
            os.close(ours)
        return msgspec.structs.replace(result, stderr=self._redact(result.stderr)), _document(result.stdout)

    def _start(self, password: int) -> list[str]:
        config = ["--config", str(self._config_path)] if self._config_path is not None else []
        return [sys.executable, "-m", "drtool", "--json", *config, "--password-file", f"/dev/fd/{password}"]


def _document(stdout: bytes) -> dict[str, Any]:
    try:
        return msgspec.json.decode(stdout, type=dict[str, Any])
    except (msgspec.MsgspecError, RecursionError):
        return {}  # the action reports that there was none
