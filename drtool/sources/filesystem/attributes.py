"""What stat does not tell: extended attributes (ACLs, capabilities), holes, inode flags.

Invariants
    Everything is read through a descriptor, or by name in an open directory without following a final symlink:
    a directory that is renamed or swapped meanwhile cannot redirect us.
    A file system without extended attributes, holes or flags is no error: it has none.
    An attribute that cannot be read is named, and everything else is captured all the same.
"""

import errno
import fcntl
import os
import struct
import sys
from typing import NamedTuple

from drtool.sources.filesystem.reading import reason
from drtool.sources.filesystem.without_proc import HAS_PROC, in_directory

_ENCODING = sys.getfilesystemencoding()
_ERRORS = sys.getfilesystemencodeerrors()

HAS_XATTRS = hasattr(os, "listxattr")
_UNSUPPORTED = frozenset({errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS})

_GET_FLAGS = 0x80086601
_SET_FLAGS = 0x40086602
_FLAG_CASEFOLD = 0x40000000
FLAG_IMMUTABLE = 0x10
FLAG_APPEND = 0x20
FLAG_COMPRESS = 0x4
FLAG_NO_COMPRESS = 0x400
FLAG_NO_COW = 0x800000
LOCKING_FLAGS = FLAG_IMMUTABLE | FLAG_APPEND
"""With one of these set, even root cannot change or remove the file."""
EARLY_FLAGS = FLAG_COMPRESS | FLAG_NO_COMPRESS | FLAG_NO_COW
"""Only have an effect when set before the first byte is written."""
# SYNC, NODUMP, NOATIME, JOURNAL_DATA, NOTAIL, DIRSYNC, TOPDIR, PROJINHERIT; not extents, inline data, encryption,
# verity: those describe how the file system stores the file, and FS_IOC_SETFLAGS refuses them.
SETTABLE_FLAGS = LOCKING_FLAGS | EARLY_FLAGS | 0x8 | 0x40 | 0x80 | 0x4000 | 0x8000 | 0x10000 | 0x20000 | 0x20000000

Xattrs = tuple[tuple[bytes, bytes], ...]
_NO_FLAGS = _UNSUPPORTED | {errno.ENOTTY, errno.EINVAL, errno.EPERM}
"""Every file system without flags has its own error for it; EPERM comes from sandboxes that filter the call."""


class Attributes(NamedTuple):
    """What was read of one file's attributes, and in words what could not be read."""

    xattrs: Xattrs
    flags: int
    uncaptured: tuple[str, ...]


def attributes_of(fd: int) -> Attributes:
    """Return the extended attributes and the flags of an open file."""
    xattrs, uncaptured = readable_xattrs(fd)
    try:
        return Attributes(xattrs, _flags(fd), uncaptured)
    except OSError as error:
        return Attributes(xattrs, 0, uncaptured if error.errno in _NO_FLAGS else (*uncaptured, reason("flags", error)))


def passage_attributes(fd: int) -> Attributes:
    """Return the attributes of a directory that may be passed through and not be read, as far as they can be seen.

    Its flags and its `user.*` attributes are for those who may read it. It was not named, so this is no failure.
    """
    xattrs, _ = xattrs_in(fd, b".")
    return Attributes(xattrs, 0, ())


def readable_xattrs(target: int | str | bytes, *, follow_symlinks: bool = True) -> tuple[Xattrs, tuple[str, ...]]:
    """Return every extended attribute that can be read, sorted by name, and in words what cannot.

    FileNotFoundError if the file is gone.
    """
    if not HAS_XATTRS:
        return (), ()
    try:
        names = os.listxattr(target, follow_symlinks=follow_symlinks)
    except FileNotFoundError:
        raise
    except OSError as error:
        return (), () if error.errno in _UNSUPPORTED else (reason("xattrs", error),)
    return _values(target, names, follow_symlinks) if names else ((), ())


def xattrs_of(target: int | str | bytes, *, follow_symlinks: bool = True) -> Xattrs:
    """Return every extended attribute of a descriptor or path, sorted by name. OSError if one cannot be read."""
    xattrs, uncaptured = readable_xattrs(target, follow_symlinks=follow_symlinks)
    if uncaptured:
        raise OSError(errno.EIO, uncaptured[0])
    return xattrs


def _values(target: int | str | bytes, names: list[str], follow_symlinks: bool) -> tuple[Xattrs, tuple[str, ...]]:
    pairs = []
    uncaptured = []
    for name in names:
        try:
            value = os.getxattr(target, name, follow_symlinks=follow_symlinks)
        except FileNotFoundError:
            raise
        except OSError as error:
            # ENODATA: removed since it was listed. ENOTSUP: listed by an overlay that does not serve it.
            if error.errno != errno.ENODATA and error.errno not in _UNSUPPORTED:
                uncaptured.append(reason(f"xattr {_text(name)}", error))
            continue
        pairs.append((name.encode(_ENCODING, _ERRORS), value))
    pairs.sort()
    return tuple(pairs), tuple(uncaptured)


def _text(name: str) -> str:
    return name.encode(_ENCODING, _ERRORS).decode("utf-8", "backslashreplace")


def xattrs_in(dir_fd: int, name: bytes) -> tuple[Xattrs, tuple[str, ...]]:
    """Return the extended attributes of a name in an open directory, symlinks not followed, and in words what cannot be read."""
    last = name.decode(_ENCODING, _ERRORS)
    if HAS_PROC:
        return readable_xattrs(f"/proc/self/fd/{dir_fd}/{last}", follow_symlinks=False)
    return in_directory(dir_fd, lambda: readable_xattrs(last, follow_symlinks=False))


def flags_of(fd: int) -> int:
    """The inode flags that a restore can set; 0 where the file system has none."""
    try:
        return _flags(fd)
    except OSError:
        return 0


def _flags(fd: int) -> int:
    if sys.platform != "linux":
        return 0
    answer = fcntl.ioctl(fd, _GET_FLAGS, b"\0\0\0\0\0\0\0\0")
    flags: int = struct.unpack_from("=I", answer)[0]
    return flags & SETTABLE_FLAGS


def may_read_flags() -> bool:
    """Return whether this process may ask for flags: a sandbox may filter the call."""
    if sys.platform != "linux":
        return True
    fd = os.open(b"/", os.O_RDONLY | os.O_CLOEXEC)
    try:
        _flags(fd)
    except OSError as error:
        return error.errno != errno.EPERM
    finally:
        os.close(fd)
    return True


def folds_by_flag(fd: int) -> bool:
    """Return whether an open directory takes names that differ in case for one, as ext4 and f2fs do where it is switched on."""
    try:
        flags: int = struct.unpack_from("=I", fcntl.ioctl(fd, _GET_FLAGS, b"\0\0\0\0\0\0\0\0"))[0]
    except OSError:
        return False
    return bool(flags & _FLAG_CASEFOLD) and sys.platform == "linux"


def set_flags(fd: int, flags: int) -> None:
    """Make the settable inode flags exactly `flags`; the others stay. OSError if the file system refuses."""
    answer = fcntl.ioctl(fd, _GET_FLAGS, b"\0\0\0\0\0\0\0\0")
    now: int = struct.unpack_from("=I", answer)[0]
    wanted = (now & ~SETTABLE_FLAGS) | (flags & SETTABLE_FLAGS)
    if wanted != now:
        fcntl.ioctl(fd, _SET_FLAGS, struct.pack("=II", wanted, 0))


def holes_of(fd: int, size_bytes: int) -> tuple[tuple[int, int], ...]:
    """(offset, length) of each hole, ascending; none where the file system cannot tell."""
    holes = []
    end = 0
    try:
        while end < size_bytes:
            start = min(os.lseek(fd, end, os.SEEK_HOLE), size_bytes)
            end = _next_data(fd, start, size_bytes)
            if end > start:
                holes.append((start, end - start))
        os.lseek(fd, 0, os.SEEK_SET)
    except OSError as error:
        if error.errno in (errno.EINVAL, errno.ENXIO) or error.errno in _UNSUPPORTED:
            return ()
        raise
    return tuple(holes)


def is_sparse(found: os.stat_result) -> bool:
    """Return whether a file takes less room than it has bytes, so that it may have holes."""
    return found.st_blocks * 512 < found.st_size


def new_holes(fd: int, size_bytes: int) -> tuple[tuple[int, int], ...]:
    """Return the holes of a file that has changed since it was first looked at; none where they cannot be told."""
    try:
        return holes_of(fd, size_bytes) if is_sparse(os.fstat(fd)) else ()
    except OSError:
        return ()  # the map is no part of the content: it only tells a restore where to leave room


def hole_at(fd: int, offset: int) -> int:
    """Return the length of the hole that begins at `offset` or reaches beyond it; 0 where there is none, or none is known."""
    try:
        return os.lseek(fd, offset, os.SEEK_DATA) - offset
    except OSError as error:
        return max(0, os.fstat(fd).st_size - offset) if error.errno == errno.ENXIO else 0


def is_hole(fd: int, offset: int, size_bytes: int) -> bool:
    """Return whether the file system knows that these bytes of an open file are a hole."""
    return hole_at(fd, offset) >= size_bytes


def _next_data(fd: int, start: int, size_bytes: int) -> int:
    if start >= size_bytes:
        return size_bytes
    try:
        return min(os.lseek(fd, start, os.SEEK_DATA), size_bytes)
    except OSError as error:
        if error.errno == errno.ENXIO:
            return size_bytes
        raise
