"""Reading of objects, blocks and chunks: the best copy first, and the next one if it fails.

Invariants
    Nothing unauthenticated is returned. Segments are checked by name, and blocks by their seal under the header in the
    index, since a target's own header would let it pass one pack off as another.
    A copy that failed is recorded with its target and reason, and from then on used only as a last resort.
    If no copy is left, servers that stopped answering are waited for, longer than during a backup, since a restore
    needs the data.
"""

import time
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import suppress
from itertools import count

from msgspec import Struct

from drtool.crypto import Keyring, Opener, SealKind, object_name
from drtool.errors import DrtoolError, FormatError, KeyMissing, ObjectMissing, SealBroken, StoreError
from drtool.model import Buffer, ChunkId, PackId, SegmentId, SiteName, TargetName, pack_object, segment_object
from drtool.packing import Location, SegmentPack
from drtool.packing.pack import decompress
from drtool.packing.segment import SEGMENT_BYTES_MAX
from drtool.repository.ahead import ReadAhead
from drtool.repository.pace import Pace, is_failure
from drtool.repository.placement import reading_order
from drtool.repository.spans import Key, on_grid
from drtool.repository.targets import Targets
from drtool.ring import Placement

BLOCKS_CACHED = 8
PATIENCE_OF_READERS = 4.0
"""How many times as long as a writer a reader waits."""
USUAL_BYTES = 1 << 20
"""About a block: the size for which copies are compared before the amount to read is known."""
INDEX_PREFIX = "index/"


class BadCopy(Struct, frozen=True):
    """One copy of an object that could not be used, and why."""

    target: TargetName
    object: str
    reason: str
    missing: bool
    damaged: bool = False
    """Whether the target returned wrong bytes, rather than none."""
    may_return: bool = False
    """Whether its server did not answer, so that asking again later may help."""


def _bad(target: TargetName, name: str, error: DrtoolError, *, may_return: bool = False) -> BadCopy:
    damaged = isinstance(error, (SealBroken, FormatError)) and not isinstance(error, KeyMissing)
    return BadCopy(target, name, error.message, isinstance(error, ObjectMissing), damaged, may_return)


class ObjectReader:
    """Fetches whole objects and blocks from any target with a good copy."""

    def __init__(
        self,
        targets: Targets,
        keyring: Keyring,
        placement: Placement | None = None,
        sites: Collection[SiteName] | None = None,
    ) -> None:
        self._targets = targets
        self._keyring = keyring
        self.placement = placement
        self.sites = sites
        self.bad_copies: dict[tuple[TargetName, str], BadCopy] = {}
        self.unreadable: set[str] = set()
        """Objects with a part whose every copy failed."""
        self.pace = Pace()
        self._openers: OrderedDict[PackId, Opener] = OrderedDict()

    def segment(self, segment: SegmentId) -> bytes:
        """Return a sealed index segment, checked by its name."""

        def read(target: TargetName) -> bytes:
            # bounded: a site that sends without end fails the check below instead of filling the memory
            data = self._targets.store(target).get(segment_object(segment), 0, 2 * SEGMENT_BYTES_MAX)
            if object_name(data) != segment:
                raise SealBroken("its content does not match its name")
            return data

        order = self.placement.metadata(segment) if self.placement else ()
        return self._first_good(segment_object(segment), order, segment, read)

    def block(self, pack: SegmentPack, block: int) -> bytes:
        """Return a block's text."""
        start, length = pack.span(block)

        def read(target: TargetName) -> bytes:
            return self.opened(pack, block, self._part(target, pack, start, length))

        return self._first_good(pack_object(pack.pack), pack.targets, pack.pack, self._timed(read, length))

    def opened(self, pack: SegmentPack, block: int, sealed: Buffer) -> bytes:
        """Return the text of a sealed block. `SealBroken` if it is another, or damaged."""
        _, codec, text_length = pack.blocks[block]
        return decompress(codec, self._opener(pack).part(block, sealed), text_length)

    def stretch(self, pack: SegmentPack, needed: int, blocks: range) -> dict[int, bytes]:
        """Return a sealed block that opens, and unchecked neighbours, read at once."""
        spans = {block: pack.span(block) for block in blocks}
        start, size_bytes = spans[blocks[0]][0], sum(length for _, length in spans.values())

        def sealed(data: Buffer, block: int) -> Buffer:
            at, length = spans[block]
            return memoryview(data)[at - start :][:length]

        def read(target: TargetName) -> bytes:
            data = self._part(target, pack, start, size_bytes)
            self.opened(pack, needed, sealed(data, needed))
            return bytes(data)

        data = self._first_good(pack_object(pack.pack), pack.targets, pack.pack, self._timed(read, size_bytes))
        return {block: bytes(sealed(data, block)) for block in blocks}

    def _part(self, target: TargetName, pack: SegmentPack, start: int, size_bytes: int) -> memoryview:
        """Return a part of a pack from a target, requested on the grid.

        On a disk a neighbour on the grid may be unreadable. Then exactly this part is read.
        """
        name, store = pack_object(pack.pack), self._targets.store(target)
        first, last = on_grid(pack, start, start + size_bytes)
        try:
            data = store.get(name, first, last - first)
        except StoreError as error:
            if error.transient or isinstance(error, ObjectMissing) or not self._targets.near(target):
                raise
            return memoryview(store.get(name, start, size_bytes))
        return memoryview(data)[start - first :][:size_bytes]

    def note_bad(self, copies: Iterable[BadCopy]) -> None:
        """Add copies that another process of this run could not use."""
        for bad in copies:
            self.bad_copies.setdefault((bad.target, bad.object), bad)

    def is_far(self, pack: SegmentPack) -> bool:
        """Return whether no directory of this host should have it."""
        return not any(self._targets.reachable(t) and self._targets.near(t) for t in pack.targets)

    def good_order(self, pack: SegmentPack) -> list[TargetName]:
        """Return where a pack may be read from, best first, without the copies that failed before."""
        name = pack_object(pack.pack)
        return [target for target in self._order(pack.targets, pack.pack) if (target, name) not in self.bad_copies]

    def ahead(self) -> ReadAhead | None:
        """Return a readahead for a process that no longer forks, or None if all targets are directories."""
        if all(map(self._targets.near, self._targets.online())):
            return None
        return ReadAhead(self._targets, self.good_order, self.pace)

    def _timed(self, read: Callable[[TargetName], bytes], size_bytes: int) -> Callable[[TargetName], bytes]:
        """Return the same function, which across a network records its duration or its failure."""

        def timed(target: TargetName) -> bytes:
            if self._targets.near(target):
                return read(target)
            began_at = time.monotonic()
            try:
                data = read(target)
            except DrtoolError as error:
                if is_failure(error):
                    self.pace.fail(target)
                raise
            self.pace.note(target, size_bytes, time.monotonic() - began_at)
            return data

        return timed

    def _opener(self, pack: SegmentPack) -> Opener:
        opener = self._openers.get(pack.pack)
        if opener is None:
            opener = self._openers[pack.pack] = self._keyring.opener(SealKind.PACK, pack.header)
            if len(self._openers) > 64:
                self._openers.popitem(last=False)
        return opener

    def _first_good(
        self, name: str, hint: Sequence[TargetName], ring_key: bytes, read: Callable[[TargetName], bytes]
    ) -> bytes:
        for attempt in count():
            for target in self._good_first(name, hint, ring_key):
                try:
                    data = read(target)
                except DrtoolError as error:
                    may_return = self._targets.may_return(target, error)
                    self.bad_copies[target, name] = _bad(target, name, error, may_return=may_return)
                else:
                    self._targets.answered(target)
                    return data
            if not self._wait_for_copies(name, attempt):
                break
        self.unreadable.add(name)
        raise DrtoolError(f"no good copy of {name} can be reached ({self._why(name)})", hint=self._what_next(name))

    def _wait_for_copies(self, name: str, attempt: int) -> bool:
        """Wait for the servers that may have a good copy. Return False if there are none, or after a long wait."""
        away = [bad for bad in self.bad_copies.values() if bad.object == name and bad.may_return]
        silent = {bad.target: bad.reason for bad in away}
        silent |= {target: self._targets.failures.get(target, "it is offline") for target in self._targets.parted()}
        why = "; ".join(f"{target}: {reason}" for target, reason in silent.items())
        if not self._targets.wait_for(silent, attempt, why, PATIENCE_OF_READERS):
            return False
        for bad in away:
            del self.bad_copies[bad.target, name]
        return True

    def _good_first(self, name: str, hint: Sequence[TargetName], ring_key: bytes) -> Iterator[TargetName]:
        """Yield targets, with failed copies last: another of a pack's blocks may be whole only there."""
        doubtful = []
        for target in self._order(hint, ring_key):
            bad = self.bad_copies.get((target, name))
            if bad is None:
                yield target
            elif not bad.missing:
                doubtful.append(target)
        yield from doubtful

    def _order(self, hint: Sequence[TargetName], ring_key: bytes) -> Iterator[TargetName]:
        """Yield directories of this host as they come, then servers by how fast they have answered."""
        ring = self.placement.preference(PackId(ring_key)) if self.placement else iter(())
        everything = [*ring, *self._targets.online()]
        order = list(reading_order(hint, everything, self._targets.reachable, self.sites))
        yield from (target for target in order if target in hint and self._targets.near(target))
        yield from self.pace.order(
            [target for target in order if target in hint and not self._targets.near(target)], USUAL_BYTES
        )
        yield from (target for target in order if target not in hint)

    def _why(self, name: str) -> str:
        reasons = [f"{bad.target}: {bad.reason}" for bad in self.bad_copies.values() if bad.object == name]
        reasons += [f"{t}: offline" for t in self._targets.specs if not self._targets.reachable(t)]
        return "; ".join(reasons) or "no target is reachable"

    def _what_next(self, name: str) -> str:
        if name.startswith(INDEX_PREFIX):
            return "`drtool repair` stores it again, or rebuilds it from the packs"
        return "bring the missing targets back, or run `drtool verify` to see what else is affected"


class ChunkReader:
    """Reads chunks by id, through the index, from any pack that holds them. It caches the last few opened blocks."""

    def __init__(
        self,
        locations: Callable[[ChunkId], Iterator[Location]],
        objects: ObjectReader,
        ahead: ReadAhead | None = None,
    ) -> None:
        self._locations = locations
        self._objects = objects
        self._ahead = ahead
        self._blocks: OrderedDict[tuple[PackId, int], bytes] = OrderedDict()

    def __call__(self, chunk: ChunkId) -> bytes:
        """Return the chunk's text. DrtoolError if it is not in the index, or no good copy can be obtained."""
        failure: DrtoolError | None = None
        for location in self._locations(chunk):
            try:
                return self.at(location)
            except DrtoolError as error:
                failure = failure or error
        raise failure or DrtoolError(
            f"chunk {chunk.hex()[:16]}… is in no index segment that can be read",
            hint="`drtool repair` rebuilds the index from the existing packs (bring missing targets back first)",
        )

    def at(self, location: Location) -> bytes:
        text = self.block(location.pack, location.block)
        return text[location.offset : location.offset + location.length]

    def block(self, pack: SegmentPack, number: int) -> bytes:
        key = (pack.pack, number)
        text = self._blocks.get(key)
        if text is None:
            text = self._blocks[key] = self._fetched(pack, number)
            if len(self._blocks) > BLOCKS_CACHED:
                self._blocks.popitem(last=False)
        else:
            self._blocks.move_to_end(key)
        return text

    def expect(self, chunks: Iterable[ChunkId]) -> list[Key]:
        """Announce the next chunks, in order, and return the keys to pass to `drop` afterwards."""
        if self._ahead is None:
            return []
        places = (next(iter(self._locations(chunk)), None) for chunk in chunks)
        return self._ahead.expect(
            place for place in places if place is not None and (place.pack.pack, place.block) not in self._blocks
        )

    def drop(self, expected: Iterable[Key]) -> None:
        """Release blocks that were announced but not read."""
        if self._ahead is not None:
            self._ahead.drop(expected)

    def _fetched(self, pack: SegmentPack, number: int) -> bytes:
        sealed = self._ahead.take(pack, number) if self._ahead is not None else None
        if sealed is not None:
            with suppress(DrtoolError):  # that copy is damaged: the ordinary path finds its target, and asks others
                return self._objects.opened(pack, number, sealed)
        return self._objects.block(pack, number)
