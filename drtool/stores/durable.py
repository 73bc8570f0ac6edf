"""Storing a file in a directory so that after a power cut it is there completely or not at all.

The order is: write, fsync the file, give it its name, fsync the directory. A failure leaves no temporary file; only a
killed process does. Everything is relative to an open directory.
"""

import ctypes
import errno
import os
import secrets
import sys
from fcntl import F_GETFL, F_SETFL, fcntl

from drtool.stores.names import TEMPORARY_PREFIX
from drtool.stores.ports import Buffer

PAGE_BYTES = 4096
DIRECT_FROM_BYTES = 256 * 1024
_O_DIRECT = getattr(os, "O_DIRECT", 0)
_LINK_REFUSED = frozenset({errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS})
_NO_DIRECTORY_SYNC = frozenset({errno.EINVAL, errno.ENOTSUP})
_RENAME_NOREPLACE = 1


def replace(directory: int, name: str, data: Buffer) -> None:
    """Store `data` as `name` in `directory`, replacing an existing file."""
    temporary = _written(directory, data)
    try:
        os.rename(temporary, name, src_dir_fd=directory, dst_dir_fd=directory)
    except BaseException:
        _discard(directory, temporary)
        raise
    sync_directory(directory)


def create(directory: int, name: str, data: Buffer) -> bool:
    """Store `data` as `name` in `directory` unless it exists. Return whether it was created."""
    temporary = _written(directory, data)
    try:
        # link(2), not O_EXCL, so that readers never see a half-written record
        os.link(temporary, name, src_dir_fd=directory, dst_dir_fd=directory)
        created = True
    except FileExistsError:
        created = False
    except OSError as error:
        if error.errno not in _LINK_REFUSED:
            _discard(directory, temporary)
            raise
        return _create_by_rename(directory, temporary, name)
    except BaseException:
        _discard(directory, temporary)
        raise
    _discard(directory, temporary)
    sync_directory(directory)  # also when it existed, because its creator may not have synced it yet
    return created


def claim_room(directory: int, size_bytes: int) -> None:
    """Reserve so many bytes in a temporary file of `directory`, and remove it. OSError if they do not fit."""
    name = f"{TEMPORARY_PREFIX}{secrets.token_hex(8)}"
    descriptor = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600, dir_fd=directory)
    try:
        os.unlink(name, dir_fd=directory)
        os.posix_fallocate(descriptor, 0, size_bytes)
    finally:
        os.close(descriptor)


def remove_if_old(directory: int, name: str, before_s: float) -> bool:
    """Remove a temporary file that was last written before `before_s`, and return whether it was removed."""
    try:
        if os.stat(name, dir_fd=directory, follow_symlinks=False).st_mtime >= before_s:
            return False
        os.unlink(name, dir_fd=directory)
    except FileNotFoundError:
        return False
    return True


def sync_directory(directory: int) -> None:
    """Make the names in a directory durable, where the file system supports that."""
    try:
        os.fsync(directory)
    except OSError as error:
        if error.errno not in _NO_DIRECTORY_SYNC:
            raise


def _create_by_rename(directory: int, temporary: str, name: str) -> bool:
    try:
        created = rename_without_replacing(directory, temporary, name)
        if not created:
            _discard(directory, temporary)
    except BaseException:
        _discard(directory, temporary)
        raise
    sync_directory(directory)
    return created


def rename_without_replacing(directory: int, old: str, new: str) -> bool:
    """Rename with RENAME_NOREPLACE of renameat2(2), for file systems without hard links. Return False if `new` exists."""
    if not sys.platform.startswith("linux"):
        raise OSError(errno.ENOTSUP, os.strerror(errno.ENOTSUP))
    call = ctypes.CDLL(None, use_errno=True).renameat2
    if call(directory, old.encode(), directory, new.encode(), _RENAME_NOREPLACE) == 0:
        return True
    number = ctypes.get_errno()
    if number == errno.EEXIST:
        return False
    raise OSError(number, os.strerror(number), new)


def _discard(directory: int, temporary: str) -> None:
    try:
        os.unlink(temporary, dir_fd=directory)
    except FileNotFoundError:
        pass  # already renamed, or the directory is gone


def _written(directory: int, data: Buffer) -> str:
    """Write `data` to a durable temporary file, and return its name."""
    temporary = TEMPORARY_PREFIX + secrets.token_hex(8)
    with memoryview(data).cast("B") as view:
        descriptor = _opened(directory, temporary, direct=_suits_direct(view))
        try:
            try:
                _write_all(descriptor, view)
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        except BaseException:
            _discard(directory, temporary)
            raise
    return temporary


def _opened(directory: int, temporary: str, *, direct: bool) -> int:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    if direct:
        try:
            return os.open(temporary, flags | _O_DIRECT, 0o600, dir_fd=directory)
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
            _discard(directory, temporary)  # some file systems refuse only after creating the name
    return os.open(temporary, flags, 0o600, dir_fd=directory)


def _suits_direct(view: memoryview) -> bool:
    """Return whether direct writes are possible and worthwhile: 0.04 CPU seconds per GiB instead of 0.25."""
    if not _O_DIRECT or view.readonly or view.nbytes < DIRECT_FROM_BYTES:
        return False
    return ctypes.addressof(ctypes.c_char.from_buffer(view)) % PAGE_BYTES == 0


def _write_all(descriptor: int, view: memoryview) -> None:
    """Write everything. If the descriptor is direct, whole pages go directly and the rest through the page cache."""
    direct = bool(_O_DIRECT) and bool(fcntl(descriptor, F_GETFL) & _O_DIRECT)
    done, whole_pages = 0, view.nbytes - view.nbytes % PAGE_BYTES
    while done < view.nbytes:
        if direct and done >= whole_pages:
            direct = _leave_direct(descriptor)
        try:
            done += os.write(descriptor, view[done : whole_pages if direct else view.nbytes])
        except OSError as error:
            if not direct or error.errno != errno.EINVAL:
                raise
            direct = _leave_direct(descriptor)  # the file system accepted the flag but not these bytes


def _leave_direct(descriptor: int) -> bool:
    fcntl(descriptor, F_SETFL, fcntl(descriptor, F_GETFL) & ~_O_DIRECT)
    return False
