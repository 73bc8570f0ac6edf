"""Looking into a SQLite database: what is defined in it, how many rows, whether it is sound.

Invariants
    A database is opened read-only, as one of its users: its locks are honoured, and nothing of it is written.
"""

import os
import sqlite3
from contextlib import closing
from pathlib import Path
from urllib.parse import quote

from drtool.errors import DrtoolError
from drtool.sources.inventory import Database, digest

_MAGIC = b"SQLite format 3\0"


def connect(path: Path, *, timeout_s: float = 1.0) -> sqlite3.Connection:
    """Read-only. On a medium that nobody can write to, a database in WAL mode is read as the unchanging file that it is."""
    check_is_database(path)
    frozen = "&immutable=1" if os.statvfs(path).f_flag & os.ST_RDONLY else ""
    uri = f"file:{quote(os.fspath(path))}?mode=ro{frozen}"
    return sqlite3.connect(uri, uri=True, timeout=timeout_s, isolation_level=None)


def check_is_database(path: Path) -> None:
    """Raises DrtoolError unless there is a file that begins as databases do."""
    try:
        with path.open("rb") as file:
            head = file.read(len(_MAGIC))
    except FileNotFoundError:
        raise DrtoolError(f"there is no database {path}") from None
    except OSError as error:
        raise DrtoolError(f"the database {path} cannot be read: {error.strerror}") from None
    if not head and (path.with_name(path.name + "-wal")).exists():
        return  # made just now: all of it is in its log
    if head != _MAGIC:
        what = "is empty" if not head else "is no SQLite database"
        raise DrtoolError(f"{path} {what}", hint="an encrypted database needs its own program: use a stream")


def describe(path: Path, name: str, dump: str) -> Database:
    """What the database holds, and the verdict on its soundness. Raises DrtoolError if it is damaged."""
    try:
        with closing(connect(path)) as connection:
            connection.text_factory = lambda text: text.decode("utf-8", "surrogateescape")
            verdict = [row[0] for row in connection.execute("PRAGMA integrity_check(5)")]
            if verdict != ["ok"]:
                raise DrtoolError(
                    f"the database {name} is damaged: {'; '.join(verdict)[:500]}",
                    hint="nothing was stored; the last snapshot before the damage is still there",
                )
            objects = connection.execute("SELECT type, name, tbl_name, sql FROM sqlite_master").fetchall()
            return Database(
                name=name,
                dump=dump,
                rows={table: _count(connection, table) for table in sorted(_tables(objects))},
                schema_sha256=digest("\1".join(str(part) for part in row) for row in objects),
                checks={"integrity_check": "ok"},
                size_bytes=path.stat().st_size,
            )
    except sqlite3.Error as error:
        raise DrtoolError(f"the database {name} cannot be read: {error}") from None


def _tables(objects: list[tuple[str, str, str, str | None]]) -> list[str]:
    return [name for kind, name, _, _ in objects if kind == "table" and not name.startswith("sqlite_")]


def _count(connection: sqlite3.Connection, table: str) -> int | None:
    """None for a virtual table whose module this program does not have."""
    quoted = table.replace('"', '""')
    try:
        return int(connection.execute(f'SELECT count(*) FROM "{quoted}"').fetchone()[0])  # noqa: S608 - a quoted name
    except sqlite3.OperationalError:
        return None
