"""The bytes of a write, as its medium sends them on the same thread. For progress alone: no decision depends on it."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

_thread = threading.local()


def note_sent(size_bytes: int) -> None:
    """Tell the observer of this thread's write, if there is one."""
    observe: Callable[[int], None] | None = getattr(_thread, "observe", None)
    if observe is not None:
        observe(size_bytes)


@contextmanager
def observing_sent(observe: Callable[[int], None]) -> Iterator[None]:
    """Let `observe` have the sizes of what is sent within."""
    _thread.observe = observe
    try:
        yield
    finally:
        _thread.observe = None
