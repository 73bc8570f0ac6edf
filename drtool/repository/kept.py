"""The tree cache: sealed blocks of trees that this host keeps, so that repeated walks are fast.

`trees/<shard>/<pack>-<block>` in the repository's cache holds a block exactly as it is at the targets. In each of
`SHARDS` directories the least recently used blocks are evicted first. Scanning one directory takes a millisecond.

Invariants
    A block is used only after its seal was opened under the header in the index. One that does not open is deleted and
    read from the targets.
    Cache failures are never fatal: a directory that is full, read-only or missing costs time, never an answer.
    The total stays below the limit, except for blocks that other processes add at the same moment. Each process checks
    again after it added an eighth of the limit.
"""

import os
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

from msgspec import Struct

from drtool.errors import DrtoolError
from drtool.model import ChunkId
from drtool.packing import Location, PackKind, SegmentPack
from drtool.repository.cache import TEMPORARY_PREFIX, write_atomically
from drtool.repository.reading import ChunkReader, ObjectReader
from drtool.repository.spans import SPAN_BYTES, Key
from drtool.repository.writing import SealedPack

KEPT_BYTES_MAX = 512 << 20
SHARDS = 16
FIRST_BYTES = 256 << 10
"""How much is read around the first missing block. It doubles for each further one, up to a span."""
_PAGE_BYTES = 4096
_FORGOTTEN_S = 3600.0
"""A temporary file this old was left by a killed process."""


class _Known(Struct):
    """The size of a shard when it was scanned, and what this process has added since."""

    found_bytes: int
    added_bytes: int = 0


class KeptBlocks:
    """Files of one directory, which may vanish or change at any time."""

    def __init__(self, directory: Path, limit_bytes: int = KEPT_BYTES_MAX) -> None:
        self._directory = directory
        self._shard_bytes_max = limit_bytes // SHARDS
        self._known: dict[Path, _Known] = {}

    def get(self, key: Key, size_bytes: int) -> bytes | None:
        """Return a block as the file now has it, or None if there is none of that size."""
        path = self._path(key)
        try:
            data = _read(path, size_bytes)
        except OSError:
            return None
        if data is None:
            self.forget(key)
            return None
        with suppress(OSError):
            os.utime(path)  # so that it is evicted last
        return data

    def has(self, key: Key) -> bool:
        return self._path(key).exists()

    def put(self, key: Key, sealed: bytes) -> bool:
        """Store a block, and return whether it is kept."""
        path, size_bytes = self._path(key), _on_disk(len(sealed))
        if size_bytes > self._shard_bytes_max // 4:  # it would push everything else out
            return False
        try:
            self._make_room(path.parent, size_bytes)
            write_atomically(path, sealed)
        except OSError:
            return False
        self._known[path.parent].added_bytes += size_bytes
        return True

    def put_all(self, pack: SealedPack) -> None:
        """Store every block of a pack that is being written."""
        view = memoryview(pack.data)
        for number, (at, block) in enumerate(zip(pack.contents.offsets(), pack.contents.blocks, strict=True)):
            if not self.put((pack.pack, number), bytes(view[at : at + block.length])):
                return

    def forget(self, key: Key) -> None:
        with suppress(OSError):
            self._path(key).unlink()

    def _path(self, key: Key) -> Path:
        pack, block = key
        return self._directory / f"{(pack[0] + block) % SHARDS:x}" / f"{pack.hex()}-{block}"

    def _make_room(self, shard: Path, size_bytes: int) -> None:
        known = self._known.get(shard)
        if (
            known is None
            or known.found_bytes + known.added_bytes + size_bytes > self._shard_bytes_max
            or known.added_bytes > self._shard_bytes_max // 8
        ):
            self._known[shard] = _Known(_trimmed(shard, self._shard_bytes_max, size_bytes))


def _on_disk(size_bytes: int) -> int:
    return -(-size_bytes // _PAGE_BYTES) * _PAGE_BYTES


def _read(path: Path, size_bytes: int) -> bytes | None:
    """Return a file of that size, or None. It never blocks, regardless of the type of the file."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode) or found.st_size != size_bytes:
            return None
        data = os.read(descriptor, size_bytes)
    finally:
        os.close(descriptor)
    return data if len(data) == size_bytes else None


def _trimmed(shard: Path, limit_bytes: int, more_bytes: int) -> int:
    """Evict the oldest blocks if there is no room for `more_bytes`, and return how much the shard holds."""
    rows = sorted(_files(shard))
    total_bytes = sum(size_bytes for _, size_bytes, _ in rows)
    if total_bytes + more_bytes <= limit_bytes:
        return total_bytes
    for _, size_bytes, path in rows:
        if total_bytes + more_bytes <= limit_bytes * 7 // 8:
            break
        with suppress(FileNotFoundError):
            os.unlink(path)
        total_bytes -= size_bytes
    return total_bytes


def _files(shard: Path) -> Iterator[tuple[int, int, str]]:
    """Yield (last used, bytes, path) of each file, and delete what killed processes left half-written."""
    with suppress(FileNotFoundError), os.scandir(shard) as entries:
        for entry in entries:
            with suppress(FileNotFoundError):
                found = entry.stat(follow_symlinks=False)
                if entry.name.startswith(TEMPORARY_PREFIX) and time.time() - found.st_mtime > _FORGOTTEN_S:
                    os.unlink(entry.path)
                elif not stat.S_ISDIR(found.st_mode):
                    yield found.st_mtime_ns, _on_disk(found.st_size), entry.path


class TreeReader(ChunkReader):
    """Reads chunks of trees and lists by id, and caches blocks from servers.

    Around a missing block its neighbours are read as well, since a walk reads neighbouring directories next and a pack
    of trees holds nothing else.
    """

    def __init__(
        self, locations: Callable[[ChunkId], Iterator[Location]], objects: ObjectReader, kept: KeptBlocks
    ) -> None:
        super().__init__(locations, objects)
        self._kept = kept
        self._beside: dict[Key, bytes] = {}
        """The blocks of the last stretch that could not be cached."""
        self._around_bytes = FIRST_BYTES

    def _fetched(self, pack: SegmentPack, number: int) -> bytes:
        if pack.kind != PackKind.TREES or not self._objects.is_far(pack):
            return super()._fetched(pack, number)
        key = (pack.pack, number)
        sealed = self._beside.pop(key, None) or self._kept.get(key, pack.blocks[number][0])
        if sealed is not None:
            try:
                return self._objects.opened(pack, number, sealed)
            except DrtoolError:  # the targets have the original
                self._kept.forget(key)
        return self._from_targets(pack, number)

    def _from_targets(self, pack: SegmentPack, number: int) -> bytes:
        blocks = self._stretch(pack, number)
        stretch = self._objects.stretch(pack, number, blocks)
        self._beside = {
            (pack.pack, block): sealed
            for block, sealed in stretch.items()
            if not self._kept.put((pack.pack, block), sealed)
        }
        self._beside.pop((pack.pack, number), None)
        self._around_bytes = min(2 * self._around_bytes, SPAN_BYTES)
        return self._objects.opened(pack, number, stretch[number])

    def _stretch(self, pack: SegmentPack, number: int) -> range:
        """Return a block and its missing neighbours on both sides, since a directory's children are stored before it."""
        first, end, room_bytes = number, number + 1, self._around_bytes - pack.blocks[number][0]

        def takes(block: int) -> bool:
            if not 0 <= block < len(pack.blocks) or pack.blocks[block][0] > room_bytes:
                return False
            return not self._kept.has((pack.pack, block))

        while True:
            before = takes(first - 1)
            if before:
                first -= 1
                room_bytes -= pack.blocks[first][0]
            after = takes(end)
            if after:
                room_bytes -= pack.blocks[end][0]
                end += 1
            if not before and not after:
                return range(first, end)
