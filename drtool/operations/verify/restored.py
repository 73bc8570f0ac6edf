"""A restored tree against the snapshot: what is on the disk is read again, with nothing of what wrote it.

Contents are compared by the ids of their chunks: a file is cut where the snapshot cut it, and each piece is hashed.
"""

import os
import stat
from collections.abc import Collection, Iterator

from blake3 import blake3
from msgspec import Struct

from drtool.errors import DrtoolError
from drtool.manifest.records import Snapshot
from drtool.model import ChunkId, ChunkKind
from drtool.operations.verify.request import Differing
from drtool.repository import Repository
from drtool.sources.filesystem import LinkGroup, OwnerIds, decided_by_restore, flags_of, link_group, xattrs_of
from drtool.trees import Entry, FileType, find_entry, read_content, split_path, walk

_OPEN = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_HAVE_FLAGS = frozenset({int(FileType.FILE), int(FileType.DIRECTORY)})
_DEVICES = frozenset({int(FileType.CHARACTER_DEVICE), int(FileType.BLOCK_DEVICE)})
_IDS = OwnerIds()


class Compared(Struct):
    """How much of a restored tree was compared; of `content_only` items, type and content alone."""

    items: int = 0
    bytes: int = 0
    content_only: int = 0
    not_captured: int = 0
    """Items that the backup could not read whole: there is nothing to compare them with."""

    def count(self, entry: Entry, *, content_only: bool) -> None:
        """Count one item."""
        if entry.uncaptured:
            self.not_captured += 1
            return
        self.items += 1
        self.content_only += content_only
        self.bytes += entry.size_bytes if entry.type == FileType.FILE else 0


class _HardLinks:
    """The files with several names that were met so far, in the snapshot and on the disk."""

    def __init__(self) -> None:
        self._first: dict[LinkGroup | bytes, tuple[tuple[int, int], bytes]] = {}
        self._group: dict[tuple[int, int], tuple[LinkGroup | bytes, bytes]] = {}

    def difference(self, entry: Entry, name: bytes, path: bytes) -> str:
        """Return why a name does not share an inode with the names that it should share it with, and with no other."""
        if entry.type == FileType.DIRECTORY or entry.uncaptured:
            return ""
        found = os.lstat(path)
        if entry.links == 1 and found.st_nlink == 1:
            return ""
        group = link_group(entry) if entry.links > 1 else name
        identity = found.st_dev, found.st_ino
        first, first_name = self._first.setdefault(group, (identity, name))
        if first != identity:
            return f"it is no hard link of {os.fsdecode(first_name)}"
        other, other_name = self._group.setdefault(identity, (group, name))
        return "" if other == group else f"it is a hard link of {os.fsdecode(other_name)}, which is another file"


def differences(
    repository: Repository,
    snapshot: Snapshot,
    below: bytes,
    path: bytes | None = None,
    *,
    imperfect: Collection[str] = (),
    compared: Compared | None = None,
) -> Iterator[Differing]:
    """Every path of the snapshot that is not below the directory as it should be. DrtoolError if a tree cannot be read.

    `path`: what of the snapshot was restored; the contents of a directory are right below then, a file by its name. What could
    not be captured when the snapshot was taken is not asked for. Owners are compared where root restored.
    `imperfect`: paths of which some attributes are known to be wrong: only type and content are compared.
    """
    links = _HardLinks()
    for name, entry, place in _restored(repository, snapshot, path):
        content_only = bool(imperfect) and os.fsdecode(name) in imperfect
        if compared is not None:
            compared.count(entry, content_only=content_only)
        if content_only:
            reason = _essence_difference(repository, entry, below + place)
        else:
            reason = difference(repository, entry, below + place) or links.difference(entry, name, below + place)
        if reason:
            yield Differing(snapshot.id.hex(), os.fsdecode(name), reason)


def _restored(repository: Repository, snapshot: Snapshot, path: bytes | None) -> Iterator[tuple[bytes, Entry, bytes]]:
    """Each path that was restored, its entry, and where it is below the directory."""
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


def difference(repository: Repository, entry: Entry, path: bytes, *, restored: bool = True) -> str:
    """Why one name is not as it should be; empty if it is. Of what was not `restored`, the time may be another, and
    the owner is compared whoever asks."""
    if entry.uncaptured:
        return ""
    reason = _essence_difference(repository, entry, path)
    if reason or (entry.type == FileType.SYMLINK and not restored):
        return reason
    found = os.lstat(path)
    if stat.S_IMODE(found.st_mode) != entry.mode and entry.type != FileType.SYMLINK:
        return f"its mode is {stat.S_IMODE(found.st_mode):04o} instead of {entry.mode:04o}"
    uid, gid = _owner_here(entry) if restored else (entry.uid, entry.gid)
    if (os.geteuid() == 0 or not restored) and (found.st_uid, found.st_gid) != (uid, gid):
        return f"it belongs to {found.st_uid}:{found.st_gid} instead of {uid}:{gid}"
    if restored and found.st_mtime_ns != entry.mtime_ns:
        return "its time is another one"
    return _attributes_difference(entry, path, found) if restored else ""


def _owner_here(entry: Entry) -> tuple[int, int]:
    """Return the numbers that a restore gives to the entry's owner on this host."""
    return _IDS.uid(entry.user, entry.uid), _IDS.gid(entry.group, entry.gid)


def _attributes_difference(entry: Entry, path: bytes, found: os.stat_result) -> str:
    if entry.type in _DEVICES and found.st_rdev != entry.rdev:
        return f"its device number is {found.st_rdev} instead of {entry.rdev}"
    try:
        here = dict(xattrs_of(os.fsdecode(path), follow_symlinks=False))
        flags = _flags_at(path) if entry.type in _HAVE_FLAGS else 0
    except OSError as error:
        return f"its attributes cannot be read: {error.strerror}"
    wanted = dict(_IDS.xattrs(entry)[0])
    for name in sorted(name for name in wanted.keys() | here.keys() if decided_by_restore(name)):
        if wanted.get(name) != here.get(name):
            return f"its attribute {os.fsdecode(name)} is another one"
    return "" if flags == entry.flags else f"its flags are {flags:#x} instead of {entry.flags:#x}"


def _flags_at(path: bytes) -> int:
    fd = os.open(path, _OPEN)
    try:
        return flags_of(fd)
    finally:
        os.close(fd)


def _essence_difference(repository: Repository, entry: Entry, path: bytes) -> str:
    """Return why type, link target or content of one name are not as they should be; empty if they are."""
    if any(what.startswith(("content", "link target")) for what in entry.uncaptured):
        return ""
    try:
        found = os.lstat(path)
    except OSError as error:
        return f"it is not there: {error.strerror}"
    if found.st_mode >> 12 != entry.type:
        return "it is of another kind"
    if entry.type == FileType.SYMLINK:
        return "" if os.readlink(path) == entry.link_target else "it points elsewhere"
    return _content_difference(repository, entry, path, found.st_size) if entry.type == FileType.FILE else ""


def _content_difference(repository: Repository, entry: Entry, path: bytes, size_bytes: int) -> str:
    if size_bytes != entry.size_bytes:
        return f"it has {size_bytes} bytes instead of {entry.size_bytes}"
    key = repository.keyring.id_key(ChunkKind.DATA)
    try:
        with open(path, "rb", buffering=0) as file:
            for chunk in read_content(entry, repository.chunks):
                if _hash_of(file.fileno(), _length_of(repository, chunk), key) != chunk:
                    return "its content is another one"
    except OSError as error:
        return f"it cannot be read: {error.strerror}"
    return ""


def _length_of(repository: Repository, chunk: ChunkId) -> int:
    location = repository.index.locate(chunk)
    if location is None:
        raise DrtoolError(f"chunk {chunk.hex()[:16]}… is in no index segment that can be read")
    return location.length


def _hash_of(descriptor: int, length: int, key: bytes) -> bytes:
    """The id of the next `length` bytes; of fewer where the file ends."""
    hasher = blake3(key=key)
    while length > 0:
        piece = os.read(descriptor, min(length, 1 << 20))
        if not piece:
            break
        hasher.update(piece)
        length -= len(piece)
    return hasher.digest()
