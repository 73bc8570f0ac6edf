"""A restore's dry run: what it would write, found by looking at the destination and changing nothing."""

import os
from contextlib import suppress

from drtool.errors import DrtoolError
from drtool.events import ignore
from drtool.operations.restore.files import FileRestorer, words
from drtool.operations.restore.messages import FilePut
from drtool.operations.restore.request import RestoreRequest
from drtool.operations.restore.tally import Tally
from drtool.operations.restore.walk import Walk
from drtool.repository import Repository
from drtool.sources.filesystem import Applier, Folder
from drtool.trees import Entry, FileType


def preview(repository: Repository, request: RestoreRequest, walk: Walk) -> Tally:
    """The figures that the restore itself would give, as far as looking can tell."""
    tally = Tally(ignore)
    files = FileRestorer(repository, repository.chunks, request.overwrite)
    root = _open_root(request.to)
    try:
        for frame, entry, child in walk:
            if child is None:
                tally.ended(frame.names, entry, _would(root, frame.names, entry, files, request))
            walk.left.clear()
        for names, message in walk.unreadable:
            tally.failed(names, message)
    finally:
        if root is not None:
            root.close()
    return tally


def _open_root(path: bytes) -> Folder | None:
    with suppress(FileNotFoundError):
        return Folder(os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC), Applier(), existed=True)
    return None


def _would(
    root: Folder | None, names: tuple[bytes, ...], entry: Entry, files: FileRestorer, request: RestoreRequest
) -> FilePut:
    if any(what.startswith("content") for what in entry.uncaptured):
        return FilePut(error=f"its content was not captured ({'; '.join(entry.uncaptured)})")
    size_bytes = entry.size_bytes - sum(length for _, length in entry.holes) if entry.type == FileType.FILE else 0
    if root is None:
        return FilePut(size_bytes)
    try:
        with Folder(root.descend(names), root.applier, existed=True) as folder:
            found = folder.stat(entry.name)
            if found is None:
                return FilePut(size_bytes)
            if request.overwrite == "never":
                return FilePut(skipped=True)
            same_type = found.st_mode >> 12 == entry.type
            if same_type and entry.type == FileType.FILE and files.content_holds(folder, entry, found):
                return FilePut()
            return FilePut(size_bytes)
    except (FileNotFoundError, NotADirectoryError):
        return FilePut(size_bytes)
    except (OSError, DrtoolError) as error:
        return FilePut(error=words(error))
