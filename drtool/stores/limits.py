"""Not faster than told: so many bytes a second to a target and from it, together over the processes of one command.

A token bucket: what was moved is owed, and the next call waits until the debt is paid. One object goes at the medium's own
speed; the average over a few objects is what was asked for.

Invariants
    Processes forked after the bucket was made draw from the same one: its level is shared memory, guarded by a lock that ends
    with its process. Time is the system's one monotonic clock, which forks share.
"""

import time
from collections.abc import Callable
from mmap import mmap

from drtool.stores.forked_lock import ForkedLock
from drtool.stores.passing import PassingStore
from drtool.stores.ports import Buffer, Store

BURST_S = 0.5
"""How much of the time in which nothing was moved may be made up for."""


class Bucket:
    """So many bytes a second, whoever moves them."""

    def __init__(
        self,
        rate_bytes_s: float,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        if rate_bytes_s <= 0:
            raise ValueError("a limit is more than 0 bytes a second")
        self._rate_bytes_s, self._clock, self._sleep = rate_bytes_s, clock, sleep
        self._paid_until = memoryview(mmap(-1, 8)).cast("d")
        self._paid_until[0] = clock()
        self._lock = ForkedLock()

    def take(self, size_bytes: int) -> None:
        """Waits until what was moved before is paid for; then these bytes are owed."""
        wait_s = self._owe(size_bytes)
        if wait_s > 0:
            self._sleep(wait_s)

    def owe(self, size_bytes: int) -> None:
        """These bytes were moved already (or, if negative, were not after all)."""
        if size_bytes:
            self._owe(size_bytes)

    def close(self) -> None:
        """Gives back the lock, which other processes may go on using."""
        self._lock.close()

    def _owe(self, size_bytes: int) -> float:
        with self._lock:
            now = self._clock()
            due = max(self._paid_until[0], now - BURST_S)
            self._paid_until[0] = due + size_bytes / self._rate_bytes_s
        return due - now


class LimitedStore(PassingStore):
    """A store whose objects go and come at limited rates; None: unlimited. Listings and registers do not count."""

    def __init__(self, inner: Store, upload: Bucket | None, download: Bucket | None) -> None:
        super().__init__(inner)
        self._upload, self._download = upload, download

    def put(self, name: str, data: Buffer) -> None:
        if self._upload is not None:
            self._upload.take(memoryview(data).nbytes)
        self.inner.put(name, data)

    def get(self, name: str, start: int = 0, length: int | None = None) -> bytes:
        if self._download is None:
            return self.inner.get(name, start, length)
        expected_bytes = length or 0
        self._download.take(expected_bytes)
        moved_bytes = 0
        try:
            data = self.inner.get(name, start, length)
            moved_bytes = len(data)
        finally:
            self._download.owe(moved_bytes - expected_bytes)
        return data
