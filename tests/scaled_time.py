"""Commands for which time goes `TIME_SCALE` times as fast: what `command_zygote` enters around each of them.

The clock and sleeps are scaled. Timeouts of sockets and of locks are not: servers here answer at once, or refuse.
"""

import os
import time
from contextlib import AbstractContextManager, nullcontext

_monotonic, _sleep = time.monotonic, time.sleep


def prepare() -> None:
    """Scale time before anything of drtool is imported: functions take their clocks as defaults."""
    scale, began_s = float(os.environ["TIME_SCALE"]), _monotonic()
    time.monotonic = lambda: began_s + (_monotonic() - began_s) * scale
    time.sleep = lambda seconds: _sleep(seconds / scale)


def conditions() -> AbstractContextManager[None]:
    """Let targets take as long as ever to open: what this host computes meanwhile is not faster."""
    from drtool.repository import targets

    targets.OPEN_TIMEOUT_S *= float(os.environ["TIME_SCALE"])
    return nullcontext()
