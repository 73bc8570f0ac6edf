"""A process that is killed right before its n-th step on the file system: for every n, or every `STRIDE`th."""

import itertools
import os
import signal
from collections.abc import Callable, Iterator

from thoroughness import STRIDE
from three_sites import in_a_child

STEPS = ("open", "mkdir", "rename", "link", "unlink", "rmdir", "fsync", "write", "chmod", "fchmod")


def every_step(action: Callable[[], object]) -> Iterator[int]:
    """Run `action` in processes that are killed at their first step, a later one, …; yield after each, until one survives."""
    for number in itertools.count(1, STRIDE):
        code = in_a_child(lambda number=number: _dying_at(number, action))  # type: ignore[misc]
        assert code in {0, -signal.SIGKILL}
        yield number
        if code == 0:
            return


def _dying_at(number: int, action: Callable[[], object]) -> None:
    countdown = itertools.count(1)
    for name in STEPS:
        setattr(os, name, _counted(getattr(os, name), countdown, number))
    action()


def _counted(plain: Callable[..., object], countdown: "itertools.count[int]", number: int) -> Callable[..., object]:
    def step(*args: object, **more: object) -> object:
        if next(countdown) == number:
            os.kill(os.getpid(), signal.SIGKILL)
        return plain(*args, **more)

    return step
