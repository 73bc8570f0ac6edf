"""A command that dies by signal 9 right before its n-th change of the file system."""

import itertools
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from unittest.mock import patch

KILL = "DRTOOL_TRUTH_KILL"
"""The variable that says n."""
KILLED = -signal.SIGKILL
STEPS = ("mkdir", "rename", "replace", "link", "unlink", "rmdir", "fsync")


@contextmanager
def dying() -> Iterator[None]:
    """Die where the environment says so. Threads share the count, so what was done before may differ a little each time."""
    number = int(os.environ.get(KILL, "0"))
    if not number:
        yield
        return
    countdown = itertools.count(1)

    def counted(plain: Callable[..., object]) -> Callable[..., object]:
        def step(*args: object, **more: object) -> object:
            if next(countdown) == number:
                os.kill(os.getpid(), signal.SIGKILL)
            return plain(*args, **more)

        return step

    steps = {name: counted(getattr(os, name)) for name in STEPS}
    with patch.multiple(os, **steps):
        yield
