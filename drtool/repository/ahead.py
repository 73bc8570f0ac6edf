"""Readahead: blocks that will be needed soon are fetched while others are processed, neighbours together, several at
once.

For a process that no longer forks, since it runs threads. The fetched blocks are sealed. The caller opens them, and
falls back to the ordinary path if one does not open.

Invariants
    No more than `AHEAD_BYTES` are held or in flight. A request is in flight until it is answered, even if its answer is
    no longer needed, since a target cannot cancel it.
    A failure here is not an error: the block is requested again, from any copy, when it is needed.
    Each target has its own threads, and with other targets at most half of the readahead bytes, so that a hanging
    target stops only itself.
"""

import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import TypeAlias

from msgspec import Struct

from drtool.errors import DrtoolError
from drtool.model import TargetName, pack_object
from drtool.packing import Location, SegmentPack
from drtool.repository.pace import Pace, is_failure
from drtool.repository.spans import SPAN_BYTES, Key, Span, on_grid, spans_of
from drtool.repository.targets import Targets

AHEAD_BYTES = 40 << 20
RESERVED_BYTES = SPAN_BYTES
"""Reserved for a request that a caller is waiting for."""
REQUESTS_MAX = 4
HEDGE_FROM_S = 1.0
HEDGE_TIMES = 3.0
HEDGES_FREE = 4
HEDGES_SHARE = 0.05

_Answer: TypeAlias = "Future[tuple[memoryview, float]]"


class _Fetch(Struct, eq=False):
    """One span: its possible targets, its requests, and its data. `given_up`: left to the ordinary path."""

    span: Span
    untried: list[TargetName]
    requests: "list[_Request]"
    data: memoryview | None = None
    given_up: bool = False

    @property
    def is_wanted(self) -> bool:
        return bool(self.span.blocks) and self.data is None and not self.given_up


class _Request(Struct, eq=False):
    """One span requested from one target. `late`: it has taken far longer than usual."""

    fetch: _Fetch
    target: TargetName
    answer: _Answer
    asked_at: float
    late: bool = False


class ReadAhead:
    """Accepts the locations that will be needed, in order, and returns sealed blocks. For one thread."""

    def __init__(
        self,
        targets: Targets,
        order: Callable[[SegmentPack], Sequence[TargetName]],
        pace: Pace,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._targets, self._order, self._pace, self._clock = targets, order, pace, clock
        self._threads: dict[TargetName, ThreadPoolExecutor] = {}
        self._waiting: deque[_Fetch] = deque()
        self._under_way: list[_Request] = []
        self._fetched: list[_Fetch] = []
        self._expected: dict[Key, _Fetch] = {}
        self.requests = self.hedges = 0

    @property
    def held_bytes(self) -> int:
        """Return the bytes held, and those in flight."""
        under_way = sum(request.fetch.span.size_bytes for request in self._under_way)
        return under_way + sum(fetch.span.size_bytes for fetch in self._fetched)

    def expect(self, locations: Iterable[Location]) -> list[Key]:
        """Announce the next locations, in order, and return the keys to `drop` afterwards.

        Packs in a directory of this host are not fetched: reading them is faster than handing them on.
        """
        keys: list[Key] = []
        for span in spans_of(locations, self._expected.__contains__):
            order = self._order(span.pack)
            if not order or self._targets.near(order[0]):
                continue
            fetch = _Fetch(span, [target for target in order if not self._targets.near(target)], [])
            self._waiting.append(fetch)
            for block in span.blocks:
                self._expected[span.pack.pack, block] = fetch
                keys.append((span.pack.pack, block))
        self._start()
        return keys

    def take(self, pack: SegmentPack, block: int) -> bytes | None:
        """Return a sealed block, and release it. None if it has to be requested."""
        fetch = self._expected.pop((pack.pack, block), None)
        if fetch is None:
            return None
        data = self._awaited(fetch)
        at, length = fetch.span.blocks.pop(block)
        sealed = bytes(data[at - fetch.span.start :][:length])
        self._let_go(fetch)
        return sealed if len(sealed) == length else None

    def drop(self, keys: Iterable[Key]) -> None:
        """Release blocks that are not needed any more."""
        for key in keys:
            fetch = self._expected.pop(key, None)
            if fetch is not None:
                fetch.span.blocks.pop(key[1])
                self._let_go(fetch)

    def close(self) -> None:
        for threads in self._threads.values():
            threads.shutdown(wait=False, cancel_futures=True)

    def _let_go(self, fetch: _Fetch) -> None:
        if not fetch.span.blocks:
            if fetch in self._waiting:
                self._waiting.remove(fetch)
            if fetch in self._fetched:
                self._fetched.remove(fetch)
        self._start()

    def _start(self) -> None:
        """Request as many of the waiting spans as there is room for."""
        self._settle()
        while self._waiting and sum(not request.late for request in self._under_way) < REQUESTS_MAX:
            if not self._ask(self._waiting[0], awaited=False):
                break
            self._waiting.popleft()

    def _awaited(self, fetch: _Fetch) -> memoryview:
        """Return the first answer, or empty if the ordinary path is needed. A late span is also requested elsewhere."""
        self._settle()
        if fetch in self._waiting:
            self._waiting.remove(fetch)
            self._ask(fetch)
        while fetch.is_wanted and fetch.requests:
            self._hedge(fetch)
            wait(
                [request.answer for request in fetch.requests],
                timeout=self._until_late_s(fetch),
                return_when=FIRST_COMPLETED,
            )
            self._settle()
        return fetch.data if fetch.data is not None else memoryview(b"")

    def _ask(self, fetch: _Fetch, *, awaited: bool = True) -> bool:
        """Send a request to the best target that was not asked yet. Return False if none can be asked now."""
        target = self._best(fetch, awaited=awaited)
        if target is None:
            return False
        fetch.untried.remove(target)
        threads = self._threads.get(target)
        if threads is None:
            threads = self._threads[target] = ThreadPoolExecutor(REQUESTS_MAX, "drtool-ahead")
        self.requests += 1
        self._pace.begin(target)
        # taking blocks from the span changes its blocks, never its bounds
        answer = threads.submit(self._get, target, fetch.span)
        request = _Request(fetch, target, answer, self._clock())
        fetch.requests.append(request)
        self._under_way.append(request)
        return True

    def _best(self, fetch: _Fetch, *, awaited: bool) -> TargetName | None:
        """Return the best target. Unless the span is awaited, it must be one that delays no awaited request."""
        size_bytes = fetch.span.size_bytes
        if self.held_bytes + size_bytes > AHEAD_BYTES - (0 if awaited else RESERVED_BYTES):
            return None
        late = {request.target for request in self._under_way if request.late}
        order = self._pace.order(fetch.untried, size_bytes)
        good = [target for target in order if target not in late and not self._pace.is_failing(target)]
        candidates = good if good and not awaited else sorted(order, key=lambda target: target not in good)
        shared = len(fetch.untried) > 1 and not awaited
        return next((target for target in candidates if self._takes(target, size_bytes, shared=shared)), None)

    def _takes(self, target: TargetName, size_bytes: int, *, shared: bool) -> bool:
        """Return whether a target has a free thread, and may have that many more bytes in flight."""
        sizes = [request.fetch.span.size_bytes for request in self._under_way if request.target == target]
        return len(sizes) < REQUESTS_MAX and not (shared and sizes and sum(sizes) + size_bytes > AHEAD_BYTES // 2)

    def _get(self, target: TargetName, span: Span) -> tuple[memoryview, float]:
        began_at = self._clock()
        first, last = on_grid(span.pack, span.start, span.end)
        data = self._targets.store(target).get(pack_object(span.pack.pack), first, last - first)
        return memoryview(data)[span.start - first :][: span.size_bytes], self._clock() - began_at

    def _settle(self) -> None:
        """Collect the answers, and mark the late requests."""
        for request in [request for request in self._under_way if request.answer.done()]:
            self._under_way.remove(request)
            request.fetch.requests.remove(request)
            self._pace.end(request.target)
            self._take_in(request)
        for request in self._under_way:
            if not request.late and self._left_s(request) <= 0:
                request.late = True
                self._pace.note_late(request.target, request.fetch.span.size_bytes, self._clock() - request.asked_at)

    def _take_in(self, request: _Request) -> None:
        fetch = request.fetch
        try:
            data, seconds = request.answer.result()
        except DrtoolError as error:  # reported when the block is requested on the ordinary path
            if is_failure(error):
                self._pace.fail(request.target)
        except Exception:  # noqa: BLE001 - a bug, which shows again on the ordinary path
            fetch.given_up = True
        else:
            self._pace.note(request.target, len(data), seconds)
            if fetch.is_wanted:
                fetch.data = data
                self._fetched.append(fetch)
        if fetch.is_wanted and not fetch.requests:
            self._ask(fetch)

    def _hedge(self, fetch: _Fetch) -> None:
        allowed = HEDGES_FREE + HEDGES_SHARE * self.requests
        if self.hedges < allowed and len(fetch.requests) == 1 and fetch.requests[0].late:
            self.hedges += self._ask(fetch)

    def _until_late_s(self, fetch: _Fetch) -> float | None:
        """Return how long to wait for an answer, or None for no limit if there is no further target or a second
        request.
        """
        if len(fetch.requests) > 1 or fetch.requests[0].late:
            return None
        return max(0.0, self._left_s(fetch.requests[0]))

    def _left_s(self, request: _Request) -> float:
        usual_s = self._pace.expected_s(request.target, request.fetch.span.size_bytes) or 0.0
        return max(HEDGE_FROM_S, HEDGE_TIMES * usual_s) - (self._clock() - request.asked_at)
