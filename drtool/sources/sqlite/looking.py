"""Inspection of a SQLite database: its definitions, row counts and soundness.

Invariants
    A database is opened read-only, as one of its users: its locks are honoured, and nothing of it is written.
"""

import os
import re
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from urllib.parse import quote

from drtool.errors import DrtoolError
from drtool.sources.inventory import Database, digest

_LACKING, _UNCOMPARED = "not available", "not compared"
_FAULTS_SHOWN = 5
_NEEDED = re.compile(r"(no such collation sequence|unknown function): (.+?)(?:\(\))?")
_OF_STAND_INS = (
    "NULL value in ",
    "CHECK constraint failed in ",
    "row ",
    "non-unique entry in index ",
    "wrong # of entries ",
)
"""Findings of quick_check about rows and indexes, not pages. With stand-ins, a sound database has them too."""
_MAGIC = b"SQLite format 3\0"


def connect(path: Path, *, timeout_s: float = 1.0) -> sqlite3.Connection:
    """Open a database read-only. On a read-only medium, one in WAL mode is opened as immutable."""
    check_is_database(path)
    frozen = "&immutable=1" if os.statvfs(path).f_flag & os.ST_RDONLY else ""
    uri = f"file:{quote(os.fspath(path))}?mode=ro{frozen}"
    return sqlite3.connect(uri, uri=True, timeout=timeout_s, isolation_level=None)


def check_is_database(path: Path) -> None:
    """Raise DrtoolError unless the file exists and begins like a database."""
    try:
        with path.open("rb") as file:
            head = file.read(len(_MAGIC))
    except FileNotFoundError:
        raise DrtoolError(f"there is no database {path}") from None
    except OSError as error:
        raise DrtoolError(f"the database {path} cannot be read: {error.strerror}") from None
    if not head and (path.with_name(path.name + "-wal")).exists():
        return  # newly created: all its data is in the log
    if head != _MAGIC:
        what = "is empty" if not head else "is not a SQLite database"
        raise DrtoolError(f"{path} {what}", hint="an encrypted database needs its own program: use a stream")


def describe(path: Path, name: str, dump: str) -> Database:
    """Return the contents of a database and the results of its checks. Raises DrtoolError if it is damaged."""
    try:
        with closing(connect(path)) as connection:
            connection.text_factory = lambda text: text.decode("utf-8", "surrogateescape")
            objects = connection.execute("SELECT type, name, tbl_name, sql FROM sqlite_master").fetchall()
            checks = _checked(connection, name, sorted(_tables(objects)))
            return Database(
                name=name,
                dump=dump,
                rows={table: _count(connection, table) for table in sorted(_tables(objects))},
                schema_sha256=digest("\1".join(str(part) for part in row) for row in objects),
                checks=checks,
                size_bytes=path.stat().st_size,
            )
    except sqlite3.Error as error:
        raise DrtoolError(f"the database {name} cannot be read: {error}") from None


def unchecked(database: Database) -> list[str]:
    """Describe the parts that could not be checked."""
    lacking, tables = database.checks.get(_LACKING), database.checks.get(_UNCOMPARED)
    if not lacking:
        return []
    left = f"the indexes of {tables or 'its tables'} were not compared with their rows"
    return [f"its pages are sound, but {left}: that takes {lacking} of its own program"]


def _checked(connection: sqlite3.Connection, name: str, tables: Sequence[str]) -> dict[str, str]:
    """Return the checks and their results. Raises DrtoolError if the database is damaged."""
    try:
        faults = _faults(connection, "integrity_check")
        checks = {"integrity_check": "ok"}
    except sqlite3.OperationalError as error:
        faults, uncompared = _each_checked(connection, tables)
        lacking = _with_stand_ins(connection, error)
        faults += [text for text in _faults(connection, "quick_check") if not text.startswith(_OF_STAND_INS)]
        checks = {"quick_check": "ok", _UNCOMPARED: ", ".join(uncompared), _LACKING: ", ".join(lacking)}
    if faults:
        raise DrtoolError(
            f"the database {name} is damaged: {'; '.join(dict.fromkeys(faults[:_FAULTS_SHOWN]))[:500]}",
            hint="nothing was stored; the last snapshot before the damage is still there",
        )
    return checks


def _each_checked(connection: sqlite3.Connection, tables: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return (faults, tables that need unavailable functions or collations). Every other table is checked with its indexes."""
    faults, uncompared = [], []
    for table in tables:
        quoted = table.replace('"', '""')
        try:
            faults += _faults(connection, f'integrity_check("{quoted}")')
        except sqlite3.OperationalError:
            uncompared.append(table)
    return faults, uncompared


def _faults(connection: sqlite3.Connection, check: str) -> list[str]:
    found = [str(row[0]) for row in connection.execute(f"PRAGMA {check}")]
    return [] if found == ["ok"] else found


def _with_stand_ins(connection: sqlite3.Connection, error: sqlite3.OperationalError) -> list[str]:
    """Define stand-ins for functions and collations that only the database's own program has, and return their names.

    The collations compare bytes and the functions return NULL, so data that depends on them cannot be checked. Raises
    sqlite3.Error.
    """
    lacking: list[str] = []
    while found := _NEEDED.fullmatch(str(error)):
        kind, needed = found.group(1), found.group(2)
        text = f"{'the collation' if kind.startswith('no such') else 'the function'} {needed}"
        if text in lacking:
            raise error
        lacking.append(text)
        if kind.startswith("no such"):
            connection.create_collation(needed, lambda one, other: (one > other) - (one < other))
        else:
            connection.create_function(needed, -1, lambda *_values: None, deterministic=True)
        try:
            _faults(connection, "quick_check")
        except sqlite3.OperationalError as other:
            error = other
        else:
            return lacking
    raise error


def _tables(objects: list[tuple[str, str, str, str | None]]) -> list[str]:
    return [name for kind, name, _, _ in objects if kind == "table" and not name.startswith("sqlite_")]


def _count(connection: sqlite3.Connection, table: str) -> int | None:
    """Count the rows. None for a virtual table with a module that is not available here."""
    quoted = table.replace('"', '""')
    try:
        return int(connection.execute(f'SELECT count(*) FROM "{quoted}"').fetchone()[0])  # noqa: S608 - a quoted name
    except sqlite3.OperationalError:
        return None
