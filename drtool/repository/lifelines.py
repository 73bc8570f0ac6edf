"""Lifelines: for each session that this state directory opened, a file that stays locked while the session's process
lives.

A host id, a pid and a start time can be copied with a machine, but a lifeline proves no more than it should. A session
without a file here was opened elsewhere, or by a copy of this machine, and nothing about its process can be proven
here.

Invariants
    The file exists, and is locked, before its session is committed. The kernel releases the lock when the process ends.
    Only a lock on a local file system counts, since a server may drop a lock while its holder lives.
    A file names its own device and inode, so a copy of the state directory proves nothing.
    A file less than a day old stays even if no process holds it: the session of a killed run may reach the catalogue
    after the kill, and could otherwise never be proven dead.
"""

import fcntl
import os
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from drtool.model import SessionId
from drtool.stores.voting import MAY_VOTE, file_system_of

STALE_S = 86_400.0


class Lifeline:
    """The lifeline of one session of this process.

    If its file cannot be written, the session works without later proof.
    """

    def __init__(self, directory: Path, session: SessionId) -> None:
        self._path = directory / session.hex()
        self._descriptor: int | None = None
        with suppress(OSError):  # the state directory is full or read-only, see above
            directory.mkdir(parents=True, exist_ok=True)
            self._descriptor = os.open(self._path, os.O_CREAT | os.O_RDWR, 0o600)
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.write(self._descriptor, _place_of(self._descriptor))

    def end(self) -> None:
        """Remove the file, since the session is over."""
        if self._descriptor is None:
            return
        self._path.unlink(missing_ok=True)
        os.close(self._descriptor)
        self._descriptor = None


def was_opened_here(directory: Path, session: SessionId) -> bool:
    """Return whether this state directory, and no copy of it, opened the session."""
    with _opened(directory / session.hex()) as descriptor:
        return descriptor is not None and _is_original(descriptor)


def is_released(directory: Path, session: SessionId) -> bool:
    """Return whether this state directory opened the session, and the kernel has seen its process end."""
    with _opened(directory / session.hex()) as descriptor:
        if descriptor is None or file_system_of(descriptor) not in MAY_VOTE:
            return False
        return _is_original(descriptor) and _is_free(descriptor)


def sweep(directory: Path, open_sessions: Collection[SessionId], ended: Collection[SessionId] = ()) -> None:
    """Remove the files of the sessions `ended`, and old files of sessions that are over and that no process holds."""
    names = {session.hex() for session in open_sessions}
    for session in ended:
        with suppress(OSError):
            (directory / session.hex()).unlink(missing_ok=True)
    with suppress(OSError):  # the leftovers are small, and the next run sweeps again
        for path in list(directory.iterdir()):
            with _opened(path) as descriptor:
                if descriptor is None or path.name in names:
                    continue
                if _is_old(descriptor) and _is_free(descriptor):
                    path.unlink(missing_ok=True)


def _place_of(descriptor: int) -> bytes:
    found = os.fstat(descriptor)
    return b"%d %d" % (found.st_dev, found.st_ino)


def _is_original(descriptor: int) -> bool:
    return os.pread(descriptor, 64, 0) == _place_of(descriptor)


def _is_old(descriptor: int) -> bool:
    return time.time() - os.fstat(descriptor).st_mtime > STALE_S


def _is_free(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


@contextmanager
def _opened(path: Path) -> Iterator[int | None]:
    """Yield the open file, or None if it cannot be opened. Closing it releases the lock that was tried."""
    try:
        descriptor = os.open(path, os.O_RDWR)
    except OSError:
        yield None
        return
    try:
        yield descriptor
    finally:
        os.close(descriptor)
