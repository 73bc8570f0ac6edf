"""A restore worker: fetches, opens and writes the files that the restore hands over."""

import os
from collections import deque
from collections.abc import Iterator

from drtool.errors import DrtoolError
from drtool.model import ChunkId, TargetName
from drtool.operations.restore.files import FileRestorer, failure, is_full, words
from drtool.operations.restore.messages import (
    FilePut,
    FilesOfFolder,
    FilesPut,
    PartPut,
    PutFiles,
    PutPart,
    Reply,
    Request,
)
from drtool.operations.restore.request import Overwrite
from drtool.repository import Repository
from drtool.repository.reading import BadCopy, ChunkReader, ObjectReader
from drtool.repository.spans import Key
from drtool.repository.workers import Channel
from drtool.sources.filesystem import Folder

_ID_BYTES = 32


class RestoreWorker:
    """The state of one worker process."""

    def __init__(self, repository: Repository, root: Folder, overwrite: Overwrite | None) -> None:
        objects = ObjectReader(
            repository.targets.reopen(), repository.keyring, repository.placement, repository.objects.sites
        )
        self._objects = objects
        self._reported: set[tuple[TargetName, str]] = set()
        self._chunks = ChunkReader(repository.index.locations, objects, objects.ahead())
        self._files = FileRestorer(repository, self._chunks, overwrite)
        self._root = root

    def serve(self, channel: Channel[Reply, Request]) -> None:
        """Answer requests until the pipe closes. The data of the next one is fetched during the present one."""
        expected: deque[tuple[Request, list[Key]]] = deque()
        while True:
            while not expected or channel.has_more():
                request = channel.receive()
                if request is None:
                    return
                expected.append((request, self._chunks.expect(_chunks_of(request))))
            request, keys = expected.popleft()
            channel.send(self._answer(request))
            self._chunks.drop(keys)

    def _answer(self, request: Request) -> Reply:
        match request:
            case PutFiles():
                applier = self._root.applier
                before, rounded_before = applier.labels_not_set, applier.times_rounded
                files = [put for group in request.folders for put in self._put(group)]
                return FilesPut(
                    request.task,
                    files,
                    self._newly_damaged(),
                    labels_not_set=applier.labels_not_set - before,
                    times_rounded=applier.times_rounded - rounded_before,
                )
            case PutPart():
                return self._part(request)

    def _put(self, group: FilesOfFolder) -> list[FilePut]:
        try:
            folder = Folder(self._root.descend(group.folder), self._root.applier, existed=True)
        except OSError as error:
            return [failure(error) for _ in group.files]
        with folder:
            return [self._files.put(folder, entry) for entry in group.files]

    def _part(self, request: PutPart) -> PartPut:
        try:
            with Folder(self._root.descend(request.folder), self._root.applier, existed=False) as folder:
                fd = folder.open_file(request.name, write=True)
                try:
                    written = self._files.write_part(fd, request.entry, request.offset, list(_ids_in(request.ids)))
                finally:
                    os.close(fd)
        except (OSError, DrtoolError) as error:
            return PartPut(request.task, 0, words(error), is_full(error), self._newly_damaged())
        return PartPut(request.task, written, damaged=self._newly_damaged())

    def _newly_damaged(self) -> list[BadCopy]:
        """Return the damaged copies that no reply has named yet."""
        new = {
            copy: bad for copy, bad in self._objects.bad_copies.items() if bad.damaged and copy not in self._reported
        }
        self._reported.update(new)
        return list(new.values())


def _chunks_of(request: Request) -> Iterator[ChunkId]:
    """Yield the chunks that a request will read, except those behind a long file's list of chunks."""
    if isinstance(request, PutPart):
        yield from _ids_in(request.ids)
        return
    for group in request.folders:
        for entry in group.files:
            if entry.content_depth == 0:
                yield from _ids_in(entry.content)


def _ids_in(text: bytes) -> Iterator[ChunkId]:
    return (ChunkId(text[at : at + _ID_BYTES]) for at in range(0, len(text), _ID_BYTES))
