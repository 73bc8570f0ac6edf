"""The bytes that all processes of a backup have written to each target so far, in shared memory.

Invariants
    Each process writes its own cells only, and 8 aligned bytes are written at once, so no reader sees half a figure.
    The meter is made before the fork. It is for people: no decision depends on it.
"""

import mmap
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager

from drtool.model import TargetName
from drtool.stores.sent import observing_sent

_CELLS = 2
_CELL_BYTES = 8
_NS = 10**9


class PutMeter:
    """The figures of `processes` writing processes."""

    def __init__(self, targets: Iterable[TargetName], processes: int) -> None:
        self._targets = tuple(targets)
        self._row = _CELLS * len(self._targets)
        size_bytes = max(1, self._row * processes) * _CELL_BYTES
        self._cells = memoryview(mmap.mmap(-1, size_bytes)).cast("Q")

    def counter(self, process: int) -> "PutCounter":
        """Return the cells of one process, by its number."""
        cells = self._cells[process * self._row : (process + 1) * self._row]
        return PutCounter(cells, {target: _CELLS * number for number, target in enumerate(self._targets)})

    def stored_bytes(self) -> int:
        """Return the bytes written so far, at all targets together."""
        return sum(self._cells[::_CELLS]) if self._row else 0

    def waiting_s(self, at_least_s: float) -> dict[str, float]:
        """Return the targets that have answered no write for `at_least_s`, and the seconds that each is waited for."""
        now_ns = time.monotonic_ns()
        waits: dict[str, float] = {}
        for number, target in enumerate(self._targets):
            pending = [since for since in self._cells[_CELLS * number + 1 :: self._row] if since]
            # the process that got the latest answer proves that the target answers
            if pending and now_ns - max(pending) >= at_least_s * _NS:
                waits[target] = round((now_ns - max(pending)) / _NS, 1)
        return waits


class PutCounter:
    """The cells of one process: for each target the bytes written, and since when an answer is missing (0: none is)."""

    def __init__(self, cells: memoryview, places: Mapping[TargetName, int]) -> None:
        self._cells, self._places = cells, places
        self._pending = dict.fromkeys(places, 0)
        self._lock = threading.Lock()

    @contextmanager
    def putting(self, target: TargetName, size_bytes: int) -> Iterator[None]:
        """Count one write: its bytes as they are sent, none if it fails, and its duration while it lasts."""
        place = self._places.get(target)
        if place is None:
            yield
            return
        with self._lock:
            self._pending[target] += 1
            self._cells[place + 1] = self._cells[place + 1] or time.monotonic_ns()
        written_bytes = sent_bytes = 0

        def count(piece_bytes: int) -> None:
            nonlocal sent_bytes
            with self._lock:
                more_bytes = min(piece_bytes, size_bytes - sent_bytes)  # headers and repetitions do not count
                sent_bytes += more_bytes
                self._cells[place] += more_bytes

        try:
            with observing_sent(count):
                yield
            written_bytes = size_bytes
        finally:
            with self._lock:
                self._pending[target] -= 1
                self._cells[place] += written_bytes - sent_bytes
                self._cells[place + 1] = time.monotonic_ns() if self._pending[target] else 0
