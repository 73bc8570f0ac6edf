"""One name in a directory, with everything that a restore can put back.

Invariants
    Names, link targets and attribute names are bytes, never text. Times are nanoseconds since 1970 and may be negative.
    An entry is immutable; an unchanged file reuses its parent snapshot's very object.
"""

from enum import IntEnum

import msgspec


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


class Entry(msgspec.Struct, array_like=True, frozen=True, gc=False, kw_only=True):
    """One name. `content` holds 32-byte chunk ids, joined; a list of more than 1,024 is one id of a `list` chunk."""

    name: bytes
    type: int
    mode: int
    """Permission bits, setuid, setgid and sticky included: `st_mode & 0o7777`."""
    uid: int
    gid: int
    user: str = ""
    """The owner's name where it was captured; empty if it had none."""
    group: str = ""
    size_bytes: int = 0
    mtime_ns: int = 0
    ctime_ns: int = 0
    inode: int = 0
    device: int = 0
    links: int = 1
    rdev: int = 0
    """`st_rdev` of a device; 0 otherwise."""
    link_target: bytes = b""
    xattrs: tuple[tuple[bytes, bytes], ...] = ()
    """Sorted by name; POSIX ACLs (`system.posix_acl_*`) and capabilities (`security.capability`) are among them."""
    holes: tuple[tuple[int, int], ...] = ()
    """(offset, length) of each hole of a sparse file, ascending; the content still covers the whole file."""
    flags: int = 0
    """Inode flags (FS_IOC_GETFLAGS) that a restore can set: immutable, append-only, nodump, …"""
    content: bytes = b""
    content_depth: int = 0
    """0: `content` holds data chunks; n: it holds the id of a list chunk, n levels above the data."""
    subtree: bytes = b""
    """A directory's own page or list of pages; empty where only metadata was taken."""
    uncaptured: tuple[str, ...] = ()
    """What could not be read when this was taken, in words: `content: Permission denied`."""


def unchanged_content(entry: Entry, size_bytes: int, mtime_ns: int, ctime_ns: int, inode: int) -> bool:
    """Whether a file with these stat fields is the one that `entry` describes (the default rule of format.md)."""
    return (
        entry.mtime_ns == mtime_ns
        and entry.ctime_ns == ctime_ns
        and entry.size_bytes == size_bytes
        and entry.inode == inode
        and not entry.uncaptured
    )
