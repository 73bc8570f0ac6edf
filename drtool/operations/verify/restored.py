"""Comparison of a restored tree with the snapshot. The disk is read again, independently of the code that wrote it.

Contents are compared by chunk ids: a file is cut at the snapshot's chunk boundaries, and each piece is hashed.
"""

import errno
import os
import stat
from collections.abc import Collection, Iterator
from contextlib import closing
from typing import NamedTuple

from blake3 import blake3
from msgspec import Struct

from drtool.errors import DrtoolError
from drtool.manifest.records import Snapshot
from drtool.model import ChunkId, ChunkKind
from drtool.operations.verify.request import Differing
from drtool.packing import ZeroIds
from drtool.repository import Repository
from drtool.sources.filesystem import (
    EVERYTHING,
    Folder,
    LinkGroup,
    OwnerIds,
    Sight,
    decided_by_restore,
    flags_of,
    is_hole,
    link_group,
    open_leased,
    same_time,
    xattrs_in,
    xattrs_of,
)
from drtool.trees import Entry, FileType, find_entry, read_content, split_path, walk

_OPEN = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_HAVE_FLAGS = frozenset({int(FileType.FILE), int(FileType.DIRECTORY)})
_DEVICES = frozenset({int(FileType.CHARACTER_DEVICE), int(FileType.BLOCK_DEVICE)})
_BY_NAME = OwnerIds()


class Place(NamedTuple):
    """A name in an open directory, or an absolute path without one."""

    name: bytes
    dir_fd: int | None = None

    def stat(self) -> os.stat_result:
        return os.stat(self.name, dir_fd=self.dir_fd, follow_symlinks=False)

    def readlink(self) -> bytes:
        return os.readlink(self.name, dir_fd=self.dir_fd)

    def open(self) -> int:
        return open_leased(self.name, _OPEN, self.dir_fd)

    def xattrs(self) -> tuple[tuple[bytes, bytes], ...]:
        if self.dir_fd is None:
            return xattrs_of(self.name, follow_symlinks=False)
        xattrs, unread = xattrs_in(self.dir_fd, self.name)
        if unread:
            raise OSError(errno.EIO, unread[0])
        return xattrs


class _Places:
    """Access to each restored name, for paths longer than the kernel allows, and in place across symbolic links."""

    def __init__(self, root: Folder) -> None:
        self._root = root
        self._names: tuple[bytes, ...] = ()
        self._fd = os.dup(root.fd)

    def close(self) -> None:
        os.close(self._fd)

    def at(self, place: bytes) -> Place:
        """Return the place, valid until the next call. OSError if a parent directory does not exist."""
        *above, name = split_path(place)
        names = tuple(above)
        if (*names, name) in self._root.detours and self._root.goes_through((*names, name)):
            if self._root.detours.ways[(*names, name)].file:
                fd, name = self._root.behind((*names, name))
                return Place(name, self._hold((b"",), fd))
            return Place(b".", self._hold((b"",), self._root.descend((*names, name))))
        if names != self._names:
            self._hold(names, self._root.descend(names))
        return Place(name, self._fd)

    def _hold(self, names: tuple[bytes, ...], fd: int) -> int:
        os.close(self._fd)
        self._names, self._fd = names, fd
        return fd


class Compared(Struct):
    """How much of a restored tree was compared. For `content_only` items only type and content were."""

    items: int = 0
    bytes: int = 0
    content_only: int = 0
    not_captured: int = 0
    """Items that the backup could not read whole, so there is nothing to compare them with."""

    def count(self, entry: Entry, *, content_only: bool) -> None:
        """Count one item."""
        if entry.uncaptured:
            self.not_captured += 1
            return
        self.items += 1
        self.content_only += content_only
        self.bytes += entry.size_bytes if entry.type == FileType.FILE else 0


class _HardLinks:
    """The hard-linked files met so far, in the snapshot and on the disk."""

    def __init__(self) -> None:
        self._first: dict[LinkGroup | bytes, tuple[tuple[int, int], bytes]] = {}
        self._group: dict[tuple[int, int], tuple[LinkGroup | bytes, bytes]] = {}

    def difference(self, entry: Entry, name: bytes, place: Place) -> str:
        """Return why a name does not share an inode with exactly the names that it should share it with."""
        if entry.type == FileType.DIRECTORY or entry.uncaptured:
            return ""
        found = place.stat()
        if entry.links == 1 and found.st_nlink == 1:
            return ""
        group = link_group(entry) if entry.links > 1 else name
        identity = found.st_dev, found.st_ino
        first, first_name = self._first.setdefault(group, (identity, name))
        if first != identity:
            return f"it is not a hard link of {os.fsdecode(first_name)}"
        other, other_name = self._group.setdefault(identity, (group, name))
        return "" if other == group else f"it is a hard link of {os.fsdecode(other_name)}, which is another file"


def differences(
    repository: Repository,
    snapshot: Snapshot,
    root: Folder,
    path: bytes | None = None,
    *,
    owners: OwnerIds = _BY_NAME,
    imperfect: Collection[str] = (),
    in_place: bool = False,
    compared: Compared | None = None,
) -> Iterator[Differing]:
    """Yield every path of the snapshot that differs below the directory. DrtoolError if a tree cannot be read.

    `path`: the part of the snapshot that was restored. A directory's contents are then directly below, and a file has
    its own name.
    Attributes that could not be captured are not compared. Owners are compared if root restored.
    `in_place`: directories that only lead to what was backed up keep their times and owners, and are not compared.
    `imperfect`: paths with attributes that are known to be wrong. Only their type and content are compared.
    """
    comparer = Comparer(repository, owners, Sight.of(snapshot.hidden))
    links = _HardLinks()
    on_the_way = _ways(snapshot.paths)
    in_place = in_place or root.is_in_place
    with closing(_Places(root)) as places:
        for name, entry, below in _restored(repository, snapshot, path):
            content_only = bool(imperfect) and os.fsdecode(name) in imperfect
            is_way = name in on_the_way
            content_only = content_only or (is_way and in_place)
            if compared is not None:
                compared.count(entry, content_only=content_only)
            try:
                place = places.at(below)
                if content_only:
                    reason = comparer.essence_difference(entry, place)
                else:
                    reason = comparer.difference(entry, place, is_way=is_way) or links.difference(entry, name, place)
            except OSError as error:
                reason = f"it is missing: {error.strerror}"
            if reason:
                yield Differing(snapshot.id.hex(), os.fsdecode(name), reason)


def _ways(paths: Collection[bytes]) -> set[bytes]:
    """Return the directories that only lead to one of the paths."""
    ways = set()
    for path in paths:
        while (path := os.path.dirname(path)) not in (b"/", b"") and path not in ways:
            ways.add(path)
    return ways - set(paths)


def _restored(repository: Repository, snapshot: Snapshot, path: bytes | None) -> Iterator[tuple[bytes, Entry, bytes]]:
    """Yield each restored path, its entry, and its location below the directory."""
    inner = b"/" + b"/".join(split_path(path)) if path is not None else b"/"
    if inner == b"/":
        yield from ((name, entry, name) for name, entry in walk(snapshot.root, b"/", repository.chunks))
        return
    top = find_entry(snapshot.root, inner, repository.chunks)
    if top is None:
        raise DrtoolError(f"{os.fsdecode(inner)} is not in snapshot {snapshot.id.hex()[:8]}")
    if top.type != FileType.DIRECTORY:
        yield inner, top, b"/" + inner.rpartition(b"/")[2]
    elif top.subtree:
        for name, entry in walk(top.subtree, inner + b"/", repository.chunks):
            yield name, entry, name[len(inner) :]


class Comparer:
    """Compares single names with their entries. Owners are mapped as in a restore with `owners`."""

    def __init__(self, repository: Repository, owners: OwnerIds = _BY_NAME, sight: Sight = EVERYTHING) -> None:
        """`sight`: the attributes that the backup could see."""
        self._repository = repository
        self._sight = sight
        self._owners = owners
        self._key = repository.keyring.id_key(ChunkKind.DATA)
        self._zeros = ZeroIds(self._key)

    def difference(self, entry: Entry, place: Place, *, restored: bool = True, is_way: bool = False) -> str:
        """Return why a name differs from its entry, or an empty string.

        If the name was not `restored`, its time may differ, and its owner is compared for every user. `is_way`: it is a
        directory that only leads to what was backed up.
        """
        if entry.uncaptured:
            return ""
        reason = self.essence_difference(entry, place)
        if reason or (entry.type == FileType.SYMLINK and not restored):
            return reason
        found = place.stat()
        if stat.S_IMODE(found.st_mode) != entry.mode and entry.type != FileType.SYMLINK:
            return f"its mode is {stat.S_IMODE(found.st_mode):04o} instead of {entry.mode:04o}"
        uid, gid = self._owner(entry) if restored else (entry.uid, entry.gid)
        if (os.geteuid() == 0 or not restored) and (found.st_uid, found.st_gid) != (uid, gid):
            return f"it belongs to {found.st_uid}:{found.st_gid} instead of {uid}:{gid}"
        if restored and not same_time(found, entry.mtime_ns):
            return "its time differs"
        return self._attributes_difference(entry, place, found, is_way=is_way) if restored else ""

    def _owner(self, entry: Entry) -> tuple[int, int]:
        """Return the numeric ids that a restore gives to the entry's owner on this host."""
        return self._owners.uid(entry.user, entry.uid), self._owners.gid(entry.group, entry.gid)

    def _attributes_difference(self, entry: Entry, place: Place, found: os.stat_result, *, is_way: bool) -> str:
        if entry.type in _DEVICES and found.st_rdev != entry.rdev:
            return f"its device number is {found.st_rdev} instead of {entry.rdev}"
        try:
            here = dict(place.xattrs())
            flags = _flags_at(place) if entry.type in _HAVE_FLAGS else 0
        except OSError as error:
            return f"its attributes cannot be read: {error.strerror}"
        wanted = dict(self._owners.xattrs(entry)[0])
        for name in sorted(name for name in wanted.keys() | here.keys() if decided_by_restore(name)):
            is_seen = name in wanted or self._sight.of_xattr(name, entry, is_way=is_way) is not False
            if is_seen and wanted.get(name) != here.get(name):
                return f"its attribute {os.fsdecode(name)} differs"
        if not entry.flags & ~flags and self._sight.of_flags(entry, is_way=is_way) is False:
            return ""
        return "" if flags == entry.flags else f"its flags are {flags:#x} instead of {entry.flags:#x}"

    def essence_difference(self, entry: Entry, place: Place) -> str:
        """Return why the type, link target or content of a name differs, or an empty string."""
        if any(what.startswith(("content", "link target")) for what in entry.uncaptured):
            return ""
        try:
            found = place.stat()
        except OSError as error:
            return f"it is missing: {error.strerror}"
        if found.st_mode >> 12 != entry.type:
            return "it is of another kind"
        if entry.type == FileType.SYMLINK:
            return "" if place.readlink() == entry.link_target else "it points elsewhere"
        return self._content_difference(entry, place, found.st_size) if entry.type == FileType.FILE else ""

    def _content_difference(self, entry: Entry, place: Place, size_bytes: int) -> str:
        if size_bytes != entry.size_bytes:
            return f"it has {size_bytes} bytes instead of {entry.size_bytes}"
        try:
            fd = place.open()
            try:
                same = self._same_chunks(entry, fd)
            finally:
                os.close(fd)
        except OSError as error:
            return f"it cannot be read: {error.strerror}"
        return "" if same else "its content differs"

    def _same_chunks(self, entry: Entry, fd: int) -> bool:
        offset = 0
        for chunk in read_content(entry, self._repository.chunks):
            length = _length_of(self._repository, chunk)
            is_known = entry.holes and chunk == self._zeros(length) and is_hole(fd, offset, length)
            os.lseek(fd, offset, os.SEEK_SET)
            if not is_known and _hash_of(fd, length, self._key) != chunk:
                return False
            offset += length
        return True


def _flags_at(place: Place) -> int:
    fd = place.open()
    try:
        return flags_of(fd)
    finally:
        os.close(fd)


def _length_of(repository: Repository, chunk: ChunkId) -> int:
    location = repository.index.locate(chunk)
    if location is None:
        raise DrtoolError(f"chunk {chunk.hex()[:16]}… is in no index segment that can be read")
    return location.length


def _hash_of(descriptor: int, length: int, key: bytes) -> bytes:
    """Return the id of the next `length` bytes, or of fewer at the end of the file."""
    hasher = blake3(key=key)
    while length > 0:
        piece = os.read(descriptor, min(length, 1 << 20))
        if not piece:
            break
        hasher.update(piece)
        length -= len(piece)
    return hasher.digest()
