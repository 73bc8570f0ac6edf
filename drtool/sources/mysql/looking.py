"""Looking into a MySQL or MariaDB server: its version, its databases, rows and definitions."""

import re
from typing import NamedTuple

from drtool.sources.mysql.client import Client, literal, quoted

_SYSTEM = ("information_schema", "mysql", "performance_schema", "sys")
_COUNTER = re.compile(r" AUTO_INCREMENT=\d+")
_IGNORED = ("--", "SET ", "/*!40", "/*M!999999", "USE ", "CREATE DATABASE ")


class Server(NamedTuple):
    version: str
    databases: dict[str, int]
    """Those that are no system's: their sizes in bytes."""


def look(client: Client) -> Server:
    """Asks the server what it is. Raises DrtoolError if it cannot be asked."""
    rows = client.ask(
        "SELECT s.SCHEMA_NAME, COALESCE(SUM(t.DATA_LENGTH + t.INDEX_LENGTH), 0) FROM information_schema.SCHEMATA s "
        "LEFT JOIN information_schema.TABLES t ON t.TABLE_SCHEMA = s.SCHEMA_NAME GROUP BY s.SCHEMA_NAME ORDER BY 1"
    )
    ((version,),) = client.ask("SELECT VERSION()")
    sizes = {name: int(float(size)) for name, size in rows}
    return Server(version, {name: size for name, size in sizes.items() if name.lower() not in _SYSTEM})


def tables(client: Client, database: str) -> dict[str, str]:
    """Each table's engine."""
    wanted = f"TABLE_TYPE = 'BASE TABLE' AND TABLE_SCHEMA = {literal(database)} ORDER BY 1"
    columns = "SELECT TABLE_NAME, COALESCE(ENGINE, '') FROM information_schema.TABLES"
    return dict(client.ask(f"{columns} WHERE {wanted}"))


def row_counts(client: Client, database: str) -> dict[str, int | None]:
    """Rows of each table, as they are now."""
    return {
        table: int(client.ask(f"SELECT COUNT(*) FROM {quoted(database)}.{quoted(table)}")[0][0])  # noqa: S608 - quoted
        for table in tables(client, database)
    }


def schema_lines(text: str) -> list[str]:
    """What a dump without rows defines, line by line, without remarks, settings and counters."""
    lines = (_COUNTER.sub("", line.strip()) for line in text.splitlines())
    return [line for line in lines if line and not line.startswith(_IGNORED)]
