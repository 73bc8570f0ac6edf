"""Opening what a scan saw, although somebody may have swapped it since.

Invariants
    A symlink put in place of a file or directory is never followed; a FIFO put there never blocks; a device is never read.
    Reading leaves the access time alone where the kernel lets us.
"""

import errno
import fcntl
import os
import stat
import time
from collections.abc import Callable

import msgspec

from drtool.trees import Entry

_NO_ATIME = getattr(os, "O_NOATIME", 0)
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY
_ABSENT = (errno.ENOENT, errno.ENOTDIR)
_STEP_BYTES = 3500
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_PATH = getattr(os, "O_PATH", os.O_RDONLY) | os.O_DIRECTORY | os.O_CLOEXEC
_LEASE_WAIT_S = 60.0
"""The kernel ends a lease by force after /proc/sys/fs/lease-break-time, which is 45 s by default."""
_LEASE_POLL_S = 0.05
_TICK_NS = 20_000_000
"""Twice the longest step of the kernel's clock for files, which is 10 ms."""


def open_for_read(dir_fd: int, name: bytes, *, follow: bool = False) -> int:
    """A descriptor of the file `name`. OSError (ELOOP, ENXIO, …) if that is no regular file by now.

    Ask `still_same` before reading: a directory or FIFO put in its place can be opened.
    """
    flags = _READ & ~os.O_NOFOLLOW if follow else _READ
    try:
        return os.open(name, flags | _NO_ATIME, dir_fd=dir_fd)
    except PermissionError:
        # O_NOATIME is for the owner and root; its EPERM says nothing about the right to read.
        return open_leased(name, flags, dir_fd)
    except BlockingIOError:
        return open_leased(name, flags, dir_fd)


def open_leased(name: bytes | str, flags: int, dir_fd: int | None = None) -> int:
    """Open with O_NONBLOCK, and wait until another process has given up its lease (Samba's oplocks, NFS delegations).

    An open without O_NONBLOCK would wait as well, but for ever where somebody has put a FIFO in the file's place.
    """
    deadline = time.monotonic() + _LEASE_WAIT_S
    while True:
        try:
            return os.open(name, flags, dir_fd=dir_fd)
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise
        time.sleep(_LEASE_POLL_S)


def open_directory(dir_fd: int, name: bytes, *, follow: bool = False) -> int:
    """A descriptor of the directory `name`; a final symlink is followed only for what the user named (see `Roots`)."""
    flags = _DIRECTORY if follow else _DIRECTORY | os.O_NOFOLLOW
    try:
        return os.open(name, flags | _NO_ATIME, dir_fd=dir_fd)
    except PermissionError:
        return os.open(name, flags, dir_fd=dir_fd)


def open_passage(dir_fd: int, name: bytes, *, follow: bool = False) -> int:
    """A descriptor of a directory that is only passed through: search permission suffices, it need not be readable."""
    return os.open(name, _PATH if follow else _PATH | os.O_NOFOLLOW, dir_fd=dir_fd)


def open_top() -> int:
    """A descriptor of `/` to begin a way with; it need not be readable."""
    return os.open(b"/", _PATH)


def is_passage(fd: int) -> bool:
    """Return whether an open directory cannot be listed: it is the result of `open_passage`."""
    return bool(fcntl.fcntl(fd, fcntl.F_GETFL) & getattr(os, "O_PATH", 0))


def still_same(fd: int, entry: Entry, *, ignore_inode: bool = False) -> bool:
    """Whether the open file is the one that was captured and has not changed since: ask before *and* after reading."""
    now = os.fstat(fd)
    return (
        now.st_mtime_ns == entry.mtime_ns
        and now.st_ctime_ns == entry.ctime_ns
        and now.st_size == entry.size_bytes
        and (ignore_inode or now.st_ino == entry.inode)
        and stat.S_ISREG(now.st_mode)
    )


def stat_between_ticks(fd: int) -> os.stat_result:
    """Return the stat of an open file, once a later write gives it another time.

    The kernel's clock for files stands still for some ms, so two writes may leave the same time.
    """
    found = os.fstat(fd)
    age_ns = time.time_ns() - max(found.st_mtime_ns, found.st_ctime_ns)
    if 0 <= age_ns < _TICK_NS:
        time.sleep((_TICK_NS - age_ns) / 10**9)
        found = os.fstat(fd)
    return found


def same_state(one: os.stat_result, other: os.stat_result, *, ignore_ctime: bool = False) -> bool:
    """Return whether a file was not written to between two looks at it."""
    return (
        one.st_size == other.st_size
        and one.st_mtime_ns == other.st_mtime_ns
        and (ignore_ctime or one.st_ctime_ns == other.st_ctime_ns)
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
    return _open_path(path, open_directory, follow=follow)


def open_passage_path(path: bytes, *, follow: bool = True) -> int:
    """As `open_directory_path`, for a directory that leads on and need not be readable (see `open_passage`)."""
    return _open_path(path, open_passage, follow=follow)


def _open_path(path: bytes, open_last: Callable[..., int], *, follow: bool) -> int:
    fd = open_top()
    steps = _steps(path.strip(b"/").split(b"/")) if path != b"/" else [[b"."]]
    for number, step in enumerate(steps, start=1):
        last = number == len(steps)
        try:
            deeper = (open_last if last else open_passage)(fd, b"/".join(step), follow=follow or not last)
        finally:
            os.close(fd)
        fd = deeper
    return fd


def open_same_directory(path: bytes, inode: int) -> int:
    """As `open_directory_path`, for a directory seen before; OSError if another one, or a symlink to one, stands there now.

    `inode` 0 is that of a file system whose inode numbers do not last: nothing is compared.
    """
    fd = open_directory_path(path)
    if inode and os.fstat(fd).st_ino != inode:
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
