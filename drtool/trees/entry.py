"""One name in a directory, with everything that a restore can put back.

Invariants
    Names, link targets and attribute names are bytes, never text. Times are nanoseconds since 1970 and may be negative.
    An entry is immutable; an unchanged file reuses its parent snapshot's very object.
    What was decoded is within the bounds that systems have, so that no restore meets a number that it cannot pass on.
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
    """What an entry is; the values are those of `st_mode >> 12`, which no system has changed since 1974."""

    FIFO = 0o01
    CHARACTER_DEVICE = 0o02
    DIRECTORY = 0o04
    BLOCK_DEVICE = 0o06
    FILE = 0o10
    SYMLINK = 0o12

    @property
    def word(self) -> str:
        """As `ls --json` prints it: `file`, `directory`, `symlink`, `fifo`, …"""
        return self.name.lower()


AclNames = tuple[tuple[Word, Word, str], ...]
"""(tag of the ACL entry: 2 for a user, 8 for a group, its number, its name), ascending, for each number that has a name."""


class Entry(msgspec.Struct, array_like=True, frozen=True, gc=False, kw_only=True):
    """One name. `content` holds 32-byte chunk ids, joined; a list of more than 1,024 is one id of a `list` chunk."""

    name: bytes
    type: Annotated[int, msgspec.Meta(ge=1, le=15)]
    mode: Annotated[int, msgspec.Meta(ge=0, le=0o7777)]
    """Permission bits, setuid, setgid and sticky included: `st_mode & 0o7777`."""
    uid: Word
    gid: Word
    user: str = ""
    """The owner's name where it was captured; empty if it had none."""
    group: str = ""
    size_bytes: Size = 0
    mtime_ns: int = 0
    ctime_ns: int = 0
    inode: Natural = 0
    device: Natural = 0
    links: Natural = 1
    rdev: Natural = 0
    """`st_rdev` of a device; 0 otherwise."""
    link_target: bytes = b""
    xattrs: tuple[tuple[bytes, bytes], ...] = ()
    """Sorted by name; POSIX ACLs (`system.posix_acl_*`) and capabilities (`security.capability`) are among them."""
    holes: tuple[tuple[Size, Size], ...] = ()
    """(offset, length) of each hole of a sparse file, ascending; the content still covers the whole file."""
    flags: Word = 0
    """Inode flags (FS_IOC_GETFLAGS) that a restore can set: immutable, append-only, nodump, …"""
    content: bytes = b""
    content_depth: Annotated[int, msgspec.Meta(ge=0, le=6)] = 0
    """0: `content` holds data chunks; n: it holds the id of a list chunk, n levels above the data."""
    subtree: bytes = b""
    """A directory's own page or list of pages; empty where only metadata was taken."""
    uncaptured: tuple[str, ...] = ()
    """What could not be read when this was taken, in words: `content: Permission denied`."""

    @property
    def acl_names(self) -> AclNames:
        """The names of the users and groups in its ACLs, where they were captured."""
        return ()


class EntryWithAclNames(Entry, array_like=True, frozen=True, gc=False, kw_only=True):
    """An entry with one field more. A class of its own, so that all others are encoded as they always were."""

    acl_names: AclNames = ()


def with_acl_names(entry: Entry, names: AclNames) -> Entry:
    """Return the entry with the names of the users and groups in its ACLs; the very object if it has just these."""
    if entry.acl_names == names and isinstance(entry, EntryWithAclNames) == bool(names):
        return entry
    fields = {field: getattr(entry, field) for field in Entry.__struct_fields__}
    return EntryWithAclNames(**fields, acl_names=names) if names else Entry(**fields)


def unchanged_content(entry: Entry, size_bytes: int, mtime_ns: int, ctime_ns: int, inode: int) -> bool:
    """Whether a file with these stat fields is the one that `entry` describes (the default rule of format.md)."""
    return (
        entry.mtime_ns == mtime_ns
        and entry.ctime_ns == ctime_ns
        and entry.size_bytes == size_bytes
        and entry.inode == inode
        and not entry.uncaptured
    )


def storable_time(time_ns: int) -> int:
    """The nearest time that the format can hold: 1677 to 2554. Some file systems go on for 292 billion years."""
    low, high = TIME_NS_BOUNDS
    return min(max(time_ns, low), high)


def storable(entry: Entry) -> Entry:
    """`entry` as far as the format can hold it; what it cannot is left out and named in `uncaptured`.

    For the few that a page cannot take as they are: times after the year 2554, attributes of many MiB, names of owners that are
    no text. A map of holes is left out in silence: the content covers the whole file.
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
    """Without the halves of surrogate pairs, by which Python stands in for bytes that are no UTF-8."""
    return word.encode("utf-8", "replace").decode()
