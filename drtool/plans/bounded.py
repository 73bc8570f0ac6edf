"""Bounded calls of functions that may block for ever (name servers, slow peers).

Invariants
    `bounded` returns at most `LOOK_S` after the deadline or the cancellation of the run. A call that does not end continues
    in a daemon thread. Calls have their own timeouts too, so that it ends soon after.
"""

import queue
import threading
import time
from collections.abc import Callable
from threading import Event
from typing import TypeVar

from drtool.errors import DrtoolError

LOOK_S = 0.2
T = TypeVar("T")


class TimeUp(DrtoolError):
    """Raised when there was no answer in time."""

    transient = True


class WasCancelled(DrtoolError):
    """Raised when the run was cancelled during the wait."""


def bounded(call: Callable[[], T], ends_at: float, cancelled: Event | None = None) -> T:
    """Return or raise the result of `call`. `ends_at` is by `time.monotonic()`. Raises TimeUp or WasCancelled."""
    results: queue.Queue[tuple[T | None, Exception | None]] = queue.Queue()

    def work() -> None:
        try:
            results.put((call(), None))
        except Exception as error:  # noqa: BLE001 - it is raised in the calling thread
            results.put((None, error))

    threading.Thread(target=work, name="plan-bounded", daemon=True).start()
    while True:
        left_s = ends_at - time.monotonic()
        try:
            value, error = results.get(timeout=max(0.001, min(LOOK_S, left_s)))
        except queue.Empty:
            if cancelled is not None and cancelled.is_set():
                raise WasCancelled("the run was cancelled while waiting for an answer") from None
            if left_s <= 0:
                raise TimeUp("no answer in time") from None
            continue
        if error is not None:
            raise error
        return value  # type: ignore[return-value] # without an error this is the call's result


def pause(seconds: float, ends_at: float, cancelled: Event) -> bool:
    """Wait for `seconds`, but not beyond `ends_at`. Return False if the run was cancelled meanwhile."""
    until = min(time.monotonic() + seconds, ends_at)
    while (left_s := until - time.monotonic()) > 0:
        if cancelled.wait(min(left_s, 0.5)):
            return False
    return not cancelled.is_set()
