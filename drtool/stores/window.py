"""The number of bytes of concurrent small transfers across a network: as many as the line carries in a few seconds.

Dozens of small objects on a slow line would all finish late, or all be abandoned. So they wait for each other. The window grows
by the bytes that arrived within a short time, and halves after a slow transfer, as in TCP. On a fast line it is wide after a
few round trips.

Invariants
    One transfer is always admitted.
    Its bytes are released however the transfer ends, and this wakes waiting transfers.

Source: Jacobson, "Congestion avoidance and control" (SIGCOMM 1988).
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from mmap import mmap

from drtool.errors import StoreError, TargetBusy, TargetUnanswered
from drtool.stores.forked_lock import Bell, ForkedLock

FIRST_BYTES, LEAST_BYTES, MOST_BYTES = 256 << 10, 64 << 10, 16 << 20
SHORT_S, LONG_S = 4.0, 10.0
"""A request on a new connection at 600 ms of latency takes three round trips. No small transfer may take a minute."""
SLOW = "it is much slower than the other sites; the next backups and `drtool repair` copy the missing objects to it"
"""The reason why a target that was left behind receives no more transfers."""
LOOK_AGAIN_S = 1.0
"""How long a transfer may sleep if the process that should wake it was killed."""
_ACTIVE_BYTES, _ALLOWED_BYTES, _COUNT, _LIFE, _WAITING = range(5)


class Window:
    """The small transfers in one direction of one target. Shared by forked processes."""

    def __init__(
        self,
        *,
        clock: Callable[[], float] = time.monotonic,
        bell: Bell | None = None,
        is_over: Callable[[], bool] = lambda: False,
    ) -> None:
        """`is_over` returns whether transfers are no longer admitted."""
        self._clock, self._bell, self._is_over = clock, bell or Bell(), is_over
        self._shared = memoryview(mmap(-1, 40)).cast("d")  # anonymous, so forks share it
        self._shared[_ALLOWED_BYTES] = FIRST_BYTES
        self._lock = ForkedLock()

    def restart(self) -> None:
        """Begin again: what other processes held went with them, and what is still under way here does not count."""
        with self._lock:
            self._shared[_ACTIVE_BYTES] = self._shared[_COUNT] = 0.0
            self._shared[_ALLOWED_BYTES] = FIRST_BYTES
            self._shared[_LIFE] += 1

    def close(self) -> None:
        """Close the lock and the bell. Other processes may continue to use theirs."""
        self._lock.close()
        self._bell.close()

    @property
    def allowed_bytes(self) -> int:
        """The number of bytes that may be in progress at once."""
        return int(self._shared[_ALLOWED_BYTES])

    @contextmanager
    def share(self, size_bytes: int) -> Iterator[None]:
        """Wait until `size_bytes` more may be in progress."""
        life = self._enter(size_bytes)
        began_s, more_bytes, is_late = self._clock(), 0, False
        try:
            yield
            took_s = self._clock() - began_s
            more_bytes, is_late = size_bytes if took_s <= SHORT_S else 0, took_s > LONG_S
        except (TargetBusy, TargetUnanswered):
            is_late = True
            raise
        finally:
            self._leave(size_bytes, more_bytes, life, is_late=is_late)

    def _enter(self, size_bytes: int) -> float:
        while not self._is_over():
            if self._take(size_bytes):
                return self._shared[_LIFE]
            try:
                self._bell.wait(LOOK_AGAIN_S)
            finally:
                with self._lock:
                    self._shared[_WAITING] -= 1
        raise StoreError(SLOW)

    def _take(self, size_bytes: int) -> bool:
        """Take a share, or register as waiting for one."""
        with self._lock:
            shared = self._shared
            if shared[_COUNT] and shared[_ACTIVE_BYTES] + size_bytes > shared[_ALLOWED_BYTES]:
                shared[_WAITING] += 1
                return False
            shared[_COUNT] += 1
            shared[_ACTIVE_BYTES] += size_bytes
            return True

    def _leave(self, size_bytes: int, more_bytes: int, life: float, *, is_late: bool) -> None:
        with self._lock:
            shared = self._shared
            if shared[_LIFE] != life:
                return
            shared[_COUNT] -= 1
            shared[_ACTIVE_BYTES] -= size_bytes
            shared[_ALLOWED_BYTES] = min(MOST_BYTES, shared[_ALLOWED_BYTES] + more_bytes)
            if is_late:
                shared[_ALLOWED_BYTES] = max(LEAST_BYTES, shared[_ALLOWED_BYTES] / 2)
            self._bell.ring(int(shared[_WAITING]))
