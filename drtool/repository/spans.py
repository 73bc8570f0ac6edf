"""Which neighbouring blocks of packs are fetched with one request: PURE.

Invariants
    A span is of one pack, no longer than `SPAN_BYTES` unless it is one block; nothing lies in it that is not needed, but for gaps
    of up to `GAP_BYTES` each.
    A request to a target begins and ends on the grid of `GRID_BYTES`, or with the pack: the target does not see where blocks
    begin and end, nor so how long the chunks of a file are.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence

from msgspec import Struct

from drtool.model import PackId
from drtool.packing import Location, SegmentPack

SPAN_BYTES = 8 << 20
GAP_BYTES = 128 << 10
GRID_BYTES = 16 << 10
"""A request reads so much too much on average: 1.6 % of a block of 1 MiB."""

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


def on_grid(pack: SegmentPack, start: int, end: int) -> tuple[int, int]:
    """Where to begin and end reading, for a part of a pack."""
    return start - start % GRID_BYTES, max(end, min(pack.size_bytes, end + -end % GRID_BYTES))


def _joins(span: Span, start: int, length: int) -> bool:
    return start <= span.end + GAP_BYTES and start + length - span.start <= SPAN_BYTES
