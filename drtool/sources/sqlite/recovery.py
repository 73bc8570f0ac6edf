"""The copy of a SQLite database with an unfinished transaction of a killed program, rolled back by SQLite.

Invariants
    The database and its journal are only read. They are copied under SQLite's own shared lock, so no program can roll them
    back or write to them meanwhile (https://www.sqlite.org/lockingv3.html).
    SQLite itself applies the journal, to the copy.
"""

import fcntl
import os
import shutil
import sqlite3
import struct
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from io import FileIO
from pathlib import Path

from drtool.errors import DrtoolError

_RESERVED_BYTE, _SHARED_FIRST, _SHARED_SIZE = 0x40000001, 0x40000002, 510
_FLOCK = struct.Struct("hhqqi4x")
"""`struct flock` on 64-bit Linux: type, whence, start, length, pid."""
_TRY_S = 0.1
_PART_BYTES = 1 << 20


class HotJournal(DrtoolError):
    """Raised when the database has a journal that must be rolled back before it can be read."""


def journal_of(database: Path) -> Path:
    return database.with_name(database.name + "-journal")


def copy_rolled_back(database: Path, copy: Path, ends_at: float) -> None:
    """Write the state before the transaction to `copy`. `ends_at` is by `time.monotonic()`. Raises DrtoolError."""
    try:
        with _shared_lock(database, ends_at) as source, copy.open("xb") as out:
            shutil.copyfileobj(source, out, _PART_BYTES)
            shutil.copyfile(journal_of(database), journal_of(copy))
        with closing(sqlite3.connect(copy, isolation_level=None)) as connection:
            connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
            connection.execute("PRAGMA journal_mode = DELETE")
    except FileNotFoundError:
        raise DrtoolError(f"another program rolled back {database} meanwhile", hint="run the backup again") from None
    except (OSError, sqlite3.Error) as error:
        raise DrtoolError(f"the journal of the database {database} cannot be rolled back: {error}") from None


@contextmanager
def _shared_lock(database: Path, ends_at: float) -> Iterator[FileIO]:
    """Yield the open database with SQLite's shared lock. Raises DrtoolError while a program writes to it.

    POSIX locks end when the process closes any descriptor of the file, so this process must have no other one.
    """
    with database.open("rb", buffering=0) as file:
        while not _taken(file.fileno()):
            if time.monotonic() >= ends_at:
                raise DrtoolError(f"the database {database} was locked by a writer until the timeout")
            time.sleep(_TRY_S)
        if _is_reserved(file.fileno()):
            raise DrtoolError(f"another program is writing to {database}", hint="run the backup again")
        yield file


def _taken(descriptor: int) -> bool:
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB, _SHARED_SIZE, _SHARED_FIRST, os.SEEK_SET)
    except (BlockingIOError, PermissionError):
        return False
    return True


def _is_reserved(descriptor: int) -> bool:
    """Return whether a program is in a write transaction. Its journal is then not hot."""
    asked = _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, _RESERVED_BYTE, 1, 0)
    kind, *_ = _FLOCK.unpack(fcntl.fcntl(descriptor, fcntl.F_GETLK, asked))
    return bool(kind != fcntl.F_UNLCK)
