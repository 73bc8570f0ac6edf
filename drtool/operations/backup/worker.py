"""A backup worker: reads small files or takes pieces of large ones, and stores new chunks.

Invariants
    A file's chunks were read in one pass under one stat. A file that changed meanwhile is read again once, and recorded
    in a state that it had. If it changed again, that is reported.
"""

import mmap
import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import suppress

from blake3 import blake3

from drtool.errors import DrtoolError
from drtool.model import Buffer, ChunkId, ChunkKind, PackId, SegmentId
from drtool.operations.backup.claims import Claims
from drtool.operations.backup.messages import (
    DirectoryFiles,
    FileRead,
    FilesRead,
    FileToRead,
    Flush,
    Flushed,
    Learn,
    Learned,
    NewStat,
    PackStored,
    ReadFiles,
    Reply,
    Request,
    SlotStored,
    StoreSlot,
    WorkerFailed,
)
from drtool.packing import Cutter, PackKind, lazy_buffer
from drtool.repository import Repository
from drtool.repository.put_meter import PutCounter
from drtool.repository.workers import Channel
from drtool.repository.writing import Demand, PackSink, Writer
from drtool.sources.filesystem import (
    attributes_of,
    gone,
    new_holes,
    open_for_read,
    open_same_directory,
    same_state,
    stat_between_ticks,
)

SMALL_FILE_BYTES = 4 * 1024 * 1024
"""Files up to this size are read whole by one worker. Larger ones come in slots."""

SLOT_BYTES = 4 * 1024 * 1024
_PIECE_BYTES = 64 * 1024


class Slots:
    """Shared memory in which the parent passes pieces of large files to the workers. Create it before the fork."""

    def __init__(self, count: int) -> None:
        self.count = count
        self._memory = memoryview(mmap.mmap(-1, count * SLOT_BYTES))

    def view(self, slot: int) -> memoryview:
        return self._memory[slot * SLOT_BYTES : (slot + 1) * SLOT_BYTES]


class BackupWorker:
    """The state of one worker process."""

    def __init__(
        self,
        repository: Repository,
        slots: Slots,
        claims: Claims,
        channel: Channel[Reply, Request],
        meter: PutCounter,
    ) -> None:
        self._repository = repository
        self._channel = channel
        self._slots = slots
        self._claims = claims
        self._targets = repository.targets.reopen()
        writer = Writer(self._targets, leaves_slow=True)
        writer.meter = meter
        self._sink = PackSink(
            repository.keyring,
            writer,
            PackKind.DATA,
            self._demand,
            lambda pack: channel.send(PackStored(pack)),
            pads=repository.pads,
        )
        self._cutter = Cutter(repository.bounds)
        self._id_key = repository.keyring.id_key(ChunkKind.DATA)
        self._buffer = lazy_buffer(SMALL_FILE_BYTES + 1)
        self._added_bytes = 0

    def serve(self) -> None:
        """Answer requests until the pipe closes."""
        while (request := self._channel.receive()) is not None:
            try:
                reply = self._answer(request)
            except DrtoolError as error:
                reply = WorkerFailed(error.message, error.hint)
            self._channel.send(reply)

    def _answer(self, request: Request) -> Reply:
        self._added_bytes = 0
        match request:
            case ReadFiles():
                files = [read for directory in request.directories for read in self._directory(directory)]
                return FilesRead(request.task, files, self._added_bytes)
            case StoreSlot():
                ids = self._store(self._slots.view(request.slot), request.lengths)
                return SlotStored(request.task, request.slot, ids, self._added_bytes)
            case Flush():
                more = self._sink.flush_one()
                return Flushed(*self._targets.new_failures(), more)
            case Learn():
                with suppress(DrtoolError):  # another run merged it meanwhile: at worst its chunks are stored again
                    self._repository.index.map_more(SegmentId(request.segment))
                return Learned()

    def _demand(self, pack: PackId) -> Demand:
        return self._repository.demand(pack, PackKind.DATA)

    def _directory(self, directory: DirectoryFiles) -> Iterator[FileRead]:
        try:
            dir_fd = open_same_directory(directory.path, directory.inode)
        except OSError as error:
            absent = gone(error, directory.path)
            for _ in directory.files:
                yield _failure(error, gone=absent)
            return
        try:
            for file in directory.files:
                yield self._file(dir_fd, file)
        finally:
            os.close(dir_fd)

    def _file(self, dir_fd: int, file: FileToRead) -> FileRead:
        try:
            fd = open_for_read(dir_fd, file.name, follow=file.follow)
        except OSError as error:
            return _failure(error, gone=gone(error, file.name, dir_fd))
        try:
            return self._read(fd, file)
        except OSError as error:
            return _failure(error)
        finally:
            os.close(fd)

    def _read(self, fd: int, file: FileToRead) -> FileRead:
        length = self._fill(fd, file.size_bytes) if file.size_bytes else self._fill_to_end(fd)
        now = os.fstat(fd)
        new_stat = None
        torn = False
        if (
            not file.size_bytes and not now.st_size and length
        ):  # /proc, some FUSE mounts: the size is not known beforehand
            if length > SMALL_FILE_BYTES:
                return FileRead(too_large=True)
            new_stat = NewStat.of(now, length)
        elif length != file.size_bytes or not _as_announced(now, file):
            if not stat.S_ISREG(now.st_mode):
                return FileRead(error="content: it is not a regular file any more")
            if now.st_size > SMALL_FILE_BYTES:
                return FileRead(too_large=True)
            length, new_stat, torn = self._fill_again(fd, length)
        text = self._buffer[:length]
        lengths = [length] if length <= self._cutter.bounds.minimum_bytes else self._cutter.lengths(text, final=True)
        ids = self._store(text, lengths if length else ())
        found = attributes_of(fd)
        holes = new_holes(fd, length) if new_stat is not None else ()
        return FileRead(ids, found.xattrs, found.flags, new_stat, uncaptured=found.uncaptured, holes=holes, torn=torn)

    def _fill_again(self, fd: int, length: int) -> tuple[int, NewStat, bool]:
        """Read a file that differs from its announcement once more, into the buffer, which holds `length` bytes of it.

        Return how much of it to store, with which stat, and whether it may be a state that the file never had.
        """
        first = bytes(self._buffer[:length])
        before = stat_between_ticks(fd)
        length = self._fill(fd, min(before.st_size, SMALL_FILE_BYTES))
        if length == before.st_size and same_state(before, os.fstat(fd)):
            return length, NewStat.of(before, length), False
        if 0 < len(first) <= length and self._buffer[: len(first)] == first:  # it only grew: both reads contained this
            return len(first), NewStat.of(before, len(first)), False
        return length, NewStat.of(before, length), True

    def _fill(self, fd: int, size_bytes: int) -> int:
        """Reads up to `size_bytes` into the buffer, from the start; fewer if the file has shrunk."""
        filled = os.preadv(fd, [self._buffer[:size_bytes]], 0)
        while 0 < filled < size_bytes:
            more = os.preadv(fd, [self._buffer[filled:size_bytes]], filled)
            if more == 0:
                break
            filled += more
        return filled

    def _fill_to_end(self, fd: int) -> int:
        """Read a file of unknown size, as far as the buffer goes. /proc refuses large reads."""
        filled = 0
        while piece := self._buffer[filled : filled + _PIECE_BYTES]:
            got = os.preadv(fd, [piece], filled)
            if got == 0:
                break
            filled += got
        return filled

    def _store(self, text: memoryview, lengths: Sequence[int]) -> bytes:
        ids = []
        start = 0
        for length in lengths:
            chunk = text[start : start + length]
            start += length
            ids.append(self._chunk(chunk))
        return b"".join(ids)

    def _chunk(self, text: Buffer) -> ChunkId:
        chunk = ChunkId(blake3(text, key=self._id_key).digest())
        if self._claims.claim(chunk) and chunk not in self._repository.index:
            self._sink.add(chunk, text)
            self._added_bytes += len(text)
        return chunk


def _as_announced(found: os.stat_result, file: FileToRead) -> bool:
    return (
        found.st_mtime_ns == file.mtime_ns
        and found.st_ctime_ns == file.ctime_ns
        and found.st_size == file.size_bytes
        and file.inode in (0, found.st_ino)
    )


def _failure(error: OSError, *, gone: bool = False) -> FileRead:
    return FileRead(error=f"content: {error.strerror or error}", gone=gone)
