"""The capture of a SQLite database by SQLite's backup API, while other programs may write to it.

Invariants
    The copy is of one moment: a read transaction is held from the first page to the last. Rows in a `-wal` are included.
    The stored copy is one file in rollback-journal mode that passed `integrity_check` (or `quick_check`, if that needs
    functions of the database's own program). The database itself is never written. An unfinished transaction of a killed
    program is rolled back on the copy.
"""

import os
import sqlite3
import time
from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from drtool.errors import DrtoolError
from drtool.sources.filesystem.roots import absolute
from drtool.sources.inventory import NAME, Inventory
from drtool.sources.port import Around, Attributes, Foreseen, Foresight, VirtualFile, from_bytes, from_file
from drtool.sources.sqlite.looking import connect, describe, unchecked
from drtool.sources.sqlite.recovery import HotJournal, copy_rolled_back, journal_of
from drtool.sources.staging import staged

KIND = "sqlite"
BUSY_S = 60.0
"""How long the backup waits for a writer's lock."""
_STEP_PAGES = 4096
_COPY = "copy.db"
_INVENTORY = b"/sqlite/" + NAME.encode()


class SqliteSource:
    """An implementation of `port.Source`. The database keeps its path in the snapshot, beside `/sqlite/inventory.json`."""

    kind = KIND
    again = True

    def __init__(self, path: Path, *, busy_s: float = BUSY_S) -> None:
        self._name = absolute(os.fsencode(path))
        self._path = Path(os.fsdecode(self._name))
        self._busy_s = busy_s
        self.paths = (self._name,)

    def foresee(self, around: Around) -> Foresight:
        try:
            with closing(self._reading()) as connection:
                size_bytes = _size_bytes(connection)
                (mode,) = connection.execute("PRAGMA journal_mode").fetchone()
        except HotJournal:
            size_bytes, mode = self._path.stat().st_size, "delete, with an unfinished transaction to roll back"
        fact = f"{self._path}: {size_bytes} bytes, journal mode {mode}, read by SQLite {sqlite3.sqlite_version}"
        return Foresight((Foreseen(self._name, size_bytes), Foreseen(_INVENTORY)), (fact,))

    def files(self, around: Around) -> Generator[VirtualFile, None, None]:
        with self._copied(around) as copy:
            database = describe(copy, str(self._path), os.fsdecode(self._name))
            for text in unchecked(database):
                around.warn(f"the database {self._path}: {text}")
            yield from_file(
                self._name, copy, attributes=Attributes.of(self._path.stat()), above=_directories_of(self._path)
            )
        yield from_bytes(_INVENTORY, Inventory(drtool=KIND, databases=(database,)).encoded())

    @contextmanager
    def _copied(self, around: Around) -> Iterator[Path]:
        """Yield a copy in the staging directory, removed afterwards. Raises DrtoolError."""
        try:
            with closing(self._reading()) as connection, staged(around.state_dir, _size_bytes(connection)) as room:
                self._copy(connection, room / _COPY)
                yield room / _COPY
        except HotJournal as hot:
            real = self._path.resolve()  # the journal is beside the file, not beside a link to it
            size_bytes = real.stat().st_size + journal_of(real).stat().st_size
            around.warn(hot.message)
            with staged(around.state_dir, size_bytes) as room:
                copy_rolled_back(real, room / _COPY, time.monotonic() + self._busy_s)
                yield room / _COPY

    def _reading(self) -> sqlite3.Connection:
        """Return a connection in a read transaction. Raises DrtoolError."""
        ends_at = time.monotonic() + self._busy_s
        try:
            connection = connect(self._path)
        except sqlite3.Error as error:
            raise self._unreadable(error) from None
        try:
            while not self._begun(connection):
                if time.monotonic() >= ends_at:
                    raise DrtoolError(f"the database {self._path} was locked for {self._busy_s:.0f} s by a writer")
        except BaseException:
            connection.close()
            raise
        return connection

    def _begun(self, connection: sqlite3.Connection) -> bool:
        """Return whether a transaction is open now, or False while a writer blocks it. Waits at most one second."""
        try:
            if not connection.in_transaction:
                connection.execute("BEGIN")
            connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_BUSY:
                return False
            raise self._unreadable(error) from None
        except sqlite3.Error as error:
            raise self._unreadable(error) from None
        return True

    def _copy(self, connection: sqlite3.Connection, copy: Path) -> None:
        try:
            with closing(sqlite3.connect(copy, isolation_level=None)) as target:
                connection.backup(target, pages=_STEP_PAGES, sleep=0)
                target.execute("PRAGMA journal_mode = DELETE")
        except sqlite3.Error as error:
            raise self._unreadable(error) from None

    def _unreadable(self, error: sqlite3.Error) -> DrtoolError:
        if getattr(error, "sqlite_errorcode", 0) == sqlite3.SQLITE_READONLY_ROLLBACK:
            return HotJournal(
                f"a program was killed while it wrote to {self._path}: the copy has the state before its last transaction"
            )
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        shut_out = code in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN)
        hint = "SQLite reads a database in WAL mode with a -shm beside it: back it up as its owner, or as root"
        return DrtoolError(f"the database {self._path} cannot be read: {error}", hint=hint if shut_out else None)


def _size_bytes(connection: sqlite3.Connection) -> int:
    (pages,), (page_bytes,) = (connection.execute(f"PRAGMA {name}").fetchone() for name in ("page_count", "page_size"))
    return int(pages) * int(page_bytes)


def _directories_of(path: Path) -> dict[bytes, Attributes]:
    """Return the attributes of the parent directories, so that a restore keeps their permissions."""
    return {os.fsencode(above): Attributes.of(above.stat()) for above in path.parents if above != above.parent}
