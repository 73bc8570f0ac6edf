"""A store with injected faults, for drills and tests.

`Faults` is a value (`config.faults` reads it from words). `FaultyStore.faults` may be replaced at any time, from any thread.

Invariants
    Wrong answers concern reads. Nothing false is ever written, except by `partial_writes`, which leaves half an object.
    The same faults, seed and calls give the same results. The affected objects depend only on the seed and their names.
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
"""Names of objects. A name that ends in `/` means all below it, and the empty name means all objects."""

EVERYTHING: Names = frozenset({""})
INVENTED_BYTES = 1024


class Faults(Struct, frozen=True, kw_only=True):
    """The faults of a store. The default is none."""

    offline: bool = False
    hang: bool = False
    """Calls do not return until the faults are replaced."""
    read_only: bool = False
    full_after_bytes: int | None = None
    """The number of bytes that may still be written, counted from when these faults were set."""
    fail_calls: frozenset[int] = frozenset()
    """The numbers of the calls that fail, counted from 1 from when these faults were set."""
    flaky: float = 0.0
    """The share of calls that fail as on a bad line, so that retrying helps."""
    delay_s: float = 0.0
    """The additional delay of each call."""
    partial_writes: Literal["", "failing", "silent"] = ""
    """Puts store only the first half of the bytes, and fail or report success."""
    damaged: Names = frozenset()
    """Objects that are read with one byte changed, in the middle."""
    stale: Names = frozenset()
    """Objects that are read as they were before their last replacement through this store."""
    omitted: Names = frozenset()
    """Objects that are missing from listings."""
    invented: Names = frozenset()
    """Objects that listings show although they do not exist."""
    size_error_bytes: int = 0
    """The error of sizes in `stat` and `list`."""
    share: float = 1.0
    """The share of objects among `damaged`, `stale`, `omitted` and those of `size_error_bytes` that is affected."""
    seed: int = 0

    def hits(self, names: Names, name: str) -> bool:
        """Return whether an object is affected by a fault on `names`."""
        return bool(names) and _named(names, name) and self._drawn(name)

    def wrong_size(self, name: str, size_bytes: int) -> int:
        """Return the reported size for an actual size."""
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
    """A store with faults. `sleep` performs the wait of `delay_s`."""

    ends_when_silent = False
    """A fault may hang for ever, even if the medium below would not."""

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
        """Set the faults. Counts restart, and hanging calls continue."""
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
            raise TargetFull(f"injected fault: {room_bytes} bytes are free, but {size_bytes} are needed")
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
        """Count the call, and fail if a fault affects it."""
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
        """Keep the current bytes of an object that is to be read stale later."""
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
    """Return the bytes with one changed. An empty object cannot be damaged in this way."""
    middle = len(data) // 2
    return data[:middle] + bytes([data[middle] ^ 0xFF]) + data[middle + 1 :] if data else data
