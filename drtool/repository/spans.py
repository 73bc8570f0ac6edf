"""Spans: neighbouring blocks of packs that are fetched with one request. Pure.

Invariants
    A span belongs to one pack, and is no longer than `SPAN_BYTES` unless it is one block. It contains only needed
    blocks, except for gaps of up to `GAP_BYTES` each.
    A request to a target begins and ends on the grid of `GRID_BYTES`, or with the pack. So the target cannot see where
    blocks begin and end, and thus how long the chunks of a file are.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence

from msgspec import Struct

from drtool.model import PackId
from drtool.packing import Location, SegmentPack

SPAN_BYTES = 8 << 20
GAP_BYTES = 128 << 10
GRID_BYTES = 16 << 10
"""A request reads this much extra on average: 1.6 % of a block of 1 MiB."""

Key = tuple[PackId, int]


class Span(Struct, eq=False):
    """Neighbouring blocks of one pack by number, each with its start and length in bytes of the pack."""

    pack: SegmentPack
    blocks: dict[int, tuple[int, int]]
    start: int
    end: int

    @property
    def size_bytes(self) -> int:
        return self.end - self.start


def spans_of(locations: Iterable[Location], known: Callable[[Key], bool]) -> Iterator[Span]:
    """Yield the blocks of some chunks as spans, pack by pack in the order of need, except those that are `known`.

    Within a pack they are ordered by position. Small chunks are bundled, so blocks are not stored in the order of a
    file.
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
    """Return the bounds to read for a part of a pack."""
    return start - start % GRID_BYTES, max(end, min(pack.size_bytes, end + -end % GRID_BYTES))


def _joins(span: Span, start: int, length: int) -> bool:
    return start <= span.end + GAP_BYTES and start + length - span.start <= SPAN_BYTES
