"""What a real medium does not do on demand: a store that fails as it is told to, for drills and tests.

`Faults` is a value (`config.faults` reads it from words); `FaultyStore.faults` may be replaced at any time, from any thread.

Invariants
    Wrong answers concern what is read: nothing false is ever written, except by `partial_writes`, which leaves half an object.
    The same faults and seed on the same calls do the same. Which objects are lied about depends on seed and name alone.
    Deleting needs no room: a full store still deletes.
"""

import time
from collections.abc import Callable, Collection, Iterator
from heapq import merge
from random import Random
from threading import Event, Lock
from typing import Literal, TypeAlias

from blake3 import blake3
from msgspec import Struct

from drtool.errors import ObjectMissing, StoreError, TargetFull, TargetOffline, TargetReadOnly
from drtool.model import ObjectInfo
from drtool.stores.passing import PassingStore
from drtool.stores.ports import Buffer, Store, Tagged, tag_of

Names: TypeAlias = frozenset[str]
"""Objects by name; one that ends in `/` means all below it, and the empty one all there are."""

EVERYTHING: Names = frozenset({""})
INVENTED_BYTES = 1024


class Faults(Struct, frozen=True, kw_only=True):
    """Which faults a store has; none by default."""

    offline: bool = False
    hang: bool = False
    """Calls do not return, until the faults are replaced."""
    read_only: bool = False
    full_after_bytes: int | None = None
    """How much may still be written, counted from when these faults were set."""
    fail_calls: frozenset[int] = frozenset()
    """Which calls fail, counted from 1 from when these faults were set."""
    flaky: float = 0.0
    """Which share of calls fails as if the line were bad: asking again helps."""
    delay_s: float = 0.0
    """How much later each call answers."""
    partial_writes: Literal["", "failing", "silent"] = ""
    """Puts leave the first half of the bytes there, and fail or say that all is well."""
    damaged: Names = frozenset()
    """Objects that come back with one byte changed, in the middle."""
    stale: Names = frozenset()
    """Objects that come back as they were before they were last replaced through this store."""
    omitted: Names = frozenset()
    """Objects that listings leave out."""
    invented: Names = frozenset()
    """Objects that listings show and that do not exist."""
    size_error_bytes: int = 0
    """By how much `stat` and `list` are wrong."""
    share: float = 1.0
    """Of the objects that `damaged`, `stale`, `omitted` and `size_error_bytes` mean: which share of them."""
    seed: int = 0

    def hits(self, names: Names, name: str) -> bool:
        """Whether an object is one of those that are meant."""
        return bool(names) and _named(names, name) and self._drawn(name)

    def wrong_size(self, name: str, size_bytes: int) -> int:
        """What is said of a size."""
        if not self.size_error_bytes or not self._drawn(name):
            return size_bytes
        return max(0, size_bytes + self.size_error_bytes)

    def _drawn(self, name: str) -> bool:
        if self.share >= 1.0:
            return True
        lot = int.from_bytes(blake3(f"{self.seed}/{name}".encode()).digest(6), "big")
        return lot < self.share * (1 << 48)


NO_FAULTS = Faults()


class FaultyStore(PassingStore):
    """A store with faults; `sleep` is what `delay_s` waits with."""

    ends_when_silent = False
    """A fault may hang for ever, whatever the medium below does."""

    def __init__(self, inner: Store, faults: Faults = NO_FAULTS, sleep: Callable[[float], None] = time.sleep) -> None:
        super().__init__(inner)
        self._sleep = sleep
        self._lock = Lock()
        self._replaced = Event()
        self._earlier: dict[str, bytes] = {}
        self.faults = faults

    @property
    def faults(self) -> Faults:
        return self._faults

    @faults.setter
    def faults(self, faults: Faults) -> None:
        """Set the faults; what was counted so far is forgotten, and what hangs goes on."""
        with self._lock:
            self._faults, self._calls, self._written_bytes = faults, 0, 0
            self._lots = Random(faults.seed)
            self._replaced.set()
            self._replaced = Event()

    def put(self, name: str, data: Buffer) -> None:
        faults = self._begin_write(name, memoryview(data).nbytes)
        self._remember(faults, name)
        if not faults.partial_writes:
            super().put(name, data)
            return
        super().put(name, bytes(data)[: memoryview(data).nbytes // 2])
        if faults.partial_writes == "failing":
            raise StoreError(f"injected fault: the write broke off half-way, at {name}")

    def get(self, name: str, start: int = 0, length: int | None = None) -> bytes:
        faults = self._begin(name)
        if not (faults.hits(faults.damaged, name) or faults.hits(faults.stale, name)):
            return super().get(name, start, length)
        whole = self._lie(faults, name, super().get(name))
        return whole[start:] if length is None else whole[start : start + length]

    def stat(self, name: str) -> int:
        faults = self._begin(name)
        return faults.wrong_size(name, super().stat(name))

    def list(self, prefix: str = "", start_after: str = "") -> Iterator[ObjectInfo]:
        faults = self._begin(prefix)
        invented = sorted(name for name in faults.invented if name.startswith(prefix) and name > start_after)
        false = (ObjectInfo(name, INVENTED_BYTES) for name in invented)
        for row in merge(super().list(prefix, start_after), false, key=lambda row: row.name):
            self._check_reachable(prefix)
            if not faults.hits(faults.omitted, row.name):
                yield ObjectInfo(row.name, faults.wrong_size(row.name, row.size_bytes))

    def delete(self, name: str) -> None:
        self._begin_write(name, 0)
        super().delete(name)

    def free_bytes(self) -> int | None:
        faults = self._begin("")
        if faults.full_after_bytes is None:
            return super().free_bytes()
        return max(0, faults.full_after_bytes - self._written_bytes)

    def try_room(self, size_bytes: int) -> None:
        room_bytes = self.free_bytes()
        if room_bytes is not None and room_bytes < size_bytes:
            raise TargetFull(f"injected fault: {room_bytes} bytes are free, and {size_bytes} do not fit")
        super().try_room(size_bytes)

    def put_if_absent(self, name: str, data: bytes) -> bool:
        self._begin_write(name, len(data))
        return super().put_if_absent(name, data)

    def read_tagged(self, name: str) -> Tagged | None:
        faults = self._begin(name)
        found = super().read_tagged(name)
        if found is None or not (faults.hits(faults.damaged, name) or faults.hits(faults.stale, name)):
            return found
        data = self._lie(faults, name, found.data)
        return Tagged(data=data, tag=tag_of(data))

    def compare_and_swap(self, name: str, data: bytes, expected_tag: str | None) -> str | None:
        faults = self._begin_write(name, len(data))
        self._remember(faults, name)
        return super().compare_and_swap(name, data, expected_tag)

    def _begin(self, name: str) -> Faults:
        """Count the call, and fail if it is one that must."""
        with self._lock:
            faults, replaced = self._faults, self._replaced
            self._calls += 1
            call = self._calls
            unlucky = self._lots.random() < faults.flaky
        if faults.hang:
            replaced.wait()
            return self._begin(name)
        if faults.delay_s:
            self._sleep(faults.delay_s)
        self._check_reachable(name)
        if call in faults.fail_calls:
            raise StoreError(f"injected fault: call {call} failed at {name or 'the target'}")
        if unlucky:
            raise TargetOffline(f"injected fault: the connection broke, at {name or 'the target'}")
        return faults

    def _begin_write(self, name: str, size_bytes: int) -> Faults:
        faults = self._begin(name)
        if faults.read_only:
            raise TargetReadOnly(f"injected fault: the target is read-only, at {name}", hint="remount it for writing")
        with self._lock:
            after_bytes = self._written_bytes + size_bytes
            if size_bytes and faults.full_after_bytes is not None and after_bytes > faults.full_after_bytes:
                raise TargetFull(f"injected fault: no room left for {name}", hint="free some space there")
            self._written_bytes = after_bytes
        return faults

    def _check_reachable(self, name: str) -> None:
        if self._faults.offline:
            raise TargetOffline(f"injected fault: the target is offline, at {name or 'its root'}")

    def _remember(self, faults: Faults, name: str) -> None:
        """What is about to be replaced, where an old object is to come back."""
        if not faults.hits(faults.stale, name):
            return
        try:
            before = self.inner.get(name)
        except ObjectMissing:
            return
        with self._lock:
            self._earlier[name] = before

    def _lie(self, faults: Faults, name: str, data: bytes) -> bytes:
        if faults.hits(faults.stale, name):
            data = self._earlier.get(name, data)
        return _damaged(data) if faults.hits(faults.damaged, name) else data


def _named(names: Collection[str], name: str) -> bool:
    return name in names or any(name.startswith(prefix) for prefix in names if prefix.endswith("/") or not prefix)


def _damaged(data: bytes) -> bytes:
    """The same bytes but one; an empty object cannot be damaged so."""
    middle = len(data) // 2
    return data[:middle] + bytes([data[middle] ^ 0xFF]) + data[middle + 1 :] if data else data
