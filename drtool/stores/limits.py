"""Rate limits: bytes per second to and from a target, for all processes of one command together.

A token bucket: transferred bytes become a debt, and the next call waits until the debt is paid. A single object moves at the
speed of the medium; the average over a few objects is the requested rate.

Invariants
    Processes forked after the bucket was made share it. Its level is in shared memory, guarded by a lock that ends with its
    process. Time is the system's monotonic clock, which forked processes share.
"""

import time
from collections.abc import Callable
from mmap import mmap

from drtool.stores.forked_lock import ForkedLock
from drtool.stores.passing import PassingStore
from drtool.stores.ports import Buffer, Store

BURST_S = 0.5
"""How much idle time may be made up for by a burst."""


class Bucket:
    """A token bucket with a rate in bytes per second, shared by all users of the target."""

    def __init__(
        self,
        rate_bytes_s: float,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        if rate_bytes_s <= 0:
            raise ValueError("a limit must be more than 0 bytes per second")
        self._rate_bytes_s, self._clock, self._sleep = rate_bytes_s, clock, sleep
        self._paid_until = memoryview(mmap(-1, 8)).cast("d")
        self._paid_until[0] = clock()
        self._lock = ForkedLock()

    def take(self, size_bytes: int) -> None:
        """Wait until earlier transfers are paid for, then add these bytes to the debt."""
        wait_s = self._owe(size_bytes)
        if wait_s > 0:
            self._sleep(wait_s)

    def owe(self, size_bytes: int) -> None:
        """Add bytes that were already transferred to the debt. A negative number corrects an earlier one."""
        if size_bytes:
            self._owe(size_bytes)

    def close(self) -> None:
        """Close the lock. Other processes may continue to use it."""
        self._lock.close()

    def _owe(self, size_bytes: int) -> float:
        with self._lock:
            now = self._clock()
            due = max(self._paid_until[0], now - BURST_S)
            self._paid_until[0] = due + size_bytes / self._rate_bytes_s
        return due - now


class LimitedStore(PassingStore):
    """A store with rate limits for objects. None: unlimited. Listings and registers do not count."""

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
