"""Storing packs and other objects on enough targets: a writer thread per target, more for remote ones, degraded writes.

Invariants
    `written` is only reported when the copies are durable. A target that fails is recorded and skipped.
    A slow target does not delay the others: a writer with `leaves_slow` waits for slow ones no longer than everything
    else took, `SLOW_S` at least. This never leaves an object with one copy only.
    An object that ends on fewer than `minimum` sites is an error. Fewer than wanted is degraded, and reported. Before
    it becomes an error, servers that stopped answering are waited for.
    Threads start with the first put, so the process must not fork after that.
"""

import signal
import time
from collections import deque
from collections.abc import Callable, Collection
from concurrent.futures import FIRST_COMPLETED, Future, wait
from contextlib import suppress
from functools import partial
from typing import NamedTuple

import zstandard
from msgspec import Struct

from drtool.crypto import Keyring
from drtool.errors import INTERRUPTS, StoreError, TargetHung
from drtool.model import Buffer, ChunkId, PackId, TargetName, pack_object
from drtool.packing import Bundle, PackBuilder, PackContents, PackKind
from drtool.packing.bundle import LARGE_CHUNK_BYTES
from drtool.packing.padding import text_bytes
from drtool.repository.placement import distinct_sites, next_targets
from drtool.repository.put_meter import PutCounter
from drtool.repository.put_threads import PutThreads
from drtool.repository.targets import Targets
from drtool.stores.window import SLOW

COMPRESSION_LEVEL = 3
SLOW_S = 30.0
IDLE_S = 1.0
SAFE_SITES = 2
AHEAD_MAX = 3
"""How many packs a process may have in flight if a target is remote. Each takes a buffer of a little over 16 MiB."""


class Demand(Struct, frozen=True):
    """The placement of an object: its preferred targets, and the wanted, promised and minimum number of sites."""

    preference: tuple[TargetName, ...]
    wanted_sites: int
    promised_sites: int
    minimum_sites: int


class PackWritten(Struct, frozen=True, array_like=True):
    """A pack that is durable on `targets`. On fewer sites than promised it is degraded."""

    pack: PackId
    size_bytes: int
    targets: tuple[TargetName, ...]
    promised_sites: int
    contents: PackContents

    @property
    def text_bytes(self) -> int:
        """Return the size of its text, without padding."""
        blocks = [(block.length, block.codec, block.text_length) for block in self.contents.blocks]
        return text_bytes(self.size_bytes, blocks)

    @property
    def degraded(self) -> bool:
        return distinct_sites(self.targets) < self.promised_sites


class Writer:
    """Stores objects through one thread per target. `close` waits for all of them."""

    def __init__(
        self, targets: Targets, *, leaves_slow: bool = False, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.targets = targets
        self._threads: dict[TargetName, PutThreads] = {}
        self._leaves_slow, self.clock = leaves_slow, clock
        self.meter: PutCounter | None = None
        self.idle: Callable[[], None] | None = None
        """Called every `IDLE_S` while the writer waits for targets. It must not write."""
        self._began_s, self._held_up_s = clock(), 0.0

    def slow_left_s(self) -> float | None:
        """Return how much longer slow targets may delay the others, or None for no limit."""
        if not self._leaves_slow:
            return None
        return max(SLOW_S, (self.clock() - self._began_s) / 2) - self._held_up_s

    def note_held_up(self, seconds: float) -> None:
        """Count time spent waiting only for slow targets."""
        self._held_up_s += seconds

    def begin(self, name: str, data: Buffer, demand: Demand) -> "Placing":
        """Start writing an object. `data` must not change until `settle` returns."""
        return Placing(self, name, data, demand)

    def put(self, name: str, data: Buffer, demand: Demand) -> list[TargetName]:
        """Write an object and wait. Return the targets that hold it now."""
        return self.begin(name, data, demand).settle()

    def submit(self, target: TargetName, name: str, data: Buffer) -> "Future[None]":
        thread = self._threads.get(target)
        if thread is None:
            count = 1 if self.targets.near(target) else AHEAD_MAX
            thread = self._threads[target] = PutThreads(count, f"put-{target}", leave_interruptions_to_the_main_thread)
        return thread.submit(partial(self._put, target, name, data))

    def _put(self, target: TargetName, name: str, data: Buffer) -> None:
        if not self.targets.writable(target):
            raise self.targets.failed_before(target)
        if self.meter is None:
            self.targets.store(target).put(name, data)
            return
        with self.meter.putting(target, len(data)):
            self.targets.store(target).put(name, data)

    def wait(self, futures: "Collection[Future[None]]", limit_s: float | None) -> bool:
        """Wait until one of `futures` is done, or for `limit_s`. Return whether one is done."""
        if self.idle is None:
            return bool(wait(futures, limit_s, FIRST_COMPLETED).done)
        ends_at_s = None if limit_s is None else time.monotonic() + limit_s
        while True:
            left_s = IDLE_S if ends_at_s is None else max(0.0, ends_at_s - time.monotonic())
            if wait(futures, min(left_s, IDLE_S), FIRST_COMPLETED).done:
                return True
            if left_s <= IDLE_S and ends_at_s is not None:
                return False
            self.idle()

    def ahead_max(self) -> int:
        """Return how many packs may be in flight at once. A directory takes one at a time as fast as several."""
        return 1 if all(map(self.targets.near, self.targets.online())) else AHEAD_MAX

    def close(self) -> None:
        for target, thread in self._threads.items():
            thread.shutdown(wait=not (self._leaves_slow and self.targets.guard(target).is_left))
        self._threads.clear()


class Placing:
    """One object on its way to its targets."""

    def __init__(self, writer: Writer, name: str, data: Buffer, demand: Demand) -> None:
        self._writer, self._name, self._data, self._demand = writer, name, data, demand
        self._under_way: dict[TargetName, Future[None]] = {}
        self._holders: list[TargetName] = []
        self._tried: set[TargetName] = set()
        self.data_in_use = False
        """Whether a write hangs or was left behind, so that the data must not change after `settle`, either."""
        self._start_more()

    def settle(self) -> list[TargetName]:
        """Wait until enough sites hold the object or no target is left. StoreError below the minimum."""
        attempt = 0
        self._drain()
        while distinct_sites(self._holders) < self._demand.minimum_sites:
            again = self._writer.targets.wait_to_write(self._demand.preference, attempt)
            if not again:
                break
            attempt += 1
            self._tried.difference_update(again)
            self._start_more()
            self._drain()
        if distinct_sites(self._holders) < self._demand.minimum_sites:
            reasons = "; ".join(f"{name}: {why}" for name, why in sorted(self._writer.targets.failures.items()))
            raise StoreError(
                f"{self._name} could be stored on {distinct_sites(self._holders)} of the {self._demand.minimum_sites} sites"
                f" that a commit needs ({reasons or 'there are no more targets'})",
                hint="free space or bring a target back, then run the same command again (stored data is reused)",
            )
        return self._holders

    def _drain(self) -> None:
        while self._under_way:
            self._await_one()
            for target, future in list(self._under_way.items()):
                if future.done():
                    del self._under_way[target]
                    self._note(target, future)
            self._start_more()

    def _await_one(self) -> None:
        """Wait for an answer, and leave behind targets that have delayed this writer for too long."""
        left_s = self._writer.slow_left_s() if self._may_leave() else None
        began_s = self._writer.clock()
        done = self._writer.wait(self._under_way.values(), None if left_s is None else max(0.0, left_s))
        if left_s is None:
            return
        self._writer.note_held_up(self._writer.clock() - began_s)
        if not done:
            self._leave()

    def _may_leave(self) -> bool:
        """Return whether the object is, or will be, safe without the pending targets."""
        others = [target for target in self._demand.preference if self._may_take(target)]
        safe_sites = min(SAFE_SITES, self._demand.promised_sites)
        return bool(self._holders) and distinct_sites([*self._holders, *others]) >= safe_sites

    def _leave(self) -> None:
        for target, future in self._under_way.items():
            self.data_in_use |= not future.cancel()
            self._writer.targets.fail(target, SLOW)
            self._writer.targets.guard(target).leave()
        self._under_way.clear()

    def _note(self, target: TargetName, future: "Future[None]") -> None:
        try:
            future.result()
        except StoreError as error:
            self.data_in_use |= isinstance(error, TargetHung)
            self._writer.targets.fail_by(target, error)
        else:
            self._holders.append(target)
            self._writer.targets.answered(target)

    def _start_more(self) -> None:
        there = [*self._holders, *self._under_way]
        for target in next_targets(self._demand.preference, there, self._demand.wanted_sites, self._may_take):
            self._tried.add(target)
            self._under_way[target] = self._writer.submit(target, self._name, self._data)

    def _may_take(self, target: TargetName) -> bool:
        return target not in self._tried and self._writer.targets.writable(target)


def leave_interruptions_to_the_main_thread() -> None:
    """Block the signals in this thread, since Python runs handlers in the main thread, which may block them."""
    signal.pthread_sigmask(signal.SIG_BLOCK, INTERRUPTS)


class SealedPack(NamedTuple):
    """A pack before any site has it. The bytes are lent."""

    pack: PackId
    data: Buffer
    contents: PackContents


class PackSink:
    """Accepts chunks of one kind of pack, and passes on the written packs.

    While one pack is being written, the next fills another buffer. If a target is remote and waiting for the oldest
    pack took longer than filling one, one more may be in flight from then on, up to `AHEAD_MAX`.
    A pack that too few sites accepted ends it: `add` fails again with the same error, and `flush` has nothing left to
    write. Packs passed on before stay durable.
    """

    def __init__(
        self,
        keyring: Keyring,
        writer: Writer,
        kind: PackKind,
        demand_of: Callable[[PackId], Demand],
        on_written: Callable[[PackWritten], None],
        on_sealed: Callable[[SealedPack], None] = lambda _pack: None,
        *,
        pads: bool = False,
    ) -> None:
        self._writer = writer
        self._on_sealed = on_sealed
        self._demand_of = demand_of
        self._on_written = on_written
        compressor = zstandard.ZstdCompressor(level=COMPRESSION_LEVEL)
        self._new_builder: Callable[[], PackBuilder] = partial(PackBuilder, keyring, kind, compressor, pads=pads)
        self._builder = self._new_builder()
        self._spares: list[PackBuilder] = []
        self._under_way: deque[_UnderWay] = deque()
        self._ahead = 1
        self._filling_since = time.monotonic()
        self._bundle = Bundle()
        self._failure: StoreError | None = None

    def add(self, chunk: ChunkId, text: Buffer) -> None:
        """Add a new chunk. It is durable after the next `flush`."""
        if self._failure is not None:
            raise self._failure
        if len(text) >= LARGE_CHUNK_BYTES:
            self._add_block(text, [chunk], [len(text)])
            return
        self._bundle.add(chunk, text)
        if self._bundle.full:
            self._seal_bundle()

    def flush(self) -> None:
        """Write the open pack and wait until everything is durable."""
        while self.flush_one():
            pass

    def flush_one(self) -> bool:
        """Write the open pack, and wait for the oldest one in flight. Return whether there are more."""
        if self._failure is not None:
            return False
        if self._bundle:
            self._seal_bundle()
        if not self._builder.empty:
            self._put_pack()
        if self._under_way:
            self._settle_oldest()
        return bool(self._under_way)

    def _seal_bundle(self) -> None:
        self._add_block(self._bundle.text, self._bundle.ids, self._bundle.lengths)
        self._bundle.clear()

    def _add_block(self, text: Buffer, ids: list[ChunkId], lengths: list[int]) -> None:
        self._builder.add_block(text, ids, lengths)
        if self._builder.full:
            self._put_pack()

    def _put_pack(self) -> None:
        full = self._builder
        pack, data, contents = full.finish()
        self._on_sealed(SealedPack(pack, data, contents))
        self._make_room()
        demand = self._demand_of(pack)
        placing = self._writer.begin(pack_object(pack), data, demand)
        self._under_way.append(_UnderWay(full, pack, len(data), contents, placing, demand.promised_sites))
        self._builder = self._spares.pop() if self._spares else self._new_builder()
        if not self._builder.empty:
            self._builder.begin()
        self._filling_since = time.monotonic()

    def _make_room(self) -> None:
        full_at = time.monotonic()
        while len(self._under_way) >= self._ahead:
            self._settle_oldest()
        waited_s, filled_s = time.monotonic() - full_at, full_at - self._filling_since
        if waited_s > filled_s and self._ahead < self._writer.ahead_max():
            self._ahead += 1

    def _settle_oldest(self) -> None:
        try:
            self._hand_on(self._under_way.popleft())
        except StoreError as error:
            self._failure = error
            while self._under_way:
                with suppress(StoreError):  # the first failure is the one that is reported
                    self._hand_on(self._under_way.popleft())
            raise

    def _hand_on(self, ended: "_UnderWay") -> None:
        targets = tuple(ended.placing.settle())
        self._on_written(PackWritten(ended.pack, ended.size_bytes, targets, ended.promised_sites, ended.contents))
        if not ended.placing.data_in_use:
            self._spares.append(ended.builder)


class _UnderWay(NamedTuple):
    """A pack in flight, in its buffer."""

    builder: PackBuilder
    pack: PackId
    size_bytes: int
    contents: PackContents
    placing: Placing
    promised_sites: int
