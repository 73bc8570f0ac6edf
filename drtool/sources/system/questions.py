"""Queries of this host's programs: missing programs are noted, failures reported, hanging ones ended."""

import os
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from drtool.errors import DrtoolError
from drtool.sources import children

ANSWER_S = 120.0
"""A program without output for this long (because of a device that does not answer) is ended."""
_SBIN = ("/usr/local/sbin", "/usr/sbin", "/sbin")


class Questions:
    """The queries of a host, and those that failed."""

    def __init__(self, environ: Mapping[str, str], failed: Callable[[str, str], None] | None = None) -> None:
        """`failed` is called with (what, why) if a program exists but fails."""
        path = environ.get("PATH", os.defpath).split(os.pathsep)
        self._environ = {
            **environ,
            "PATH": os.pathsep.join([*path, *(each for each in _SBIN if each not in path)]),  # cron's PATH lacks them
            "LC_ALL": "C",
        }
        self._failed = failed
        self.lacking: dict[str, str] = {}

    def has(self, program: str) -> bool:
        return shutil.which(program, path=self._environ["PATH"]) is not None

    def ask(self, what: str, argv: Sequence[str], *, success: Sequence[int] = (0,)) -> str | None:
        """Return a program's output, or None without an answer, which is noted under `what`."""
        if not self.has(argv[0]):
            self.lacking[what] = f"there is no program {argv[0]}"
            return None
        try:
            return self._output(argv, success)
        except DrtoolError as error:
            self.miss(what, error.message)
            return None

    def miss(self, what: str, why: str) -> None:
        """Note a fact that should be known, but is not."""
        self.lacking[what] = why
        if self._failed is not None:
            self._failed(what, why)

    def _output(self, argv: Sequence[str], success: Sequence[int]) -> str:
        ends_at = time.monotonic() + ANSWER_S

        def watch() -> None:
            if time.monotonic() >= ends_at:
                raise DrtoolError(f"{argv[0]} gave no answer within {ANSWER_S:.0f} s")

        # in `/`, because modules and settings in the current directory are not the host's
        out = children.run(argv, self._environ, cwd=Path("/"), success=success, watch=watch)
        return out.decode("utf-8", "replace")
