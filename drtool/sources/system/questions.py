"""Asking programs of this host: what is not there is noted, what fails is reported, what hangs is ended."""

import os
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from drtool.errors import DrtoolError
from drtool.sources import children

ANSWER_S = 120.0
"""A program that says nothing for so long (a device that does not answer) is given up."""
_SBIN = ("/usr/local/sbin", "/usr/sbin", "/sbin")


class Questions:
    """What was asked, and what could not be answered."""

    def __init__(self, environ: Mapping[str, str], failed: Callable[[str, str], None] | None = None) -> None:
        """`failed` is told (what, why) where a program is there and does not do it."""
        path = environ.get("PATH", os.defpath).split(os.pathsep)
        self._environ = {
            **environ,
            "PATH": os.pathsep.join([*path, *(each for each in _SBIN if each not in path)]),  # cron has none of them
            "LC_ALL": "C",
        }
        self._failed = failed
        self.lacking: dict[str, str] = {}

    def has(self, program: str) -> bool:
        return shutil.which(program, path=self._environ["PATH"]) is not None

    def ask(self, what: str, argv: Sequence[str], *, success: Sequence[int] = (0,)) -> str | None:
        """What the program prints; None if there is no answer, which is noted under `what`."""
        if not self.has(argv[0]):
            self.lacking[what] = f"there is no program {argv[0]}"
            return None
        try:
            return self._output(argv, success)
        except DrtoolError as error:
            self.miss(what, error.message)
            return None

    def miss(self, what: str, why: str) -> None:
        """Something that should be known, and is not."""
        self.lacking[what] = why
        if self._failed is not None:
            self._failed(what, why)

    def _output(self, argv: Sequence[str], success: Sequence[int]) -> str:
        ends_at = time.monotonic() + ANSWER_S

        def watch() -> None:
            if time.monotonic() >= ends_at:
                raise DrtoolError(f"{argv[0]} gave no answer within {ANSWER_S:.0f} s")

        # of `/`: a module or a setting that lies about where somebody happens to stand is not this host's
        out = children.run(argv, self._environ, cwd=Path("/"), success=success, watch=watch)
        return out.decode("utf-8", "replace")
