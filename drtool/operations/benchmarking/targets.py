"""The benchmark of targets, one after the other: small requests, then uploads and downloads of pack-sized objects.

Invariants
    A target is written to only if its marker says that it is this target of the repository that most targets belong to.
    Everything is written below `probe/` and removed at the end, also on Ctrl-C. The next run removes the leftovers of a
    killed one. `limits.upload` does not apply, since the target itself is measured.
"""

import itertools
import mmap
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from math import ceil
from statistics import median

from msgspec.structs import replace

from drtool.errors import DrtoolError, FormatError, StoreError, TargetFull
from drtool.model import Buffer, TargetName
from drtool.operations.benchmarking.machine import random_bytes
from drtool.operations.benchmarking.request import MIB
from drtool.operations.benchmarking.results import TargetSpeed
from drtool.packing.pack import PACK_BYTES
from drtool.repository.marker import Marker
from drtool.repository.places import OPEN_TIMEOUT_S, is_directory, open_in_time, open_store
from drtool.repository.spec import TargetSpec
from drtool.repository.writing import AHEAD_MAX
from drtool.stores import CallLimits, Errand, Medium, Store, WatchedStore
from drtool.stores.scratch import Scratch, remove_leftovers

SMALL_BYTES = 1024
QUESTIONS = 21
QUESTIONS_S = 1.5
TRIAL_BYTES = 1 * MIB
OBJECT_BYTES_MIN = 64 * 1024
ROOM_SHARE = 4
"""At most this fraction of the free space is used."""
CLEAR_S = 30.0
STOP_S = 5.0
_TICK_S = 0.2


def repositories_at(specs: Sequence[TargetSpec]) -> tuple[dict[TargetName, str], dict[TargetName, str]]:
    """Return the repository of each target, and why the others cannot be used. All targets are asked at once."""
    errands = {spec.name: Errand(partial(_repository_at, spec)) for spec in specs}
    ends_at = time.monotonic() + OPEN_TIMEOUT_S
    found: dict[TargetName, str] = {}
    refused: dict[TargetName, str] = {}
    for name, errand in errands.items():
        try:
            found[name] = errand.result(ends_at - time.monotonic(), "it")
        except DrtoolError as error:
            refused[name] = error.message
    return found, refused


def _repository_at(spec: TargetSpec) -> str:
    store = open_store(spec)
    try:
        marker = Marker.read(store)
    finally:
        store.close()
    if marker.target != spec.name:
        raise FormatError(f"its marker says that it is {marker.target}, not {spec.name}")
    return marker.repository


def measure_target(spec: TargetSpec, seconds: float, size_bytes: int) -> TargetSpeed:
    """Return the speed of a target. A failure ends the measurement, and earlier figures remain."""
    speed = TargetSpeed(name=spec.name, near=is_directory(spec.url))
    try:
        store = open_in_time(spec)
    except DrtoolError as error:
        return replace(speed, problem=error.message)
    try:
        return _Trial(store, speed, seconds, size_bytes).run()
    finally:
        with suppress(StoreError):  # a failure to close loses nothing
            store.close()


class _Trial:
    """The measurement of one target."""

    def __init__(self, medium: Medium, speed: TargetSpeed, seconds: float, size_bytes: int) -> None:
        self._medium, self._speed = medium, speed
        self._seconds, self._size_bytes = seconds, size_bytes
        self._store: Store = WatchedStore(medium, CallLimits(call_s=10.0))
        self._scratch = Scratch(medium)

    def run(self) -> TargetSpeed:
        try:
            Errand(lambda: remove_leftovers(self._medium)).result(CLEAR_S, self._speed.name)
            self._measure()
        except DrtoolError as error:
            self._speed = replace(self._speed, problem=error.message)
        finally:
            self._clear()
        return self._speed

    def _clear(self) -> None:
        try:
            Errand(self._scratch.clear).result(CLEAR_S, self._speed.name)
        except DrtoolError as error:
            problem = self._speed.problem or f"the test objects below probe/ could not be removed: {error.message}"
            self._speed = replace(self._speed, problem=problem)

    def _measure(self) -> None:
        self._small_requests()
        length = self._object_bytes()
        buffer = memoryview(mmap.mmap(-1, length))  # page-aligned, as for a pack
        buffer[:] = random_bytes(length)
        self._speed = replace(self._speed, object_bytes=length, parallel=AHEAD_MAX)
        once = self._move(1, self._puts(buffer, "one"))
        self._speed = replace(self._speed, put_bytes_per_second=once.rate)
        several = self._move(AHEAD_MAX, self._puts(buffer, "several"))
        self._speed = replace(self._speed, parallel_put_bytes_per_second=several.rate)
        back = self._move(1, self._gets(once.names, length))
        self._speed = replace(self._speed, get_bytes_per_second=back.rate)
        back = self._move(AHEAD_MAX, self._gets(several.names, length))
        self._speed = replace(self._speed, parallel_get_bytes_per_second=back.rate)

    def _small_requests(self) -> None:
        name = self._scratch.name("small")
        self._store.put(name, bytes(SMALL_BYTES))
        ends_at, taken_s = time.monotonic() + QUESTIONS_S, list[float]()
        while len(taken_s) < QUESTIONS and (not taken_s or time.monotonic() < ends_at):
            began_s = time.monotonic()
            self._store.get(name, 0, SMALL_BYTES)
            taken_s.append(time.monotonic() - began_s)
        taken_s.sort()
        worst = taken_s[ceil(0.95 * len(taken_s)) - 1]
        self._speed = replace(self._speed, latency_seconds=median(taken_s), latency_p95_seconds=worst)

    def _object_bytes(self) -> int:
        """Return a pack's size, or less if one would take most of the time or the free space is small."""
        free_bytes = self._store.free_bytes()
        if free_bytes is not None:
            self._size_bytes = min(self._size_bytes, free_bytes // ROOM_SHARE)
        if self._size_bytes < TRIAL_BYTES:
            raise TargetFull(f"there is too little free space for the test ({free_bytes} bytes are free)")
        began_s = time.monotonic()
        self._store.put(self._scratch.name("trial"), random_bytes(TRIAL_BYTES))
        rate = TRIAL_BYTES / max(1e-6, time.monotonic() - began_s)
        fitting = int(min(PACK_BYTES, rate * self._seconds / 8, self._size_bytes / (2 * AHEAD_MAX)))
        return max(OBJECT_BYTES_MIN, fitting - fitting % 4096)

    def _puts(self, buffer: Buffer, word: str) -> "Iterator[_Move]":
        for number in itertools.count():
            name = self._scratch.name(f"{word}-{number}")
            yield _Move(name, memoryview(buffer).nbytes, lambda name=name: self._store.put(name, buffer))  # type: ignore[misc]

    def _gets(self, names: Sequence[str], length: int) -> "Iterator[_Move]":
        """Yield each download once where the system caches it, and repeatedly across a network."""
        for name in names if self._speed.near else itertools.cycle(names):
            yield _Move(name, length, lambda name=name: _got(self._store, name, length))  # type: ignore[misc]

    def _move(self, threads: int, moves: "Iterator[_Move]") -> "_Moved":
        """Make transfers for half of a direction's time and bytes."""
        crew = _Crew(moves, time.monotonic() + self._seconds / 2, self._size_bytes // 2)
        return crew.work(threads)


class _Move:
    """One transfer to make."""

    def __init__(self, name: str, size_bytes: int, act: Callable[[], None]) -> None:
        self.name, self.size_bytes, self.act = name, size_bytes, act


class _Moved:
    """The result of transfers. `rate` is None if nothing was transferred."""

    def __init__(self, names: Sequence[str], size_bytes: int, taken_s: float) -> None:
        self.names = names
        self.rate = size_bytes / taken_s if size_bytes else None


class _Crew:
    """Threads that make transfers until the time or the bytes are used up."""

    def __init__(self, moves: Iterator[_Move], ends_at: float, size_bytes: int) -> None:
        self._moves, self._ends_at, self._left_bytes = moves, ends_at, size_bytes
        self._lock = threading.Lock()
        self._stop = False
        self._names: list[str] = []
        self._moved_bytes = 0

    def work(self, threads: int) -> _Moved:
        """Make at least one transfer.

        On Ctrl-C, wait a while for running transfers to end, so that they can be removed.
        """
        began_s = time.monotonic()
        errands = [Errand(self._serve) for _ in range(threads)]
        try:
            for errand in errands:
                while errand.running:
                    errand.wait(_TICK_S)
        finally:
            self._stop = True
            for errand in errands:
                errand.wait(STOP_S)
        for errand in errands:
            errand.result(0, "a transfer")
        return _Moved(self._names, self._moved_bytes, time.monotonic() - began_s)

    def _serve(self) -> None:
        while (move := self._next()) is not None:
            move.act()
            with self._lock:
                self._names.append(move.name)
                self._moved_bytes += move.size_bytes

    def _next(self) -> _Move | None:
        with self._lock:
            over = self._left_bytes <= 0 or time.monotonic() > self._ends_at
            if self._stop or (over and self._names):
                return None
            move = next(self._moves, None)
            self._left_bytes -= move.size_bytes if move else 0
            return move


def _got(store: Store, name: str, length: int) -> None:
    if len(store.get(name, 0, length)) != length:
        raise StoreError(f"{name} was read back shorter than it was written")
