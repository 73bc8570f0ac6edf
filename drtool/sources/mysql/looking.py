"""Looking into a MySQL or MariaDB server: its version, its databases, rows and definitions."""

import re
from typing import NamedTuple

from drtool.sources.mysql.client import Client, literal, quoted
from drtool.sources.mysql.session import Failure, Session, connected

_SYSTEM = ("information_schema", "mysql", "performance_schema", "sys")
_COUNTER = re.compile(r" AUTO_INCREMENT=\d+")
_IGNORED = ("--", "SET ", "/*!40", "/*M!999999", "USE ", "CREATE DATABASE ")
_NO_DATABASES = re.compile(r"#mysql50#(lost\+found|\..*)")
"""Directories in the data directory that are no databases."""


class Server(NamedTuple):
    version: str
    databases: dict[str, int]
    """Those that are no system's: their sizes in bytes."""
    directories: tuple[str, ...] = ()
    """What the server shows as databases and are none."""


def look(client: Client) -> Server:
    """Asks the server what it is. Raises DrtoolError if it cannot be asked."""
    rows = client.ask(
        "SELECT s.SCHEMA_NAME, COALESCE(SUM(t.DATA_LENGTH + t.INDEX_LENGTH), 0) FROM information_schema.SCHEMATA s "
        "LEFT JOIN information_schema.TABLES t ON t.TABLE_SCHEMA = s.SCHEMA_NAME GROUP BY s.SCHEMA_NAME ORDER BY 1"
    )
    ((version,),) = client.ask("SELECT VERSION()")
    sizes = {name: int(float(size)) for name, size in rows if name.lower() not in _SYSTEM}
    return Server(
        version,
        {name: size for name, size in sizes.items() if not _NO_DATABASES.fullmatch(name)},
        tuple(name for name in sizes if _NO_DATABASES.fullmatch(name)),
    )


def tables(client: Client, database: str) -> dict[str, str]:
    """Each table's engine."""
    wanted = f"TABLE_TYPE IN ('BASE TABLE', 'SYSTEM VERSIONED') AND TABLE_SCHEMA = {literal(database)} ORDER BY 1"
    columns = "SELECT TABLE_NAME, COALESCE(ENGINE, '') FROM information_schema.TABLES"
    return dict(client.ask(f"{columns} WHERE {wanted}"))


def row_counts(client: Client, database: str) -> dict[str, int | None]:
    """Rows of each table, as they are now."""
    with connected(client) as session:
        return counts(session, database, list(tables(client, database)))


def counts(session: Session, database: str, names: list[str], of: str = "") -> dict[str, int | None]:
    """Rows of tables at one moment; None of one that cannot be counted. No lock on a table outlives its count.

    `of`: ` FOR SYSTEM_TIME ALL` counts the history, too.
    """
    session.ask("SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ")
    session.ask("START TRANSACTION WITH CONSISTENT SNAPSHOT")
    session.ask("SAVEPOINT counted")
    found: dict[str, int | None] = {}
    for name in names:
        rows = session.attempt(f"SELECT COUNT(*) FROM {quoted(database)}.{quoted(name)}{of}")  # noqa: S608 - quoted
        found[name] = None if isinstance(rows, Failure) else int(rows[0][0])
        session.ask("ROLLBACK TO SAVEPOINT counted")
    session.ask("COMMIT")
    return found


def schema_lines(text: str) -> list[str]:
    """What a dump without rows defines, line by line, without remarks, settings and counters."""
    lines = (_COUNTER.sub("", line.strip()) for line in text.splitlines())
    return [line for line in lines if line and not line.startswith(_IGNORED)]
