"""Stretches that an interruption waits for: the end of something that must be undone."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from drtool.errors import INTERRUPTS


@contextmanager
def uninterrupted() -> Iterator[None]:
    """An interruption that comes meanwhile takes effect afterwards.

    Handlers run in the main thread, whichever thread a signal went to; so blocking signals would not do, and other threads
    have nothing to fear.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    came: list[int] = []
    before = {number: signal.signal(number, lambda number, _frame: came.append(number)) for number in INTERRUPTS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        for interrupt in came:
            signal.raise_signal(interrupt)
