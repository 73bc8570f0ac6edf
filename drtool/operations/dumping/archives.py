"""`dump`: one file of a snapshot as a stream of bytes, or a directory as a tar or zip archive, without temporary files.

Invariants
    Every byte is authenticated before it is written. Data that cannot be read whole ends the stream with an error, so a
    reader never gets an archive that looks complete but is not.
    Names in an archive are relative, and none contains `..`. Memory is bounded by a few chunks, regardless of file
    sizes.
"""

import os
import stat
import tarfile
import zipfile
from collections import deque
from collections.abc import Iterator
from contextlib import closing, suppress
from itertools import chain, islice
from typing import BinaryIO, Literal

from msgspec import Struct

from drtool.errors import DrtoolError, FormatError
from drtool.events import Emit, ItemFailed
from drtool.manifest.records import Snapshot
from drtool.operations.dumping.tar_headers import Header, Ranges, header_of, sparse
from drtool.operations.selection import WHOLE_PATHS
from drtool.repository import Repository
from drtool.repository.reading import ChunkReader
from drtool.sources.filesystem import LinkGroup, link_group
from drtool.trees import Entry, FileType, find_entry, read_content, split_path, walk

Archive = Literal["tar", "zip"]

AHEAD_CHUNKS = 32
NAME_BYTES_MAX = 65_535
"""Limit of a name in a zip archive."""
_UNREAD = "left out: its content could not be read when the snapshot was taken"
_ZIP_FROM = (1980, 1, 1, 0, 0, 0)
_ZIP_TO = (2107, 12, 31, 23, 59, 58)


class Dumped(Struct, frozen=True, kw_only=True):
    snapshot: str
    path: str
    files: int
    bytes: int
    errors: int = 0
    """Items and attributes that are left out and reported: unreadable during the backup, or not supported by the
    archive.
    """


class Place(Struct, frozen=True):
    """What to dump: an entry, or (None) the whole snapshot."""

    snapshot: Snapshot
    path: bytes
    entry: Entry | None


def place_of(repository: Repository, snapshot: Snapshot, path: bytes | None) -> Place:
    """Return the place of `path`. DrtoolError if it does not exist."""
    parts = split_path(path or b"")
    where = b"/" + b"/".join(parts)
    entry = find_entry(snapshot.root, where, repository.trees) if parts else None
    if parts and entry is None:
        raise DrtoolError(
            f"{os.fsdecode(where)} is not in snapshot {snapshot.id.hex()[:8]}",
            hint=WHOLE_PATHS,
        )
    return Place(snapshot, where, entry)


def dump_file(repository: Repository, place: Place, out: BinaryIO) -> Dumped:
    """Write the content of one file. DrtoolError if it is not a file, or cannot be read whole."""
    entry = place.entry
    if entry is None or entry.type != FileType.FILE:
        what = "a directory" if entry is None or entry.type == FileType.DIRECTORY else FileType(entry.type).word
        raise DrtoolError(f"{os.fsdecode(place.path)} is {what}", hint="add --archive tar, or --archive zip")
    if _lost(entry):
        raise DrtoolError(f"{os.fsdecode(place.path)}: its content could not be read when the snapshot was taken")
    written = 0
    with closing(_Contents(repository)) as contents:
        for piece in contents.pieces(entry):
            out.write(piece)
            written += len(piece)
    return _dumped(place, 1, written)


def dump_archive(repository: Repository, place: Place, kind: Archive, out: BinaryIO, emit: Emit) -> Dumped:
    """Write a directory's contents, or one entry, as an archive."""
    writer = _tar if kind == "tar" else _zip
    if place.entry is not None and place.entry.type == FileType.DIRECTORY and _lost(place.entry):
        raise DrtoolError(f"{os.fsdecode(place.path)}: its content could not be read when the snapshot was taken")
    with closing(_Contents(repository)) as contents:
        return writer(contents, place, list_of(repository, place), out, emit)


def list_of(repository: Repository, place: Place) -> Iterator[tuple[bytes, Entry]]:
    """Yield (relative name, entry) for everything that an archive of `place` holds."""
    entry = place.entry
    if entry is None:
        yield from walk(place.snapshot.root, b"", repository.trees)
    elif entry.type != FileType.DIRECTORY:
        yield entry.name, entry
    elif entry.subtree:
        yield from walk(entry.subtree, b"", repository.trees)


class _Contents:
    """Reader of file contents. It reads some chunks ahead if they come from a server."""

    def __init__(self, repository: Repository) -> None:
        self._trees = repository.trees
        self._ahead = repository.objects.ahead()
        self._chunks = ChunkReader(repository.index.locations, repository.objects, self._ahead)

    def pieces(self, entry: Entry) -> Iterator[bytes]:
        """Yield the content in order. FormatError if its length differs from the entry's."""
        ids = read_content(entry, self._trees)
        left = entry.size_bytes
        waiting = deque((chunk, self._chunks.expect([chunk])) for chunk in islice(ids, AHEAD_CHUNKS))
        while waiting:
            chunk, keys = waiting.popleft()
            for later in islice(ids, 1):
                waiting.append((later, self._chunks.expect([later])))
            piece = self._chunks(chunk)
            self._chunks.drop(keys)
            left -= len(piece)
            yield piece
        if left:
            raise FormatError(f"{os.fsdecode(entry.name)}: its content is not as long as its entry says")

    def close(self) -> None:
        if self._ahead is not None:
            self._ahead.close()


class _Stream:
    """Pieces as a readable file, for `tarfile`."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces, self._rest = pieces, b""

    def read(self, size: int = -1) -> bytes:
        parts, wanted = [], size
        while wanted:
            if not self._rest:
                self._rest = next(self._pieces, b"")
                if not self._rest:
                    break
            part, self._rest = self._rest[:wanted], self._rest[wanted:]
            parts.append(part)
            wanted -= len(part)
        return b"".join(parts)


def _tar(
    contents: _Contents, place: Place, entries: Iterator[tuple[bytes, Entry]], out: BinaryIO, emit: Emit
) -> Dumped:
    archive = tarfile.open(  # noqa: SIM115 - closing an incomplete archive would make it look complete
        fileobj=out, mode="w|", format=tarfile.PAX_FORMAT, encoding="utf-8", errors="surrogateescape"
    )
    try:
        done = _fill_tar(archive, contents, place, entries, emit)
    except BaseException:
        archive.fileobj.closed = True  # type: ignore[attr-defined] # else its rest is written when it is collected
        with suppress(OSError):  # some readers accept an archive without an end, but none a truncated header
            out.write(b"drtool: this archive is incomplete\n")
        raise
    archive.close()
    return done


def _fill_tar(
    archive: tarfile.TarFile, contents: _Contents, place: Place, entries: Iterator[tuple[bytes, Entry]], emit: Emit
) -> Dumped:
    filler = _Filler(archive, contents, place, emit)
    for name, entry in entries:
        if _lost(entry):
            filler.errors += _told(place, name, emit)
        else:
            filler.add(name, entry)
    return _dumped(place, filler.files, filler.bytes, filler.errors)


class _Filler:
    """Adds members to a tar archive, and counts them."""

    def __init__(self, archive: tarfile.TarFile, contents: _Contents, place: Place, emit: Emit) -> None:
        self._archive, self._contents, self._place, self._emit = archive, contents, place, emit
        self._first: dict[LinkGroup, str] = {}
        self.files = self.bytes = self.errors = 0

    def add(self, name: bytes, entry: Entry) -> None:
        self._archive.members.clear()  # type: ignore[attr-defined]  # it remembers every member needlessly
        header = header_of(name, entry)
        if entry.links > 1 and entry.type != FileType.DIRECTORY:
            first = self._first.setdefault(link_group(entry), header.info.name)
            if first != header.info.name:
                header.info.type, header.info.linkname, header.info.size = tarfile.LNKTYPE, first, 0
                self._archive.addfile(header.info)
                return
        if entry.type == FileType.FILE:
            self._add_file(sparse(header, entry), entry)
        else:
            self._archive.addfile(header.info)
        for what in header.lost:
            why = f"{what} left out: a tar archive cannot hold it"
            self.errors += _told(self._place, name, self._emit, why)
        for what in entry.uncaptured:
            why = f"it could not be read when the snapshot was taken, so it is not in the archive: {what}"
            self.errors += _told(self._place, name, self._emit, why)

    def _add_file(self, header: Header, entry: Entry) -> None:
        pieces = self._contents.pieces(entry)
        data = pieces if header.ranges is None else chain((header.map,), within(pieces, header.ranges))
        self._archive.addfile(header.info, _Stream(data))
        for _ in data:  # raises FormatError if the content is shorter or longer than the entry says
            pass
        self.files, self.bytes = self.files + 1, self.bytes + entry.size_bytes


def within(pieces: Iterator[bytes], ranges: Ranges) -> Iterator[bytes]:
    """Yield the bytes of a stream that are in `ranges` (ascending). The stream is read to its end."""
    at = number = 0
    for piece in pieces:
        end = at + len(piece)
        while number < len(ranges):
            start, length = ranges[number]
            if part := piece[max(0, start - at) : max(0, start + length - at)]:
                yield part
            if start + length > end:
                break
            number += 1
        at = end


def _zip(
    contents: _Contents, place: Place, entries: Iterator[tuple[bytes, Entry]], out: BinaryIO, emit: Emit
) -> Dumped:
    archive = zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED)
    try:
        done = _fill_zip(archive, contents, place, entries, emit)
    except BaseException:
        archive.fp = None  # otherwise its end is written when it is collected, and it looks complete
        raise
    archive.close()
    return done


def _fill_zip(
    archive: zipfile.ZipFile, contents: _Contents, place: Place, entries: Iterator[tuple[bytes, Entry]], emit: Emit
) -> Dumped:
    files = size_bytes = errors = 0
    for name, entry in entries:
        info = _zip_info(name, entry)
        if why := _not_for_zip(archive, info, entry):
            errors += _told(place, name, emit, why)
        elif entry.type == FileType.FILE:
            with archive.open(info, "w", force_zip64=entry.size_bytes >= 1 << 31) as file:
                for piece in contents.pieces(entry):
                    file.write(piece)
            files, size_bytes = files + 1, size_bytes + entry.size_bytes
        else:
            archive.writestr(info, entry.link_target if entry.type == FileType.SYMLINK else b"")
    return _dumped(place, files, size_bytes, errors)


def _not_for_zip(archive: zipfile.ZipFile, info: zipfile.ZipInfo, entry: Entry) -> str:
    """Return why a zip archive cannot hold `entry`, or an empty string if it can."""
    if _lost(entry):
        return _UNREAD
    if entry.type not in (FileType.FILE, FileType.DIRECTORY, FileType.SYMLINK):
        word = FileType(entry.type).word
        return f"left out: a zip archive cannot hold a {word.replace('_', ' ')}, but a tar archive can"
    if len(info.filename.encode()) > NAME_BYTES_MAX:
        return f"left out: its name has more than {NAME_BYTES_MAX:,} bytes, too long for a zip archive, but not for tar"
    if info.filename in archive.NameToInfo:
        return "left out: its name is not UTF-8, and a zip archive would give it another file's name (tar keeps both)"
    return ""


def _zip_info(name: bytes, entry: Entry) -> zipfile.ZipInfo:
    import time

    slash = "/" if entry.type == FileType.DIRECTORY else ""
    text = name.decode("utf-8", "backslashreplace") + slash
    moment = time.gmtime(max(0, entry.mtime_ns // 10**9))[:6]
    info = zipfile.ZipInfo(text, min(max(moment, _ZIP_FROM), _ZIP_TO))
    info.create_system = 3  # Unix: the upper half of the attributes is a mode
    info.external_attr = (stat.S_IFMT(entry.type << 12) | entry.mode) << 16
    info.compress_type = zipfile.ZIP_DEFLATED
    return info


def _lost(entry: Entry) -> bool:
    """Return whether the backup could not read the content of a file or directory, or the target of a symlink."""
    return any(word.startswith(("content", "link target")) for word in entry.uncaptured)


def _told(place: Place, name: bytes, emit: Emit, why: str = _UNREAD) -> int:
    path = os.fsdecode(place.path.rstrip(b"/") + b"/" + name)
    emit(ItemFailed(path=path, message=why))
    return 1


def _dumped(place: Place, files: int, size_bytes: int, errors: int = 0) -> Dumped:
    return Dumped(
        snapshot=place.snapshot.id.hex(), path=os.fsdecode(place.path), files=files, bytes=size_bytes, errors=errors
    )
