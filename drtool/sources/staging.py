"""Staging directories for data that must be a file before it can be stored: private, with enough room, temporary.

Invariants
    A space is a directory with mode 0700 below the state directory. Its owner holds a lock on it while it lives.
    A space without a lock belonged to a killed run, and the next run removes it. A locked one is never touched.
"""

import fcntl
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from drtool.errors import DrtoolError

STAGING = "staging"
MARGIN_BYTES = 64 << 20
_ATTEMPTS = 10


@contextmanager
def staged(state_dir: Path, size_bytes: int) -> Iterator[Path]:
    """Yield a new, empty directory. Raises DrtoolError in advance without room for a tenth more than `size_bytes`."""
    top = state_dir / STAGING
    top.mkdir(mode=0o700, parents=True, exist_ok=True)
    clear_abandoned(top)
    _check_room(top, size_bytes)
    path, held = _made(top)
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)  # the next run removes leftovers, once the lock is gone
        os.close(held)


def clear_abandoned(top: Path) -> None:
    """Remove the spaces that no process has locked."""
    for path in top.iterdir():
        held = _lock(path)
        if held is not None:
            shutil.rmtree(path, ignore_errors=True)
            os.close(held)


def _check_room(top: Path, size_bytes: int) -> None:
    status = os.statvfs(top)
    free_bytes, need_bytes = status.f_bavail * status.f_frsize, size_bytes * 11 // 10 + MARGIN_BYTES
    if free_bytes < need_bytes:
        raise DrtoolError(
            f"{top} has {free_bytes} bytes free, but {need_bytes} are needed to stage a copy",
            hint="free space there, or set $DRTOOL_STATE_DIR to a directory with more",
        )


def _made(top: Path) -> tuple[Path, int]:
    for _ in range(_ATTEMPTS):
        path = top / secrets.token_hex(8)
        path.mkdir(mode=0o700)
        held = _lock(path)
        if held is not None and path.exists():  # otherwise another run has removed it
            return path, held
    raise DrtoolError(f"no directory could be made and kept in {top}")


def _lock(path: Path) -> int | None:
    """Lock a space. None if another process holds it, or it is gone."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor
