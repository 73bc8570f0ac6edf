"""Opening what a scan saw, although somebody may have swapped it since.

Invariants
    A symlink put in place of a file or directory is never followed; a FIFO put there never blocks; a device is never read.
    Reading leaves the access time alone where the kernel lets us.
"""

import errno
import os
import stat

import msgspec

from drtool.trees import Entry

_NO_ATIME = getattr(os, "O_NOATIME", 0)
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY
_ABSENT = (errno.ENOENT, errno.ENOTDIR)
_STEP_BYTES = 3500
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


def open_for_read(dir_fd: int, name: bytes, *, follow: bool = False) -> int:
    """A descriptor of the file `name`. OSError (ELOOP, ENXIO, …) if that is no regular file by now.

    Ask `still_same` before reading: a directory or FIFO put in its place can be opened.
    """
    flags = _READ & ~os.O_NOFOLLOW if follow else _READ
    try:
        return os.open(name, flags | _NO_ATIME, dir_fd=dir_fd)
    except PermissionError:
        # O_NOATIME is for the owner and root; its EPERM says nothing about the right to read.
        return os.open(name, flags, dir_fd=dir_fd)


def open_directory(dir_fd: int, name: bytes, *, follow: bool = False) -> int:
    """A descriptor of the directory `name`; a final symlink is followed only for what the user named (see `Roots`)."""
    flags = _DIRECTORY if follow else _DIRECTORY | os.O_NOFOLLOW
    try:
        return os.open(name, flags | _NO_ATIME, dir_fd=dir_fd)
    except PermissionError:
        return os.open(name, flags, dir_fd=dir_fd)


def still_same(fd: int, entry: Entry) -> bool:
    """Whether the open file is the one that was captured and has not changed since: ask before *and* after reading."""
    now = os.fstat(fd)
    return (
        now.st_mtime_ns == entry.mtime_ns
        and now.st_ctime_ns == entry.ctime_ns
        and now.st_size == entry.size_bytes
        and now.st_ino == entry.inode
        and stat.S_ISREG(now.st_mode)
    )


def gone(error: OSError, name: bytes, dir_fd: int | None = None) -> bool:
    """Return whether `name` vanished, which is no failure of the backup.

    Only ENOENT and ENOTDIR can mean that, and only if lstat confirms it twice. Every other error, a stale handle among them,
    is that of a file that may still be there.
    """
    if error.errno not in _ABSENT:
        return False
    return all(_is_absent(name, dir_fd) for _ in range(2))


def _is_absent(name: bytes, dir_fd: int | None) -> bool:
    try:
        os.stat(name, dir_fd=dir_fd, follow_symlinks=False)
    except OSError as error:
        return error.errno in _ABSENT
    return False


def with_uncaptured(entry: Entry, what: str, error: OSError) -> Entry:
    """The entry, marked as incomplete: the restore lists it, the next backup does not trust it."""
    return msgspec.structs.replace(entry, uncaptured=(*entry.uncaptured, reason(what, error)))


def reason(what: str, error: OSError) -> str:
    """`content: Permission denied`."""
    return f"{what}: {error.strerror or error}"


def open_directory_path(path: bytes, *, follow: bool = True) -> int:
    """A descriptor of the directory at an absolute path of any length; `follow` says whether its last part may be a symlink."""
    fd = os.open(b"/", _DIRECTORY)
    parts = path.strip(b"/").split(b"/") if path != b"/" else []
    steps = _steps(parts)
    for number, step in enumerate(steps, start=1):
        last = number == len(steps)
        try:
            deeper = open_directory(fd, b"/".join(step), follow=follow or not last)
        finally:
            os.close(fd)
        fd = deeper
    return fd


def open_same_directory(path: bytes, inode: int) -> int:
    """As `open_directory_path`, for a directory seen before; OSError if another one, or a symlink to one, stands there now."""
    fd = open_directory_path(path)
    if os.fstat(fd).st_ino != inode:
        os.close(fd)
        raise OSError(errno.EBUSY, "another directory took its place while the backup ran")
    return fd


def _steps(parts: list[bytes]) -> list[list[bytes]]:
    """The parts in runs that the kernel takes at once."""
    steps: list[list[bytes]] = []
    room = 0
    for part in parts:
        if not steps or room < len(part) + 1:
            steps.append([])
            room = _STEP_BYTES
        steps[-1].append(part)
        room -= len(part) + 1
    return steps
