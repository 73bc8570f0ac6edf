"""The number of concurrent large transfers across a network: few on a slow line, and more while they increase the throughput.

If many transfers share a slow line, none of them makes progress. So a target begins with one transfer per direction, and
another one is added while the measured throughput grows. An answer that asks for fewer requests halves the number. The
transfers of all processes of one command count together.

Invariants
    A transfer that waits for its turn is neither failing nor hanging.
    A lane is released however the transfer ends, and this wakes the next transfer. One transfer is always admitted.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from mmap import mmap
from typing import NamedTuple

from drtool.errors import StoreError, TargetBusy, TargetUnanswered
from drtool.stores.forked_lock import Bell, ForkedLock
from drtool.stores.passing import PassingStore
from drtool.stores.ports import Buffer, Store
from drtool.stores.window import LOOK_AGAIN_S, SLOW, Window

LARGE_BYTES = 256 << 10
"""Smaller transfers have a window (`window`): they are short, and do not wait behind those of packs."""
IN_TURN = ("packs/", "index/")
LANES_MAX = 32
GROWTH = 1.05
"""How much faster a round must be than one with fewer lanes for another lane to be added."""
UNKNOWN_BYTES = 64 << 10
"""The assumed size of an index segment that is read completely."""
_ACTIVE, _ALLOWED, _ROUND_BEGAN, _ROUND_BYTES, _ROUND_COUNT, _LAST_BYTES_S, _GROWN, _LIFE, _WAITING = range(9)


class Lanes:
    """The transfers in one direction of one target. Shared by forked processes."""

    def __init__(
        self,
        *,
        clock: Callable[[], float] = time.monotonic,
        bell: Bell | None = None,
        is_over: Callable[[], bool] = lambda: False,
    ) -> None:
        """`is_over` returns whether transfers are no longer admitted."""
        self._clock, self._is_over = clock, is_over
        self._bell = bell or Bell()
        self._shared = memoryview(mmap(-1, 72)).cast("d")  # anonymous, so forks share it
        self._shared[_ALLOWED] = 1.0
        self._lock = ForkedLock()

    def restart(self) -> None:
        """Begin again with one lane: other processes have ended, and what is still under way here does not count."""
        with self._lock:
            shared = self._shared
            shared[_ACTIVE] = shared[_ROUND_BYTES] = shared[_ROUND_COUNT] = shared[_LAST_BYTES_S] = shared[_GROWN] = 0.0
            shared[_ALLOWED] = 1.0
            shared[_LIFE] += 1

    def close(self) -> None:
        """Close the lock and the bell. Other processes may continue to use theirs."""
        self._lock.close()
        self._bell.close()

    @property
    def allowed(self) -> int:
        """The number of transfers that may run at once."""
        return int(self._shared[_ALLOWED])

    @contextmanager
    def lane(self, size_bytes: int) -> Iterator[None]:
        """Wait for a lane and hold it. The transfer counts as `size_bytes` if it succeeds."""
        life = self._enter()
        moved_bytes = 0
        try:
            yield
            moved_bytes = size_bytes
        except (TargetBusy, TargetUnanswered):
            self._halve()
            raise
        finally:
            self._leave(moved_bytes, life)

    def _enter(self) -> float:
        while not self._is_over():
            if self._take():
                return self._shared[_LIFE]
            try:
                self._bell.wait(LOOK_AGAIN_S)
            finally:
                with self._lock:
                    self._shared[_WAITING] -= 1
        raise StoreError(SLOW)

    def _take(self) -> bool:
        """Take a free lane, or register as waiting for one."""
        with self._lock:
            shared = self._shared
            if shared[_ACTIVE] >= shared[_ALLOWED]:
                shared[_WAITING] += 1
                return False
            if not shared[_ACTIVE] and not shared[_ROUND_COUNT]:
                shared[_ROUND_BEGAN] = self._clock()
            shared[_ACTIVE] += 1
            return True

    def _leave(self, moved_bytes: int, life: float) -> None:
        with self._lock:
            shared = self._shared
            if shared[_LIFE] != life:
                return
            shared[_ACTIVE] -= 1
            shared[_ROUND_BYTES] += moved_bytes
            shared[_ROUND_COUNT] += 1
            if shared[_ROUND_COUNT] >= 2 * shared[_ALLOWED]:
                self._judge_round()
            self._bell.ring(int(min(shared[_WAITING], shared[_ALLOWED] - shared[_ACTIVE])))

    def _judge_round(self) -> None:
        """Decide, after each lane was used twice, whether another one increases the throughput."""
        shared, now = self._shared, self._clock()
        bytes_s = shared[_ROUND_BYTES] / max(now - shared[_ROUND_BEGAN], 1e-6)
        if bytes_s > GROWTH * shared[_LAST_BYTES_S]:
            shared[_ALLOWED] = min(LANES_MAX, shared[_ALLOWED] + 1)
            shared[_GROWN] = 1.0
        elif shared[_GROWN] and shared[_ALLOWED] > 1:  # the last added lane did not increase the throughput
            shared[_ALLOWED] -= 1
            shared[_GROWN] = 0.0
        shared[_LAST_BYTES_S] = bytes_s
        shared[_ROUND_BYTES] = shared[_ROUND_COUNT] = 0.0
        shared[_ROUND_BEGAN] = now

    def _halve(self) -> None:
        with self._lock:
            shared = self._shared
            shared[_ALLOWED] = max(1.0, shared[_ALLOWED] // 2)
            shared[_GROWN] = shared[_LAST_BYTES_S] = 0.0


class LaneStore(PassingStore):
    """A store with lanes for large packs and index segments, and a window for small ones.

    Other objects do not wait: they are few and small, and a key slot must not wait behind a pack.
    """

    def __init__(self, inner: Store, upload: "Direction", download: "Direction") -> None:
        super().__init__(inner)
        self._upload, self._download = upload, download

    def put(self, name: str, data: Buffer) -> None:
        with self._upload.turn(name, memoryview(data).nbytes):
            self.inner.put(name, data)

    def get(self, name: str, start: int = 0, length: int | None = None) -> bytes:
        unknown_bytes = LARGE_BYTES if name.startswith("packs/") else UNKNOWN_BYTES
        with self._download.turn(name, unknown_bytes if length is None else length):
            return self.inner.get(name, start, length)


class Direction(NamedTuple):
    """The transfers to a target, or from it."""

    lanes: Lanes
    window: Window

    def turn(self, name: str, size_bytes: int) -> AbstractContextManager[None]:
        """Return the turn that a transfer waits for and holds."""
        if not name.startswith(IN_TURN):
            return nullcontext()
        return self.lanes.lane(size_bytes) if size_bytes >= LARGE_BYTES else self.window.share(size_bytes)

    def restart(self) -> None:
        """Begin again, without the processes that took part."""
        self.lanes.restart()
        self.window.restart()

    def close(self) -> None:
        """Close the locks and bells. Other processes may continue to use theirs."""
        self.lanes.close()
        self.window.close()
