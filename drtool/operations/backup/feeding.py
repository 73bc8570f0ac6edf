"""The feeder of the workers: small files in batches, and large ones cut here and passed on in shared memory.

Invariants
    A file is read by one process, once. The bytes that are cut are the bytes that are stored.
    At most `WINDOW` batches per worker and the slots are in flight, so the walk waits when the workers are behind.
"""

import os
import stat
from collections.abc import Callable, Sequence

from blake3 import blake3
from msgspec.structs import replace

from drtool.errors import DrtoolError
from drtool.model import ChunkId, ChunkKind, SegmentId
from drtool.operations.backup.builder import Node, TreeBuilder
from drtool.operations.backup.claims import Claims
from drtool.operations.backup.messages import (
    DirectoryFiles,
    FileRead,
    FilesRead,
    FileToRead,
    Flush,
    Flushed,
    Learn,
    NewStat,
    PackStored,
    ReadFiles,
    Reply,
    Request,
    SlotStored,
    StoreSlot,
    WorkerFailed,
    reply_decoder,
    request_decoder,
)
from drtool.operations.backup.pieces import LargeFile, Pieces, begins_with
from drtool.operations.backup.scan import Found
from drtool.operations.backup.worker import SLOT_BYTES, SMALL_FILE_BYTES, BackupWorker, Slots
from drtool.packing import Cutter
from drtool.repository import Repository
from drtool.repository.put_meter import PutMeter
from drtool.repository.workers import WINDOW, Channel, WorkerPool
from drtool.repository.writing import PackWritten
from drtool.sources.filesystem import (
    attributes_of,
    gone,
    hole_at,
    is_sparse,
    join,
    new_holes,
    open_for_read,
    open_same_directory,
    same_state,
    stat_between_ticks,
    still_same,
)
from drtool.sources.port import Readable
from drtool.trees import Entry

BATCH_FILES = 256
BATCH_BYTES = 2 * 1024 * 1024
BATCH_MESSAGE_BYTES = 24 * 1024
_ID_BYTES = 32
_UNBOUNDED = 1 << 62
HOLE_BYTES = 16 * 1024 * 1024
"""For a hole of this size its end is looked up. Shorter ones are read."""


Hook = Callable[[], None]


class _Batch:
    """Small files waiting to be handed over, and where their entries are."""

    def __init__(self) -> None:
        self.directories: list[DirectoryFiles] = []
        self.places: list[tuple[Node, int, bool]] = []
        self.size_bytes = 0
        self.message_bytes = 0

    def add(self, node: Node, index: int, follow: bool) -> None:
        entry = node.entries[index]
        if not self.directories or self.directories[-1].path != node.path:
            self.directories.append(DirectoryFiles(node.path, node.inode, []))
            self.message_bytes += len(node.path) + 8
        inode = entry.inode if node.inode else 0
        file = FileToRead(entry.name, follow, entry.size_bytes, entry.mtime_ns, entry.ctime_ns, inode)
        self.directories[-1].files.append(file)
        self.places.append((node, index, follow))
        self.size_bytes += entry.size_bytes
        self.message_bytes += len(entry.name) + 48

    @property
    def full(self) -> bool:
        return (
            len(self.places) >= BATCH_FILES
            or self.size_bytes >= BATCH_BYTES
            or self.message_bytes >= BATCH_MESSAGE_BYTES
        )


class _Prefix:
    """The first bytes of a file, without those that were appended while it was read. Fulfils `Readable`."""

    def __init__(self, fd: int, size_bytes: int, *, sparse: bool) -> None:
        self._fd = fd
        self._left_bytes = size_bytes
        self._sparse = sparse
        self.offset = 0

    def hole_bytes(self) -> int:
        """Return how many bytes from here on are a hole, as far as the file system can tell."""
        return min(hole_at(self._fd, self.offset), self._left_bytes) if self._sparse else 0

    def skip(self, size_bytes: int) -> None:
        """Skip so many bytes of a hole."""
        self.offset += size_bytes
        self._left_bytes -= size_bytes

    def readinto(self, buffer: memoryview, /) -> int:
        got = os.preadv(self._fd, [buffer[: self._left_bytes]], self.offset) if self._left_bytes else 0
        self.offset += got
        self._left_bytes -= got
        return got


class _Counted:
    """A content from any source. While no data comes, the backup's other work goes on."""

    def __init__(self, source: Readable, count: Callable[[int], None], tick: Callable[[], None]) -> None:
        self._source, self._count, self._tick = source, count, tick

    def readinto(self, buffer: memoryview, /) -> int:
        while (got := self._source.readinto(buffer)) is None:
            self._tick()
        self._count(got)
        return got

    def hole_bytes(self) -> int:
        return 0

    def skip(self, size_bytes: int) -> None:
        raise AssertionError(f"a stream has no hole, so none of {size_bytes} bytes is skipped")


def _filled(view: memoryview, carried: bytes, source: "_Prefix | _Counted") -> tuple[int, bool]:
    """Fill a slot with the carried-over and the next bytes. Return how many bytes there are, and whether it has ended."""
    filled, ended = len(carried), False
    view[:filled] = carried
    while filled < SLOT_BYTES and not ended:
        got = source.readinto(view[filled:SLOT_BYTES])
        filled += got
        ended = got == 0
    return filled, ended


class Feeder:
    """The backup's side of its worker pool. Create it while no thread runs, since it forks."""

    def __init__(
        self,
        repository: Repository,
        builder: TreeBuilder,
        workers: int,
        tick: Hook,
        idle: Hook,
        meter: PutMeter,
        ignore_ctime: bool,
    ) -> None:
        """`tick` is called between hand-overs, and `idle`, which must not use the feeder, while no worker answers."""
        self._builder = builder
        self._tick = tick
        self._slots = Slots(workers * WINDOW + 1)
        self._free_slots = list(range(self._slots.count))
        self._claims = Claims()
        self._cutter = Cutter(repository.bounds)
        self._id_key = repository.keyring.id_key(ChunkKind.DATA)
        self._ignore_ctime = ignore_ctime
        self._batch = _Batch()
        self._batches: dict[int, list[tuple[Node, int, bool]]] = {}
        self._pieces: dict[int, tuple[Pieces, int, int]] = {}
        self._grown: list[tuple[Node, int, bool]] = []
        self._flushed: list[Flushed] = []
        self._durable: list[PackWritten] = []
        self._next_task = 0
        self.added_bytes = 0
        self.added_chunks = 0
        self.unread_bytes = 0
        """The bytes of the files that were taken on and are not read yet."""
        self._in_work: tuple[Node, int] | None = None

        def serve(channel: Channel[Reply, Request]) -> None:
            counter = meter.counter(channel.number)
            BackupWorker(repository, self._slots, self._claims, channel, counter).serve()

        self._pool: WorkerPool[Request, Reply] = WorkerPool(
            workers,
            serve,
            request_decoder(),
            reply_decoder(),
            idle,
            is_notice=lambda reply: isinstance(reply, PackStored),
        )

    def take(self, found: Found) -> None:
        """Accept every file of a directory that must be read."""
        node = found.node
        self.unread_bytes += sum(node.entries[index].size_bytes for index in found.fresh)
        for index in found.fresh:
            follow = node.entries[index].name in found.followed
            if node.entries[index].size_bytes > SMALL_FILE_BYTES:
                self._large(node, index, follow=follow)
                continue
            self._batch.add(node, index, follow)
            if self._batch.full:
                self._send_batch()

    def take_content(self, source: Readable, count: Callable[[int], None]) -> Sequence[ChunkId]:
        """Cut and store a content of any length, and wait until all of it has ids. `count` gets the size of each read."""
        pieces = Pieces()
        self._cut(_Counted(source, count, self._tick), pieces)
        while pieces.missing:
            self._handle(self._pool.next_reply())
        return pieces.ids()

    def flush(self) -> Flushed:
        """Wait until everything accepted is durable, and return the targets that failed."""
        self._send_batch()
        for reply in self._pool.drain():
            self._handle(reply)
            self._tick()
        self._take_grown()
        more = True
        while more:
            more = False
            for reply in self._pool.broadcast(Flush()):
                self._handle(reply)
                self._tick()
                more |= isinstance(reply, Flushed) and reply.more
        flushed, self._flushed = self._flushed, []
        failures = {name: why for row in flushed for name, why in row.failures.items()}
        return Flushed(failures, [name for row in flushed for name in row.away])

    def take_durable(self) -> list[PackWritten]:
        """Return the durable packs that were not returned yet."""
        packs, self._durable = self._durable, []
        return packs

    def learn(self, segments: list[SegmentId]) -> None:
        """After a checkpoint, let the workers look chunks up in its segments, and clear the claims."""
        for segment in segments:
            for reply in self._pool.broadcast(Learn(segment)):
                self._handle(reply)
        self._claims.clear()

    def in_work(self) -> str:
        """Return the path of the file that was handed over last."""
        if self._in_work is None:
            return ""
        node, index = self._in_work
        return os.fsdecode(join(node.path, node.entries[index].name))

    def close(self) -> None:
        self._pool.close()

    def _send_batch(self) -> None:
        if self._batch.places:
            task = self._task()
            self._batches[task] = self._batch.places
            self._in_work = self._batch.places[-1][:2]
            request = ReadFiles(task, self._batch.directories)
            self._batch = _Batch()
            self._submit(request)

    def _submit(self, request: Request) -> None:
        for reply in self._pool.submit(request):
            self._handle(reply)
        for reply in self._pool.ready():
            self._handle(reply)
        self._tick()

    def _task(self) -> int:
        self._next_task += 1
        return self._next_task

    def _handle(self, reply: Reply) -> None:
        match reply:
            case FilesRead():
                self.added_bytes += reply.added_bytes
                for (node, index, follow), read in zip(self._batches.pop(reply.task), reply.files, strict=True):
                    self.added_chunks += len(read.ids) // _ID_BYTES
                    self.unread_bytes -= node.entries[index].size_bytes
                    if read.too_large:
                        self._grown.append((node, index, follow))
                    else:
                        self._builder.file_read(node, index, read)
            case SlotStored():
                self.added_bytes += reply.added_bytes
                self.added_chunks += len(reply.ids) // _ID_BYTES
                self._free_slots.append(reply.slot)
                file, part, size_bytes = self._pieces.pop(reply.task)
                file.came(part, reply.ids)
                if isinstance(file, LargeFile):
                    self.unread_bytes -= file.read_more(size_bytes)
                    self._complete_large(file)
            case Flushed():
                self._flushed.append(reply)
            case PackStored():
                self._durable.append(reply.pack)
            case WorkerFailed():
                raise DrtoolError(reply.message, hint=reply.hint)

    def _take_grown(self) -> None:
        """Handle files that were small when they were seen, and no longer are."""
        while self._grown:
            node, index, follow = self._grown.pop()
            self.unread_bytes += node.entries[index].size_bytes
            self._large(node, index, follow=follow)

    def _large(self, node: Node, index: int, *, follow: bool) -> None:
        entry = node.entries[index]
        file = LargeFile(node, index, entry.size_bytes)
        self._in_work = node, index
        try:
            dir_fd = open_same_directory(node.path, node.inode)
            try:
                fd = open_for_read(dir_fd, entry.name, follow=follow)
            finally:
                os.close(dir_fd)
            try:
                file.read = self._read_large(fd, entry, file)
            finally:
                os.close(fd)
        except OSError as error:
            file.read = FileRead(
                error=f"content: {error.strerror or error}", gone=gone(error, join(node.path, entry.name))
            )
        self._complete_large(file)

    def _complete_large(self, file: LargeFile) -> None:
        if file.read is not None and file.missing == 0:
            self.unread_bytes -= file.read_more(file.unread_bytes)
            self._builder.large_file_read(file.node, file.index, file.ids(), file.read)

    def _read_large(self, fd: int, entry: Entry, file: LargeFile) -> FileRead:
        before = stat_between_ticks(fd)
        if not stat.S_ISREG(before.st_mode):
            return FileRead(error="content: it is not a regular file any more")
        length = self._pass(fd, before.st_size or _UNBOUNDED, file)
        after = os.fstat(fd)
        if (
            not before.st_size and not after.st_size
        ):  # the size is not known beforehand, so the data read is the content
            return _described(fd, NewStat.of(after, length))
        if length != before.st_size or not self._is_same_state(before, after):
            return self._read_again(fd, file, before, length)
        new_stat = None if length == entry.size_bytes and still_same(fd, entry) else NewStat.of(before, length)
        return _described(fd, new_stat)

    def _read_again(self, fd: int, file: LargeFile, before: os.stat_result, length: int) -> FileRead:
        """Read a file that changed during the read once more. It is recorded in a state that it had, if one was seen."""
        self._wait_for(file)
        first, last_bytes = file.joined(), file.last_bytes
        file.restart()
        now = stat_between_ticks(fd)
        length_now = self._pass(fd, now.st_size, file)
        if length_now == now.st_size and self._is_same_state(now, os.fstat(fd)):
            return _described(fd, NewStat.of(now, length_now))
        self._wait_for(file)
        if begins_with(file.joined(), first) and self._ends_with(fd, length, last_bytes, first):
            file.restart(first)  # it only grew, or was rewritten with the same data: both passes saw this
            return _described(fd, NewStat.of(before, length))
        return replace(_described(fd, NewStat.of(now, length_now)), torn=True)

    def _wait_for(self, file: LargeFile) -> None:
        while file.missing:
            self._handle(self._pool.next_reply())

    def _is_same_state(self, one: os.stat_result, other: os.stat_result) -> bool:
        return same_state(one, other, ignore_ctime=self._ignore_ctime)

    def _ends_with(self, fd: int, end: int, last_bytes: int, ids: bytes) -> bool:
        """Return whether the last chunk of a first pass is still in the file."""
        text = os.pread(fd, last_bytes, end - last_bytes)
        return blake3(text, key=self._id_key).digest() == ids[-_ID_BYTES:]

    def _pass(self, fd: int, size_bytes: int, file: LargeFile) -> int:
        """Read, cut and hand over up to `size_bytes`, and return how many there were."""
        prefix = _Prefix(fd, size_bytes, sparse=is_sparse(os.fstat(fd)))
        self._cut(prefix, file)
        return prefix.offset

    def _cut(self, source: "_Prefix | _Counted", file: Pieces) -> None:
        """Hand over a content slot by slot. The rest after the last cut comes first in the next slot."""
        carried, ended = b"", False
        while not ended:
            if self._take_hole(source, carried, file):
                carried = b""
            slot = self._free_slot()
            view = self._slots.view(slot)
            try:
                filled, ended = _filled(view, carried, source)
            except BaseException:
                self._free_slots.append(slot)
                raise
            lengths = self._cutter.lengths(view[:filled], final=ended)
            used = sum(lengths)
            carried = bytes(view[used:filled])
            self._hand_over(slot, lengths, file)

    def _take_hole(self, source: "_Prefix | _Counted", carried: bytes, file: Pieces) -> bool:
        """Take a long hole without reading it, together with the carried-over bytes. Return whether there was one.

        Its chunks are those that reading would give: a run of zeros is cut into pieces of one length, regardless of its
        start.
        """
        hole_bytes = source.hole_bytes()
        if hole_bytes < HOLE_BYTES or carried.count(0) != len(carried):
            return False
        length = self._cutter.zeros_bytes()
        # The end of the hole is read, since the end of the last chunk depends on the bytes after it.
        repeats = (len(carried) + hole_bytes - self._cutter.bounds.maximum_bytes) // length
        if repeats < 1:
            return False
        slot = self._free_slot()
        self._slots.view(slot)[:length] = bytes(length)
        self._hand_over(slot, [length], file, repeats)
        source.skip(repeats * length - len(carried))
        return True

    def _hand_over(self, slot: int, lengths: list[int], file: Pieces, repeats: int = 1) -> None:
        task = self._task()
        self._pieces[task] = (file, file.expect(repeats), sum(lengths) * repeats)
        file.last_bytes = lengths[-1] if lengths else file.last_bytes
        self._submit(StoreSlot(task, slot, lengths))

    def _free_slot(self) -> int:
        while not self._free_slots:
            self._handle(self._pool.next_reply())
        return self._free_slots.pop()


def _described(fd: int, new_stat: NewStat | None) -> FileRead:
    """Return the data about a large file besides its chunks."""
    found = attributes_of(fd)
    holes = new_holes(fd, new_stat.size_bytes) if new_stat is not None else ()
    return FileRead(b"", found.xattrs, found.flags, new_stat, uncaptured=found.uncaptured, holes=holes)
