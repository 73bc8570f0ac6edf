"""The headers of a tar member: pax records beyond the old format's limits, ACLs and holes in GNU tar's notation.

Invariants
    GNU tar (`--acls --xattrs`) and libarchive read exactly the entry's values from a member, to the nanosecond.
    An attribute that no header can hold is returned to the caller, which reports it.

Sources: pax(1) of POSIX.1-2017; the `SCHILY.*` keywords of star(5); "Storing Sparse Files, PAX Format 1.0" of GNU tar's manual.
"""

import os
import stat
import tarfile
from collections.abc import Iterator
from typing import NamedTuple

from drtool.sources.filesystem import ACL_ACCESS, ACL_DEFAULT, ACL_GROUP, ACL_USER, read_acl
from drtool.trees import Entry, FileType

_KINDS = {
    FileType.FILE: tarfile.REGTYPE,
    FileType.DIRECTORY: tarfile.DIRTYPE,
    FileType.SYMLINK: tarfile.SYMTYPE,
    FileType.FIFO: tarfile.FIFOTYPE,
    FileType.CHARACTER_DEVICE: tarfile.CHRTYPE,
    FileType.BLOCK_DEVICE: tarfile.BLKTYPE,
}
_ACLS = {ACL_ACCESS: "SCHILY.acl.access", ACL_DEFAULT: "SCHILY.acl.default"}
_ACL_TAGS = {0x01: "user", 0x02: "user", 0x04: "group", 0x08: "group", 0x10: "mask", 0x20: "other"}

_FLAGS = {
    0x4: "compress",
    0x8: "sync",
    0x10: "schg",
    0x20: "sappnd",
    0x40: "nodump",
    0x80: "noatime",
    0x4000: "journal",
    0x8000: "notail",
    0x10000: "dirsync",
    0x20000: "topdir",
    0x800000: "nocow",
}
"""The names that libarchive gives to the inode flags. GNU tar ignores them with a warning."""

Ranges = list[tuple[int, int]]
"""(offset, length) of the data."""


class Header(NamedTuple):
    """A member's header, the ranges of a sparse file that hold data, and the attributes that the header cannot hold."""

    info: tarfile.TarInfo
    lost: list[str]
    ranges: Ranges | None = None

    @property
    def map(self) -> bytes:
        """Return the map that precedes the data of a sparse file: its ranges, padded to a block."""
        return b"" if self.ranges is None else _map_of(self.ranges)


def header_of(name: bytes, entry: Entry) -> Header:
    """Return the header of `entry` under `name`."""
    info = tarfile.TarInfo(os.fsdecode(name))
    info.type = _KINDS.get(FileType(entry.type), tarfile.REGTYPE)
    info.mode, info.uid, info.gid = entry.mode, entry.uid, entry.gid
    info.uname, info.gname = entry.user, entry.group
    info.mtime = entry.mtime_ns // 10**9
    if entry.type == FileType.FILE:
        info.size = entry.size_bytes
    elif entry.type == FileType.SYMLINK:
        info.linkname = os.fsdecode(entry.link_target)
    elif entry.rdev:
        info.devmajor, info.devminor = os.major(entry.rdev), os.minor(entry.rdev)
    records, lost = _attributes(entry)
    if words := [word for bit, word in _FLAGS.items() if entry.flags & bit]:
        records["SCHILY.fflags"] = ",".join(words)
    if unnamed := entry.flags & ~sum(_FLAGS):
        lost.append(f"its flags {unnamed:#x} are")
    if entry.mtime_ns % 10**9:
        records["mtime"] = _decimal(entry.mtime_ns)
    info.pax_headers = records
    return Header(info, lost)


def sparse(header: Header, entry: Entry) -> Header:
    """Return the header of a file with holes, which lists where its data goes."""
    if not entry.holes:
        return header
    ranges = list(_data_ranges(entry))
    info = header.info
    info.pax_headers = {
        "GNU.sparse.major": "1",
        "GNU.sparse.minor": "0",
        "GNU.sparse.name": info.name,
        "GNU.sparse.realsize": str(entry.size_bytes),
        **info.pax_headers,
    }
    info.name = f"GNUSparseFile.0/{entry.inode}"  # the name that a reader without sparse support uses
    info.size = len(_map_of(ranges)) + sum(length for _, length in ranges)
    return header._replace(ranges=ranges)


def _decimal(time_ns: int) -> str:
    seconds, nanoseconds = divmod(abs(time_ns), 10**9)
    return f"{'-' if time_ns < 0 else ''}{seconds}.{nanoseconds:09}"


def _attributes(entry: Entry) -> tuple[dict[str, str], list[str]]:
    """Return the pax records of an entry's attributes, and descriptions of those that no record can hold."""
    records: dict[str, str] = {}
    lost = []
    for key, value in entry.xattrs:
        keyword, text = _record(key, value)
        if text is None:
            lost.append(f"its attribute {os.fsdecode(key)} is")
        else:
            records[keyword] = text
    return records, lost


def _record(key: bytes, value: bytes) -> tuple[str, str | None]:
    if key in _ACLS:
        return _ACLS[key], acl_text(value)
    try:
        word = key.decode()
    except UnicodeDecodeError:
        return "", None
    return "SCHILY.xattr." + word.replace("%", "%25").replace("=", "%3D"), os.fsdecode(value)


def acl_text(value: bytes) -> str | None:
    """Return a POSIX ACL in the text form of acl(5), from its Linux attribute. None if it is malformed."""
    entries = read_acl(value)
    if entries is None:
        return None
    parts = []
    for tag, bits, number in entries:
        if tag not in _ACL_TAGS:
            return None
        rights = stat.filemode(bits & 7)[-3:]
        parts.append(f"{_ACL_TAGS[tag]}:{number if tag in (ACL_USER, ACL_GROUP) else ''}:{rights}")
    return ",".join(parts)


def _data_ranges(entry: Entry) -> Iterator[tuple[int, int]]:
    at = 0
    for offset, length in entry.holes:
        if offset > at:
            yield at, offset - at
        at = offset + length
    if at < entry.size_bytes:
        yield at, entry.size_bytes - at
    else:
        yield entry.size_bytes, 0  # a hole at the end: this empty range marks the file's length


def _map_of(ranges: Ranges) -> bytes:
    text = f"{len(ranges)}\n" + "".join(f"{offset}\n{length}\n" for offset, length in ranges)
    return text.encode().ljust(-(-len(text) // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE, b"\0")
