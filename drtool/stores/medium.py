"""The meaning of operating system errors for a target on a file system."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from os import strerror

from drtool.errors import StoreError, TargetFull, TargetOffline, TargetReadOnly, TargetUnanswered

FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
READ_ONLY = frozenset({errno.EROFS, errno.EACCES, errno.EPERM})
GONE = frozenset({errno.ESTALE, errno.ENOTCONN, errno.ENODEV, errno.ENXIO, errno.EHOSTDOWN, errno.ETIMEDOUT})


def meaning(error: OSError, where: str, *, writing: bool) -> StoreError:
    """Return our error for `error` at `where`, a path as shown to users."""
    number = error.errno or 0
    why = strerror(number).lower() if number else str(error)
    if number in GONE:
        kind = TargetUnanswered if writing else TargetOffline
        return kind(f"{where} cannot be reached: {why}", hint="check that it is mounted")
    if number in FULL:
        return TargetFull(f"{where} has no room left: {why}", hint="free some space there, or add a target")
    if number == errno.EROFS:
        return TargetReadOnly(
            f"{where} is read-only", hint="remount it for writing; a disk with errors remounts itself"
        )
    if writing and number in READ_ONLY:
        return TargetReadOnly(f"{where} is not writable: {why}", hint="check the owner and mode of the directory")
    return StoreError(f"{where} failed: {why}")


@contextmanager
def translated(where: str, *, writing: bool) -> Iterator[None]:
    """Convert an `OSError` within the block to a `StoreError` that names `where`."""
    try:
        yield
    except OSError as error:
        raise meaning(error, where, writing=writing) from error
