"""What to do with an exception that nobody foresaw: the system refused something of this host's own, or it is our bug."""

import os
import time
import traceback
from typing import TYPE_CHECKING

from drtool import __version__
from drtool.errors import DrtoolError

if TYPE_CHECKING:
    from drtool.cli.call import Call

WHERE = "the project's issue tracker"


class Bug(DrtoolError):
    """drtool itself is wrong."""


def report(call: "Call", error: Exception) -> Bug:
    """The failure to show; the traceback goes to the terminal with `--verbose`, else into a file of the state directory."""
    trace = "".join(traceback.format_exception(error))
    message = f"this is a bug in drtool {__version__}: {type(error).__name__}: {error}"
    if call.screen.form.verbose:
        call.screen.trace_lines(trace.rstrip())
        return Bug(message, hint=f"please report it, with the lines above, in {WHERE}")
    path = _keep(call, trace)
    attached = f", with {path}" if path else "; --verbose shows where it happened"
    return Bug(message, hint=f"please report it in {WHERE}{attached}")


class SystemRefused(DrtoolError):
    """The operating system said no to something of this host's own: a state directory, a destination, a descriptor."""


def refused(call: "Call", error: OSError) -> DrtoolError:
    """What the system refused, and where; a bug if it does not say."""
    if error.strerror is None:
        return report(call, error)
    if call.screen.form.verbose:
        call.screen.trace_lines("".join(traceback.format_exception(error)).rstrip())
    where = "" if error.filename is None else f"{os.fsdecode(error.filename)}: "
    return SystemRefused(f"{where}{error.strerror}", hint="--verbose shows what it was needed for")


def _keep(call: "Call", trace: str) -> str | None:
    try:
        directory = call.settings.state_dir
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = directory / f"bug-{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}-{os.getpid()}.txt"
        with open(
            os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8", errors="replace"
        ) as out:
            out.write(trace)
    except (OSError, DrtoolError):  # the report must come out, with or without its file
        return None
    return str(path)
