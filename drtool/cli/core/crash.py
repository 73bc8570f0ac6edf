"""Handling of unexpected exceptions: an error of the operating system on this host, or a bug in drtool."""

import os
import time
import traceback
from typing import TYPE_CHECKING

from drtool import __version__
from drtool.errors import DrtoolError

if TYPE_CHECKING:
    from drtool.cli.core.call import Call

WHERE = "the project's issue tracker"


class Bug(DrtoolError):
    """A fault in drtool itself."""


def report(call: "Call", error: Exception) -> Bug:
    """Return the failure to show.

    The traceback goes to the terminal with `--verbose`, otherwise to a file in the state directory.
    """
    trace = "".join(traceback.format_exception(error))
    message = f"this is a bug in drtool {__version__}: {type(error).__name__}: {error}"
    if call.screen.form.verbose:
        call.screen.trace_lines(trace.rstrip())
        return Bug(message, hint=f"please report it, with the lines above, in {WHERE}")
    path = _keep(call, trace)
    attached = f", with {path}" if path else "; --verbose shows where it happened"
    return Bug(message, hint=f"please report it in {WHERE}{attached}")


class SystemRefused(DrtoolError):
    """A refusal of the operating system that concerns this host: a state directory, a destination, a descriptor."""


def refused(call: "Call", error: OSError) -> DrtoolError:
    """Return the failure for an OSError, with its file name. It is a bug if the error carries no reason."""
    if error.strerror is None:
        return report(call, error)
    if call.screen.form.verbose:
        call.screen.trace_lines("".join(traceback.format_exception(error)).rstrip())
    where = "" if error.filename is None else f"{os.fsdecode(error.filename)}: "
    return SystemRefused(f"{where}{error.strerror}", hint="--verbose shows the operation that needed it")


def _keep(call: "Call", trace: str) -> str | None:
    try:
        directory = call.settings.state_dir
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = directory / f"bug-{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}-{os.getpid()}.txt"
        with open(
            os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8", errors="replace"
        ) as out:
            out.write(trace)
    except (OSError, DrtoolError):  # the report must be shown, with or without its file
        return None
    return str(path)
