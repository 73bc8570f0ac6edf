"""The feeder of the restore's workers: windows of small files in pack order, and large files in parts."""

import errno
import os
from bisect import bisect_right
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Protocol

from msgspec.structs import replace

from drtool.errors import DrtoolError
from drtool.model import ChunkId
from drtool.operations.restore.files import (
    TAKEN,
    FileRestorer,
    failure,
    finish_beside,
    not_captured,
    replaced_parts,
    words,
)
from drtool.operations.restore.messages import (
    FilePut,
    FilesOfFolder,
    FilesPut,
    PartPut,
    PutFiles,
    PutPart,
    Reply,
    Request,
    reply_decoder,
    request_decoder,
)
from drtool.operations.restore.request import Overwrite
from drtool.operations.restore.worker import RestoreWorker
from drtool.packing import Location
from drtool.repository import Repository
from drtool.repository.workers import Channel, WorkerPool
from drtool.sources.filesystem import Folder
from drtool.trees import Entry, read_content

SMALL_FILE_BYTES = 4 * 1024 * 1024
WINDOW_FILES = 4096
WINDOW_BYTES = 64 * 1024 * 1024
BATCH_FILES = 128
BATCH_BYTES = 2 * 1024 * 1024
FAR_BATCH_FILES = 512
FAR_BATCH_BYTES = 8 * 1024 * 1024
"""Across a network, the data of one batch is requested together, since each request costs a round trip."""
BATCH_MESSAGE_BYTES = 40 * 1024
PART_BYTES = 16 * 1024 * 1024

Place = tuple[tuple[bytes, ...], Entry]


class Ended(Protocol):
    """The receiver of results."""

    def ended(self, names: tuple[bytes, ...], entry: Entry, put: FilePut) -> None: ...


def _folder(place: Place) -> tuple[bytes, ...]:
    return place[0]


def _message_bytes(place: Place) -> int:
    """Return the approximate size of a file in a request, and in a reply with a complaint about each attribute."""
    names, entry = place
    attributes = sum(96 + len(name) + len(value) for name, value in entry.xattrs)
    return 160 + len(entry.name) + len(entry.content) + sum(map(len, names)) + attributes


class _LargeFile:
    """A file that workers write in parts, under a temporary name. It and its directory stay open until it is complete.

    So the temporary file is found again, and no other restore treats it as abandoned, even if the directory is renamed.
    """

    def __init__(
        self, folder: Folder, names: tuple[bytes, ...], entry: Entry, change: str, what: tuple[str, ...]
    ) -> None:
        self.folder, self.names, self.entry = folder, names, entry
        self.change, self.what = change, what
        self.fd, self.temporary = folder.create_beside(entry)
        self.missing = 0
        self.handed_over = False
        self.written_bytes = self.done_bytes = 0
        self.error = ""
        self.full = False

    def close(self) -> None:
        os.close(self.fd)
        self.folder.close()

    def discard(self) -> None:
        """Remove the temporary file."""
        with suppress(OSError):  # its directory was removed, and the file with it
            self.folder.discard(self.temporary)


def _holes_within(holes: tuple[tuple[int, int], ...], start: int, end: int) -> tuple[tuple[int, int], ...]:
    first = max(bisect_right(holes, (start, 1 << 63)) - 1, 0)
    return holes[first : bisect_right(holes, (end, 0))]


class Feeder:
    """The restore's side of its worker pool. Create it while no thread runs, since it forks."""

    def __init__(
        self,
        repository: Repository,
        root: Folder,
        overwrite: Overwrite | None,
        workers: int,
        files: FileRestorer,
        results: Ended,
        tick: Callable[[], None],
    ) -> None:
        self._repository = repository
        self._root = root
        self._overwrite = overwrite
        self._files = files
        self._results = results
        self._tick = tick
        self._window: list[Place] = []
        self._window_bytes = 0
        self._next_task = 0
        self._open_tasks: deque[int] = deque()
        self._done: set[int] = set()
        self._batches: dict[int, list[Place]] = {}
        self._parts: dict[int, tuple[_LargeFile, int]] = {}
        self.in_work: tuple[bytes, ...] = ()
        """The path of the file that was handed over last."""
        self._unfinished: set[_LargeFile] = set()
        near = all(map(repository.targets.near, repository.targets.online()))
        self._batch_files, self._batch_bytes = (
            (BATCH_FILES, BATCH_BYTES) if near else (FAR_BATCH_FILES, FAR_BATCH_BYTES)
        )

        def serve(channel: Channel[Reply, Request]) -> None:
            RestoreWorker(repository, root, overwrite).serve(channel)

        self._pool: WorkerPool[Request, Reply] = WorkerPool(
            workers, serve, request_decoder(), reply_decoder(), self._idle
        )

    def _idle(self) -> None:
        self._repository.targets.announce()
        self._tick()

    def take(self, names: tuple[bytes, ...], entry: Entry) -> None:
        """Accept one regular file without other names."""
        if entry.content_depth or entry.size_bytes > SMALL_FILE_BYTES:
            self._send_window()  # the waiting files were promised the next numbers
            self._large(names, entry)
            return
        self._window.append((names, entry))
        self._window_bytes += entry.size_bytes
        if len(self._window) >= WINDOW_FILES or self._window_bytes >= WINDOW_BYTES:
            self._send_window()

    def last_task(self) -> int:
        """Return the number of the last job for everything taken so far, including files waiting in the window."""
        return self._next_task + len(self._window)

    def done_up_to(self) -> int:
        """Return the number up to which every job is done."""
        return (self._open_tasks[0] - 1) if self._open_tasks else self._next_task

    def unfinished_bytes(self) -> tuple[int, int]:
        """Return the bytes of incomplete large files that are in place, and how many of them were written."""
        files = self._unfinished
        return sum(file.done_bytes for file in files), sum(file.written_bytes for file in files)

    def finish(self) -> None:
        self._send_window()
        for reply in self._pool.drain():
            self._handle(reply)
            self._tick()

    def close(self) -> None:
        """End the workers, and after an interruption also the unfinished large files."""
        self._pool.close()
        for file in self._unfinished:
            file.discard()
            file.close()
        self._unfinished.clear()

    def _send_window(self) -> None:
        """Send the window. Jobs are numbered so that a window of n files never takes more than n of them."""
        window = sorted(self._window, key=self._position)
        reserved = self._next_task + len(window)
        self._window, self._window_bytes = [], 0
        batch: list[Place] = []
        size_bytes = message_bytes = 0
        for place in window:
            batch.append(place)
            size_bytes += place[1].size_bytes
            message_bytes += _message_bytes(place)
            if (
                len(batch) >= self._batch_files
                or size_bytes >= self._batch_bytes
                or message_bytes >= BATCH_MESSAGE_BYTES
            ):
                self._send_batch(batch)
                batch, size_bytes, message_bytes = [], 0, 0
        if batch:
            self._send_batch(batch)
        self._next_task = reserved

    def _position(self, place: Place) -> tuple[bytes, int, int]:
        location = self._first_location(place[1])
        return (location.pack.pack, location.block, location.offset) if location else (b"", 0, 0)

    def _first_location(self, entry: Entry) -> Location | None:
        if not entry.content:
            return None
        return self._repository.index.locate(ChunkId(entry.content[:32]))

    def _send_batch(self, batch: list[Place]) -> None:
        folders: list[FilesOfFolder] = []
        batch.sort(key=_folder)  # a batch's few blocks stay open; each folder is then opened once
        for names, entry in batch:
            if not folders or folders[-1].folder != names:
                folders.append(FilesOfFolder(names, []))
            folders[-1].files.append(entry)
        task = self._task()
        self._batches[task] = batch
        self.in_work = (*batch[-1][0], batch[-1][1].name)
        self._submit(PutFiles(task, folders))

    def _task(self) -> int:
        self._next_task += 1
        self._open_tasks.append(self._next_task)
        return self._next_task

    def _submit(self, request: Request) -> None:
        for reply in self._pool.submit(request):
            self._handle(reply)
        for reply in self._pool.ready():
            self._handle(reply)
        self._tick()

    def _handle(self, reply: Reply) -> None:
        self._repository.objects.note_bad(reply.damaged)
        match reply:
            case FilesPut():
                self._root.applier.labels_not_set += reply.labels_not_set
                self._root.applier.times_rounded += reply.times_rounded
                for (names, entry), put in zip(self._batches.pop(reply.task), reply.files, strict=True):
                    self._results.ended(names, entry, put)
            case PartPut():
                file, size_bytes = self._parts.pop(reply.task)
                file.done_bytes += size_bytes
                file.written_bytes += reply.written_bytes
                file.error = file.error or reply.error
                file.full = file.full or reply.full
                file.missing -= 1
                self._complete(file)
        self._mark_done(reply.task)

    def _mark_done(self, task: int) -> None:
        self._done.add(task)
        while self._open_tasks and self._open_tasks[0] in self._done:
            self._done.discard(self._open_tasks.popleft())

    def _large(self, names: tuple[bytes, ...], entry: Entry) -> None:
        try:
            put = self._begin_large(names, entry)
        except (OSError, DrtoolError) as error:
            put = failure(error)
        if put is not None:
            self._results.ended(names, entry, put)

    def _begin_large(self, names: tuple[bytes, ...], entry: Entry) -> FilePut | None:
        """Hand a large file over in parts. Return its result if it is known at once."""
        if missing := not_captured(entry):
            return FilePut(error=missing)
        folder = Folder(self._root.descend(names), self._root.applier, existed=True)
        try:
            file = self._opened_large(folder, names, entry)
        except BaseException:
            folder.close()
            raise
        if isinstance(file, FilePut):
            folder.close()
            return file
        self._unfinished.add(file)
        self.in_work = (*names, entry.name)
        try:
            self._hand_over(file)
        except DrtoolError as error:
            file.error = words(error)
        file.handed_over = True
        self._complete(file)
        return None

    def _opened_large(self, folder: Folder, names: tuple[bytes, ...], entry: Entry) -> _LargeFile | FilePut:
        """Return the temporary file to write, or the result if nothing is to be written."""
        found = folder.stat(entry.name)
        if found is None:
            return _LargeFile(folder, names, entry, "new", ())
        if self._overwrite == "never":
            return FilePut(skipped=True)
        if self._overwrite is None:
            return FilePut(error=TAKEN)
        if found.st_mode >> 12 == entry.type and self._files.content_holds(folder, entry, found):
            return self._files.correct(folder, entry)
        return _LargeFile(folder, names, entry, "changed", replaced_parts(folder, entry, found))

    def _hand_over(self, file: _LargeFile) -> None:
        light = replace(file.entry, content=b"", xattrs=())
        ids: list[bytes] = []
        offset = part_offset = 0
        for chunk in read_content(file.entry, self._repository.trees):
            if file.entry.holes and (size_bytes := self._files.hole_of(file.entry, offset, chunk)):
                if ids:
                    self._part(file, light, part_offset, offset, ids)
                ids, offset = [], offset + size_bytes
                part_offset = offset
                continue
            ids.append(chunk)
            offset += self._files.length_of(chunk)
            if offset - part_offset >= PART_BYTES:
                self._part(file, light, part_offset, offset, ids)
                ids, part_offset = [], offset
        if ids:
            self._part(file, light, part_offset, offset, ids)
        if offset != file.entry.size_bytes:
            file.error = f"its chunks hold {offset} bytes, its entry says {file.entry.size_bytes}"

    def _part(self, file: _LargeFile, light: Entry, offset: int, end: int, ids: list[bytes]) -> None:
        task = self._task()
        if light.holes:
            light = replace(light, holes=_holes_within(light.holes, offset, end))
        self._parts[task] = (file, end - offset)
        file.missing += 1
        self._submit(PutPart(task, file.names, file.temporary, light, offset, b"".join(ids)))

    def _complete(self, file: _LargeFile) -> None:
        if file.missing or not file.handed_over:
            return
        put = FilePut(error=file.error, full=file.full)
        try:
            if not file.error:
                put = self._finish_large(file)
        except OSError as error:
            put = failure(error)
        if put.error:
            file.discard()
        file.close()
        self._unfinished.discard(file)
        self._results.ended(file.names, file.entry, put)

    def _finish_large(self, file: _LargeFile) -> FilePut:
        os.ftruncate(file.fd, file.entry.size_bytes)  # nothing is written for a hole at the end
        if self._overwrite is None and file.folder.stat(file.entry.name) is not None:
            raise OSError(errno.EEXIST, TAKEN)
        self._check_place(file)
        problems = finish_beside(file.folder, file.fd, file.temporary, file.entry)
        problems += file.folder.applier.lock(file.fd, file.entry)
        return FilePut(file.written_bytes, problems=problems, change=file.change, what=file.what)

    def _check_place(self, file: _LargeFile) -> None:
        """Raise OSError if the names no longer lead to the directory in which the file was begun."""
        with Folder(self._root.descend(file.names), self._root.applier, existed=False) as now:
            if not os.path.sameopenfile(now.fd, file.folder.fd):
                raise OSError(errno.ESTALE, "another directory replaced the one that it is in")
