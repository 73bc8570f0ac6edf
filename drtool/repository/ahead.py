"""Blocks that will be needed soon, fetched while others are worked on: neighbours together, several requests at once.

For a process that does not fork any more: it runs threads. What is fetched here is sealed; whoever takes it opens it, and goes
the ordinary way where it does not open.

Invariants
    No more than `AHEAD_BYTES` are held or under way, whatever is expected.
    What fails here is nobody's error: the block is asked for again, from any copy, when it is needed.
"""

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait

from msgspec import Struct

from drtool.errors import DrtoolError
from drtool.model import PackId, TargetName, pack_object
from drtool.packing import Location, SegmentPack
from drtool.repository.pace import Pace
from drtool.repository.targets import Targets

SPAN_BYTES = 8 << 20
GAP_BYTES = 128 << 10
AHEAD_BYTES = 32 << 20
REQUESTS_MAX = 4
HEDGE_FROM_S = 1.0
HEDGE_TIMES = 3.0
HEDGES_FREE = 4
HEDGES_SHARE = 0.05

Key = tuple[PackId, int]


class Span(Struct, eq=False):
    """Neighbouring blocks of one pack, by number, with where each begins and how long it is, in bytes of the pack."""

    pack: SegmentPack
    blocks: dict[int, tuple[int, int]]
    start: int
    end: int

    @property
    def size_bytes(self) -> int:
        return self.end - self.start


def spans_of(locations: Iterable[Location], known: Callable[[Key], bool]) -> Iterator[Span]:
    """The blocks in which some chunks lie, neighbours together, pack by pack in the order of need; none that is `known`.

    Within a pack by position: small chunks are bundled, so blocks do not lie in the order in which a file needs them.
    """
    packs: dict[PackId, SegmentPack] = {}
    wanted: dict[PackId, set[int]] = {}
    for location in locations:
        if not known((location.pack.pack, location.block)):
            packs[location.pack.pack] = location.pack
            wanted.setdefault(location.pack.pack, set()).add(location.block)
    for name, pack in packs.items():
        yield from _spans_in(pack, sorted(wanted[name]))


def _spans_in(pack: SegmentPack, blocks: Sequence[int]) -> Iterator[Span]:
    span: Span | None = None
    for block in blocks:
        start, length = pack.span(block)
        if span is not None and _joins(span, start, length):
            span.blocks[block], span.end = (start, length), start + length
            continue
        if span is not None:
            yield span
        span = Span(pack, {block: (start, length)}, start, start + length)
    if span is not None:
        yield span


def _joins(span: Span, start: int, length: int) -> bool:
    return start <= span.end + GAP_BYTES and start + length - span.start <= SPAN_BYTES


class _Fetch(Struct, eq=False):
    """One span on its way: from which targets it may come, and the requests for it."""

    span: Span
    order: Sequence[TargetName]
    requests: "dict[Future[tuple[bytes, float]], TargetName]"
    data: memoryview | None = None
    asked_at: float = 0.0


class ReadAhead:
    """Takes what will be needed, in order; gives sealed blocks. For one thread."""

    def __init__(
        self,
        targets: Targets,
        order: Callable[[SegmentPack], Sequence[TargetName]],
        pace: Pace,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._targets, self._order, self._pace, self._clock = targets, order, pace, clock
        self._threads: ThreadPoolExecutor | None = None
        self._waiting: deque[_Fetch] = deque()
        self._begun: list[_Fetch] = []
        self._expected: dict[Key, _Fetch] = {}
        self.requests = self.hedges = 0

    def expect(self, locations: Iterable[Location]) -> list[Key]:
        """These will be needed next, in this order; what to `drop` afterwards. Packs that a directory of this host has are not
        fetched: reading them is faster than handing them on.
        """
        keys: list[Key] = []
        for span in spans_of(locations, self._expected.__contains__):
            order = self._order(span.pack)
            if not order or self._targets.near(order[0]):
                continue
            fetch = _Fetch(span, order, {})
            self._waiting.append(fetch)
            for block in span.blocks:
                self._expected[span.pack.pack, block] = fetch
                keys.append((span.pack.pack, block))
        self._start()
        return keys

    def take(self, pack: SegmentPack, block: int) -> bytes | None:
        """A sealed block, which is then not held any more; None if it has to be asked for."""
        fetch = self._expected.pop((pack.pack, block), None)
        if fetch is None:
            return None
        if fetch in self._waiting:
            self._waiting.remove(fetch)
            self._begin(fetch)
        if fetch.data is None:
            fetch.data = self._awaited(fetch)
        at, length = fetch.span.blocks.pop(block)
        sealed = bytes(fetch.data[at - fetch.span.start :][:length])
        self._let_go(fetch)
        return sealed if len(sealed) == length else None

    def drop(self, keys: Iterable[Key]) -> None:
        """These are not needed any more."""
        for pack, block in keys:
            fetch = self._expected.pop((pack, block), None)
            if fetch is not None:
                fetch.span.blocks.pop(block)
                self._let_go(fetch)

    def close(self) -> None:
        if self._threads is not None:
            self._threads.shutdown(wait=False, cancel_futures=True)

    def _let_go(self, fetch: _Fetch) -> None:
        if not fetch.span.blocks:
            if fetch in self._waiting:
                self._waiting.remove(fetch)
            if fetch in self._begun:
                self._begun.remove(fetch)
        self._start()

    def _start(self) -> None:
        while self._waiting and self._has_room(self._waiting[0]):
            self._begin(self._waiting.popleft())

    def _has_room(self, fetch: _Fetch) -> bool:
        if not self._begun:
            return True
        held_bytes = sum(begun.span.size_bytes for begun in self._begun)
        under_way = sum(begun.data is None for begun in self._begun)
        return under_way < REQUESTS_MAX and held_bytes + fetch.span.size_bytes <= AHEAD_BYTES

    def _begin(self, fetch: _Fetch) -> None:
        self._begun.append(fetch)
        fetch.asked_at = self._clock()
        fetch.order = self._pace.order(fetch.order, fetch.span.size_bytes)
        self._ask(fetch, fetch.order[0])

    def _ask(self, fetch: _Fetch, target: TargetName) -> None:
        if self._threads is None:
            self._threads = ThreadPoolExecutor(2 * REQUESTS_MAX, "drtool-ahead")
        self.requests += 1
        self._pace.begin(target)
        fetch.requests[self._threads.submit(self._get, target, fetch.span)] = target

    def _get(self, target: TargetName, span: Span) -> tuple[bytes, float]:
        began_at = self._clock()
        data = self._targets.store(target).get(pack_object(span.pack.pack), span.start, span.size_bytes)
        return data, self._clock() - began_at

    def _awaited(self, fetch: _Fetch) -> memoryview:
        """The first answer. One that takes far longer than usual is asked for elsewhere as well."""
        others = iter(fetch.order[1:])
        while fetch.requests:
            done, _ = wait(fetch.requests, timeout=self._patience_s(fetch), return_when=FIRST_COMPLETED)
            for future in done:
                target = fetch.requests.pop(future)
                self._pace.end(target)
                try:
                    data, seconds = future.result()
                except DrtoolError:
                    continue  # said when the block is asked for in the ordinary way
                self._pace.note(target, len(data), seconds)
                self._forget(fetch)
                return memoryview(data)
            if not done and (other := next(others, None)) is not None and not self._targets.near(other):
                self.hedges += 1
                self._ask(fetch, other)
        return memoryview(b"")

    def _patience_s(self, fetch: _Fetch) -> float | None:
        """How long to wait for this answer alone; None: for ever, since enough was asked for twice."""
        allowed = HEDGES_FREE + HEDGES_SHARE * self.requests
        if len(fetch.requests) > 1 or self.hedges >= allowed or len(fetch.order) < 2:
            return None
        usual_s = self._pace.expected_s(fetch.order[0], fetch.span.size_bytes) or 0.0
        return max(0.0, max(HEDGE_FROM_S, HEDGE_TIMES * usual_s) - (self._clock() - fetch.asked_at))

    def _forget(self, fetch: _Fetch) -> None:
        """The answers that come too late are nobody's; the slow ones are remembered as slow."""
        for target in fetch.requests.values():
            self._pace.end(target)
            self._pace.note(target, fetch.span.size_bytes, self._clock() - fetch.asked_at)
        fetch.requests.clear()
