"""Waiting for a server that does not answer, where no other target can serve.

One outage has one deadline for all requests: the first wait begins the outage, and the first answer ends it. A target that is
gone for good therefore costs one wait, not one per object. Forked processes share the outage.

Source of the waits: Brooker, "Exponential backoff and jitter" (AWS Architecture Blog, 2015), full jitter.
"""

import random
import threading
import time
from collections.abc import Callable
from mmap import mmap

FIRST_S = 0.5
LONGEST_S = 10.0
_WORDS_BYTES = 504


class Patience:
    """The waiting time for one target. `limit_s` is 0 if there is no waiting."""

    def __init__(
        self,
        limit_s: float = 0.0,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
        draw: Callable[[], float] = random.random,
    ) -> None:
        self.limit_s, self._clock, self._sleep, self._draw = limit_s, clock, sleep, draw
        shared = memoryview(mmap(-1, 8 + _WORDS_BYTES))  # anonymous, so forks share it
        self._began, self._words = shared[:8].cast("d"), shared[8:]
        self._told_of = 0.0
        self._telling = threading.Lock()

    def may_wait(self, factor: float = 1.0) -> bool:
        """Return whether the outage has lasted less than `factor` times the limit."""
        began = self._began[0]
        return self.limit_s > 0 and (not began or self._clock() - began < factor * self.limit_s)

    def wait(self, attempt: int, why: str) -> None:
        """Sleep before another attempt (0 is the first). `why` is the target's last answer, or the lack of one."""
        self.begin(why)
        self._sleep(self._draw() * min(LONGEST_S, FIRST_S * 2 ** min(attempt, 16)))

    def begin(self, why: str) -> None:
        """Begin the outage, unless it has begun."""
        if not self._began[0]:
            self._words[:] = why.encode()[:_WORDS_BYTES].ljust(_WORDS_BYTES, b"\0")
            self._began[0] = self._clock()

    def over(self) -> None:
        """End the outage: the target answered."""
        if self._began[0]:
            self._began[0] = 0.0

    def news(self) -> str | None:
        """Return why the target is waited for, once per outage. For the process that reports to the user."""
        with self._telling:
            began = self._began[0]
            if not began or began == self._told_of:
                return None
            self._told_of = began
        return bytes(self._words).rstrip(b"\0").decode(errors="replace")


def waiting_words(why: str, limit_s: float) -> str:
    """Return the message at the beginning of a wait."""
    minutes = round(limit_s / 60)
    limit = f"{minutes} min" if minutes else f"{limit_s:.0f} s"
    return f"waiting for a server that does not answer (limits.patience: {limit}): {why}"
