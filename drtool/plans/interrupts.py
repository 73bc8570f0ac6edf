"""Sections of code that defer interruptions, such as the end of something that must be undone."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from drtool.errors import INTERRUPTS


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Defer interruptions until the end of the block.

    Signal handlers run in the main thread, whichever thread received the signal. Blocking signals would therefore not
    suffice, and other threads need no protection.
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
