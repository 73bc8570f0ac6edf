"""Restore of one file: new, corrected, replaced or left alone. Used by the workers and by the restore itself.

Invariants
    A file that cannot be restored whole does not stay under its name, and the previous file stays as it was.
    Equal data is not written. A file with several names is never corrected in place but replaced, since its other names
    may be outside of the restore.
    A file becomes immutable or append-only after it has its name, and one with several names after it has all of them.
"""

import errno
import os
import stat
from bisect import bisect_right
from collections.abc import Callable, Sequence

from blake3 import blake3
from msgspec.structs import replace

from drtool.errors import DrtoolError
from drtool.model import ChunkId, ChunkKind
from drtool.operations.restore.messages import FilePut
from drtool.operations.restore.request import Overwrite
from drtool.packing import ZeroIds
from drtool.repository import Repository
from drtool.repository.reading import ChunkReader
from drtool.sources.filesystem import Folder, is_hole, same_time, write_data
from drtool.trees import Entry, read_content

_ENDLESS = 1 << 63
MakeWay = Callable[[], object]
TAKEN = "its name was taken after the restore began, perhaps by another name that this file system treats as the same"


def none_in_the_way() -> None:
    """Do nothing: no directory is in the place of the file, or none may be removed."""


class FileRestorer:
    """Restores single files. It reads chunks through a `ChunkReader` of its own process."""

    def __init__(self, repository: Repository, chunks: ChunkReader, overwrite: Overwrite | None) -> None:
        """`overwrite`: None if no name can be taken."""
        self._locate = repository.index.locate
        self._id_key = repository.keyring.id_key(ChunkKind.DATA)
        self._zeros = ZeroIds(self._id_key)
        self._chunks = chunks
        self._overwrite = overwrite

    def put(self, folder: Folder, entry: Entry, *, lock: bool = True, make_way: MakeWay = none_in_the_way) -> FilePut:
        """Restore `entry` into `folder`. Faults of this file alone are returned, never raised.

        Without `lock` the caller makes it immutable or append-only later, after it has linked its other names.
        `make_way` empties a directory that is in its place, when the file is complete.
        """
        if missing := not_captured(entry):
            return FilePut(error=missing)
        try:
            return self._new(folder, entry, lock=lock)
        except FileExistsError:
            pass
        except (OSError, DrtoolError) as error:
            return failure(error)
        try:
            return self._existing(folder, entry, lock=lock, make_way=make_way)
        except (OSError, DrtoolError) as error:
            return failure(error)

    def _new(self, folder: Folder, entry: Entry, *, lock: bool) -> FilePut:
        texts = self._texts_of_small(entry)
        fd = folder.create_file(entry)
        try:
            written = self._write(fd, entry, texts)
            problems = folder.finish_file(fd, entry, lock=lock)
        except BaseException:
            folder.discard(entry.name)
            raise
        finally:
            os.close(fd)
        return FilePut(written, problems=problems, change="new")

    def _texts_of_small(self, entry: Entry) -> bytes | None:
        """Return the whole text of a file of one chunk, fetched before anything is created."""
        if entry.content_depth == 0 and len(entry.content) == len(ChunkId(bytes(32))):
            return self._chunks(ChunkId(entry.content))
        return None

    def _write(self, fd: int, entry: Entry, text: bytes | None) -> int:
        if text is not None:
            _check_length(entry, len(text))
            return write_data(fd, entry, 0, text)
        offset = written = 0
        for chunk in read_content(entry, self._chunks):
            if entry.holes and (size_bytes := self.hole_of(entry, offset, chunk)):
                offset += size_bytes
                continue
            text = self._chunks(chunk)
            written += write_data(fd, entry, offset, text)
            offset += len(text)
        _check_length(entry, offset)
        return written

    def hole_of(self, entry: Entry, offset: int, chunk: ChunkId) -> int:
        """Return the length of a chunk that is entirely in a hole, and so need neither be read nor written, else 0."""
        at = bisect_right(entry.holes, (offset, _ENDLESS)) - 1
        if at < 0 or sum(entry.holes[at]) <= offset:
            return 0
        size_bytes = self.length_of(chunk)
        in_hole = sum(entry.holes[at]) >= offset + size_bytes
        return size_bytes if in_hole and chunk == self._zeros(size_bytes) else 0

    def _existing(self, folder: Folder, entry: Entry, *, lock: bool, make_way: MakeWay) -> FilePut:
        found = folder.stat(entry.name)
        if self._overwrite == "never":
            return FilePut(skipped=True)
        if self._overwrite is None:
            return FilePut(error=TAKEN)
        if found is None:
            return self._new(folder, entry, lock=lock)
        if stat.S_ISREG(found.st_mode) and self.content_holds(folder, entry, found):
            return self.correct(folder, entry, lock=lock)
        what = replaced_parts(folder, entry, found)
        return replace(self._replace(folder, entry, lock=lock, make_way=make_way), change="changed", what=what)

    def correct(self, folder: Folder, entry: Entry, *, lock: bool = True) -> FilePut:
        """Give a file that already has its content the entry's metadata, if it differs."""
        if folder.matches(entry):
            return FilePut()
        what = folder.differing(entry)
        problems = folder.correct(entry, lock=lock)
        if problems:
            missing = folder.differing(entry)
            what = tuple(part for part in what if part not in missing)
        return FilePut(problems=problems, change="changed" if what else "", what=what)

    def _replace(self, folder: Folder, entry: Entry, *, lock: bool, make_way: MakeWay) -> FilePut:
        fd, temporary = folder.create_beside(entry)
        try:
            written = self._write(fd, entry, None)
            problems = finish_beside(folder, fd, temporary, entry, make_way)
            if lock:
                problems += folder.applier.lock(fd, entry)
        except BaseException:
            folder.discard(temporary)
            raise
        finally:
            os.close(fd)
        return FilePut(written, problems=problems)

    def content_holds(self, folder: Folder, entry: Entry, found: os.stat_result) -> bool:
        """Return whether an existing regular file has the entry's content, as thoroughly as `overwrite` demands.

        One with several names counts only if nothing of it has to be changed: the other names may be other files of the
        snapshot, or be outside of the restore.
        """
        if found.st_size != entry.size_bytes or found.st_nlink > entry.links:
            return False
        if found.st_nlink > 1 and not folder.matches(entry):
            return False
        if self._overwrite == "if-changed":
            return same_time(found, entry.mtime_ns)
        if not entry.size_bytes:
            return True
        fd = folder.open_file(entry.name)
        try:
            return self._same_chunks(fd, entry)
        finally:
            os.close(fd)

    def _same_chunks(self, fd: int, entry: Entry) -> bool:
        offset = 0
        for chunk in read_content(entry, self._chunks):
            size_bytes = self.length_of(chunk)
            is_known = entry.holes and chunk == self._zeros(size_bytes) and is_hole(fd, offset, size_bytes)
            os.lseek(fd, offset, os.SEEK_SET)
            if not is_known and blake3(os.read(fd, size_bytes), key=self._id_key).digest() != chunk:
                return False
            offset += size_bytes
        return True

    def length_of(self, chunk: ChunkId) -> int:
        """Return a data chunk's length, from the index. DrtoolError if it is not there."""
        location = self._locate(chunk)
        if location is None:
            raise DrtoolError(f"chunk {chunk.hex()[:16]}… is in no index segment that can be read")
        return location.length

    def write_part(self, fd: int, entry: Entry, offset: int, ids: Sequence[ChunkId]) -> int:
        """Write consecutive chunks from `offset`, and return how much was written."""
        written = 0
        for chunk in ids:
            text = self._chunks(chunk)
            written += write_data(fd, entry, offset, text)
            offset += len(text)
        return written


def replaced_parts(folder: Folder, entry: Entry, found: os.stat_result) -> tuple[str, ...]:
    """Return the parts in which a replaced item differs from the file that takes its name."""
    return ("content", *folder.differing(entry)) if found.st_mode >> 12 == entry.type else ("type",)


def finish_beside(
    folder: Folder, fd: int, temporary: bytes, entry: Entry, make_way: MakeWay = none_in_the_way
) -> list[str]:
    """Rename a completely written temporary file to its name, with its metadata. Return what could not be set."""
    problems = folder.finish_file(fd, entry, lock=False) + folder.keep_unseen(fd, entry)
    make_way()
    folder.replace(temporary, entry.name)
    return problems


def not_captured(entry: Entry) -> str:
    """Return why a file or directory is incomplete because the backup could not read it, or an empty string."""
    if any(what.startswith("content") for what in entry.uncaptured):
        return f"its content was not captured ({'; '.join(entry.uncaptured)})"
    return ""


def attributes_not_captured(entry: Entry) -> list[str]:
    """Return the parts besides the content that the backup could not read, in words."""
    return [f"{what} (when it was backed up)" for what in entry.uncaptured if not what.startswith("content")]


def failure(error: OSError | DrtoolError) -> FilePut:
    """Return the result of a file that could not be restored."""
    return FilePut(error=words(error), full=is_full(error))


def is_full(error: OSError | DrtoolError) -> bool:
    """Return whether there was no space at the destination, or none for this user."""
    return isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)


def words(error: OSError | DrtoolError) -> str:
    """Return an error as one row of a report."""
    return error.message if isinstance(error, DrtoolError) else error.strerror or str(error)


def _check_length(entry: Entry, length: int) -> None:
    if length != entry.size_bytes:
        raise DrtoolError(f"its chunks hold {length} bytes, its entry says {entry.size_bytes}")
