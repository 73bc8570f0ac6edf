"""What a real medium does not do on demand: a store that fails as it is told to, for drills and tests.

`Faults` is a value; `FaultyStore.faults` may be replaced at any time, from any thread. Other bytes and lying sizes concern what
is read: nothing false is ever written.
"""

import time
from collections.abc import Callable, Iterator
from threading import Lock

from msgspec import Struct

from drtool.errors import StoreError, TargetFull, TargetOffline, TargetReadOnly
from drtool.model import ObjectInfo
from drtool.stores.passing import PassingStore
from drtool.stores.ports import Buffer, Store, Tagged, tag_of


class Faults(Struct, frozen=True, kw_only=True):
    """Which faults a store has; none by default."""

    offline: bool = False
    read_only: bool = False
    full_after_bytes: int | None = None
    """How much may still be written, counted from when these faults were set."""
    fail_calls: frozenset[int] = frozenset()
    """Which calls fail, counted from 1 from when these faults were set."""
    delay_s: float = 0.0
    """How much later each call answers."""
    damaged: frozenset[str] = frozenset()
    """Objects that come back with one byte changed, in the middle."""
    size_error_bytes: int = 0
    """By how much `stat` and `list` are wrong."""


NO_FAULTS = Faults()


class FaultyStore(PassingStore):
    """A store with faults; `sleep` is what `delay_s` waits with."""

    def __init__(self, inner: Store, faults: Faults = NO_FAULTS, sleep: Callable[[float], None] = time.sleep) -> None:
        super().__init__(inner)
        self._sleep = sleep
        self._lock = Lock()
        self.faults = faults

    @property
    def faults(self) -> Faults:
        return self._faults

    @faults.setter
    def faults(self, faults: Faults) -> None:
        """Set the faults; what was counted so far is forgotten."""
        with self._lock:
            self._faults, self._calls, self._written_bytes = faults, 0, 0

    def put(self, name: str, data: Buffer) -> None:
        self._begin_write(name, memoryview(data).nbytes)
        super().put(name, data)

    def get(self, name: str, start: int = 0, length: int | None = None) -> bytes:
        faults = self._begin(name)
        if name not in faults.damaged:
            return super().get(name, start, length)
        whole = _damaged(super().get(name))
        return whole[start:] if length is None else whole[start : start + length]

    def stat(self, name: str) -> int:
        faults = self._begin(name)
        return max(0, super().stat(name) + faults.size_error_bytes)

    def list(self, prefix: str = "", start_after: str = "") -> Iterator[ObjectInfo]:
        faults = self._begin(prefix)
        for row in super().list(prefix, start_after):
            self._check_reachable(prefix)
            yield ObjectInfo(row.name, max(0, row.size_bytes + faults.size_error_bytes))

    def delete(self, name: str) -> None:
        self._begin_write(name, 0)
        super().delete(name)

    def free_bytes(self) -> int | None:
        faults = self._begin("")
        if faults.full_after_bytes is None:
            return super().free_bytes()
        return max(0, faults.full_after_bytes - self._written_bytes)

    def put_if_absent(self, name: str, data: bytes) -> bool:
        self._begin_write(name, len(data))
        return super().put_if_absent(name, data)

    def read_tagged(self, name: str) -> Tagged | None:
        faults = self._begin(name)
        found = super().read_tagged(name)
        if found is None or name not in faults.damaged:
            return found
        data = _damaged(found.data)
        return Tagged(data=data, tag=tag_of(data))

    def compare_and_swap(self, name: str, data: bytes, expected_tag: str | None) -> str | None:
        self._begin_write(name, len(data))
        return super().compare_and_swap(name, data, expected_tag)

    def _begin(self, name: str) -> Faults:
        """Count the call, and fail if it is one that must."""
        with self._lock:
            faults = self._faults
            self._calls += 1
            call = self._calls
        if faults.delay_s:
            self._sleep(faults.delay_s)
        self._check_reachable(name)
        if call in faults.fail_calls:
            raise StoreError(f"injected fault: call {call} failed at {name or 'the target'}")
        return faults

    def _begin_write(self, name: str, size_bytes: int) -> None:
        faults = self._begin(name)
        if faults.read_only:
            raise TargetReadOnly(f"injected fault: the target is read-only, at {name}")
        if not size_bytes:
            return
        with self._lock:
            after_bytes = self._written_bytes + size_bytes
            if faults.full_after_bytes is not None and after_bytes > faults.full_after_bytes:
                raise TargetFull(f"injected fault: no room left for {name}")
            self._written_bytes = after_bytes

    def _check_reachable(self, name: str) -> None:
        if self._faults.offline:
            raise TargetOffline(f"injected fault: the target is offline, at {name or 'its root'}")


def _damaged(data: bytes) -> bytes:
    """The same bytes but one; an empty object cannot be damaged so."""
    middle = len(data) // 2
    return data[:middle] + bytes([data[middle] ^ 0xFF]) + data[middle + 1 :] if data else data
