"""SQLite, opened read-only. No new file is left beside the database."""

import os
import sqlite3
import time
from pathlib import Path
from threading import Event
from urllib.parse import quote, unquote, urlsplit

from drtool.plans.actions.probing.replies import CannotAsk, Cell, Reply, bad, judged
from drtool.plans.bounded import TimeUp
from drtool.plans.language.probes import SqlProbe

ROWS_MAX = 100_000


def ask_sqlite(probe: SqlProbe, ends_at: float, cancelled: Event | None) -> Reply:
    path = sqlite_path(probe.dsn)
    try:
        connection = sqlite3.connect(_sqlite_uri(path), uri=True, timeout=1.0)
    except sqlite3.Error as error:
        return bad(f"{path}: {error}")
    try:
        connection.set_progress_handler(lambda: _over(ends_at, cancelled), 10_000)
        connection.execute("PRAGMA query_only = on")
        found = connection.execute(probe.query, probe.params)
        rows = found.fetchmany(ROWS_MAX + 1)
    except (sqlite3.Error, sqlite3.Warning) as error:
        if _over(ends_at, cancelled):
            raise TimeUp(f"{path}: no answer in time") from None
        return bad(f"{path}: {error}")
    finally:
        connection.close()
    plain = [[_plain(value) for value in row] for row in rows[:ROWS_MAX]]
    return judged(probe.expect, plain, more=len(rows) > ROWS_MAX)


def _over(ends_at: float, cancelled: Event | None) -> bool:
    return time.monotonic() > ends_at or (cancelled is not None and cancelled.is_set())


def _plain(value: object) -> Cell:
    if isinstance(value, bytes):
        return value[:1024].hex()
    return value if value is None or isinstance(value, str | int | float) else str(value)


def sqlite_path(dsn: str) -> Path:
    """Return the path of `sqlite:///srv/app.db`, or of a plain path. Raises CannotAsk."""
    if "://" in dsn:
        parts = urlsplit(dsn)
        if parts.scheme not in ("sqlite", "sqlite3") or parts.netloc:
            raise CannotAsk("the DSN is not one for SQLite; write sqlite:///PATH, or the path")
        return Path(unquote(parts.path))
    return Path(dsn)


def _sqlite_uri(path: Path) -> str:
    """Return a read-only URI.

    A database in WAL mode that no process has open has no `-wal`. A reader would create one and leave it there, so the file is
    opened as immutable. If it has a `-wal` without a `-shm`, it is neither at rest nor in use, so it must not be read.
    """
    try:
        with path.open("rb") as file:
            header = file.read(100)
    except FileNotFoundError:
        return f"file:{quote(os.fspath(path))}?mode=ro"  # SQLite reports that it is missing
    except OSError as error:
        raise CannotAsk(f"{path} cannot be read: {error.strerror}") from None
    log, index = (path.with_name(path.name + end) for end in ("-wal", "-shm"))
    if header[18:20] != b"\x02\x02" or (log.exists() and index.exists()):
        return f"file:{quote(os.fspath(path))}?mode=ro"
    if log.exists() and log.stat().st_size:
        raise CannotAsk(f"{path} has a -wal without its -shm: no process has it open, and reading would change it")
    return f"file:{quote(os.fspath(path))}?mode=ro&immutable=1"
