"""One name in a directory, with everything that a restore can put back.

Invariants
    Names, link targets and attribute names are bytes, never text. Times are nanoseconds since 1970 and may be negative.
    An entry is immutable. An unchanged file reuses the very object of its parent snapshot.
    Decoded values are within the bounds of operating systems, so that a restore never meets a number that it cannot
    pass on.
"""

from enum import IntEnum
from typing import Annotated

import msgspec

TIME_NS_BOUNDS = (-(2**63), 2**64 - 1)
HOLES_MAX = 64 * 1024
XATTRS_BYTES_MAX = 4 * 1024 * 1024

Word = Annotated[int, msgspec.Meta(ge=0, le=2**32 - 1)]
Size = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
Natural = Annotated[int, msgspec.Meta(ge=0)]


class FileType(IntEnum):
    """The type of an entry. The values are those of `st_mode >> 12`, which no system has changed since 1974."""

    FIFO = 0o01
    CHARACTER_DEVICE = 0o02
    DIRECTORY = 0o04
    BLOCK_DEVICE = 0o06
    FILE = 0o10
    SYMLINK = 0o12

    @property
    def word(self) -> str:
        """Return the word that `ls --json` prints: `file`, `directory`, `symlink`, `fifo`, …"""
        return self.name.lower()


AclNames = tuple[tuple[Word, Word, str], ...]
"""(tag of the ACL entry: 2 for a user, 8 for a group; its number; its name), ascending, for each number with a name."""


class Entry(msgspec.Struct, array_like=True, frozen=True, gc=False, kw_only=True):
    """One name. `content` holds 32-byte chunk ids, joined, or for more than 1,024 the one id of a `list` chunk."""

    name: bytes
    type: Annotated[int, msgspec.Meta(ge=1, le=15)]
    mode: Annotated[int, msgspec.Meta(ge=0, le=0o7777)]
    """Permission bits, including setuid, setgid and sticky: `st_mode & 0o7777`."""
    uid: Word
    gid: Word
    user: str = ""
    """The owner's name on the captured host, or empty if it had none."""
    group: str = ""
    size_bytes: Size = 0
    mtime_ns: int = 0
    ctime_ns: int = 0
    inode: Natural = 0
    device: Natural = 0
    links: Natural = 1
    rdev: Natural = 0
    """`st_rdev` of a device, otherwise 0."""
    link_target: bytes = b""
    xattrs: tuple[tuple[bytes, bytes], ...] = ()
    """Sorted by name, including POSIX ACLs (`system.posix_acl_*`) and capabilities (`security.capability`)."""
    holes: tuple[tuple[Size, Size], ...] = ()
    """(offset, length) of each hole of a sparse file, ascending. The content still covers the whole file."""
    flags: Word = 0
    """Inode flags (FS_IOC_GETFLAGS) that a restore can set: immutable, append-only, nodump, …"""
    content: bytes = b""
    content_depth: Annotated[int, msgspec.Meta(ge=0, le=6)] = 0
    """0: `content` holds data chunks. n: it holds the id of a list chunk, n levels above the data."""
    subtree: bytes = b""
    """A directory's own page or list of pages, or empty if only its metadata was captured."""
    uncaptured: tuple[str, ...] = ()
    """The parts that could not be read during the backup, in words: `content: Permission denied`."""

    @property
    def acl_names(self) -> AclNames:
        """Return the names of the users and groups in its ACLs, where they were captured."""
        return ()


class EntryWithAclNames(Entry, array_like=True, frozen=True, gc=False, kw_only=True):
    """An entry with one more field. It is a separate class so that all other entries keep their encoding."""

    acl_names: AclNames = ()


def with_acl_names(entry: Entry, names: AclNames) -> Entry:
    """Return the entry with the names of the users and groups in its ACLs, or the same object if it has just these."""
    if entry.acl_names == names and isinstance(entry, EntryWithAclNames) == bool(names):
        return entry
    fields = {field: getattr(entry, field) for field in Entry.__struct_fields__}
    return EntryWithAclNames(**fields, acl_names=names) if names else Entry(**fields)


def unchanged_content(entry: Entry, size_bytes: int, mtime_ns: int, ctime_ns: int, inode: int) -> bool:
    """Return whether a file with these stat fields is the one in `entry` (the default rule of format.md)."""
    return (
        entry.mtime_ns == mtime_ns
        and entry.ctime_ns == ctime_ns
        and entry.size_bytes == size_bytes
        and entry.inode == inode
        and not entry.uncaptured
    )


def storable_time(time_ns: int) -> int:
    """Return the nearest time that the format can hold: 1677 to 2554. Some file systems go on for 292 billion years."""
    low, high = TIME_NS_BOUNDS
    return min(max(time_ns, low), high)


def storable(entry: Entry) -> Entry:
    """Return `entry` as far as the format can hold it. The other parts are left out and named in `uncaptured`.

    This concerns times after the year 2554, attributes of many MiB, and owners' names that are not text. A map of holes
    is left out silently, since the content covers the whole file.
    """
    changes: dict[str, object] = {}
    lost = []
    for name in ("mtime_ns", "ctime_ns"):
        value = getattr(entry, name)
        if value != storable_time(value):
            changes[name] = storable_time(value)
            lost.append(f"{name.removesuffix('_ns')}: {value} ns since 1970 are more than the format can hold")
    if len(entry.holes) > HOLES_MAX:
        changes["holes"] = ()
    if sum(len(name) + len(value) for name, value in entry.xattrs) > XATTRS_BYTES_MAX:
        changes["xattrs"] = ()
        lost.append(f"xattrs: more than {XATTRS_BYTES_MAX} bytes")
    for name in ("user", "group"):
        changes[name] = _text(getattr(entry, name))
    if entry.acl_names:
        changes["acl_names"] = tuple((tag, number, _text(name)) for tag, number, name in entry.acl_names)
    changes["uncaptured"] = tuple(_text(word) for word in (*entry.uncaptured, *lost))
    return msgspec.structs.replace(entry, **changes)


def _text(word: str) -> str:
    """Return the word without surrogates, with which Python represents bytes that are not UTF-8."""
    return word.encode("utf-8", "replace").decode()
