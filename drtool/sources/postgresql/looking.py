"""Looking into a PostgreSQL server: its version, its databases, rows and definitions.

Invariants
    Two databases with the same definitions have the same schema lines, whichever pg_dump wrote them and in whatever order.
"""

from typing import NamedTuple

from drtool.errors import DrtoolError
from drtool.sources.postgresql.client import Client, Session

_FALLBACKS = ("postgres", "template1")
_TABLES = """
SELECT format('%I.%I', n.nspname, c.relname) FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'm') AND c.relpersistence <> 't' AND n.nspname <> 'information_schema' AND n.nspname !~ '^pg_'
AND (c.relkind = 'r' OR c.relispopulated) ORDER BY 1
"""
_IGNORED = ("--", "\\restrict", "\\unrestrict", "SET ", "SELECT pg_catalog.set_config(")


class Server(NamedTuple):
    version: str
    major: int
    is_superuser: bool
    databases: dict[str, int]
    """Those that can be connected to and are no templates: their sizes in bytes."""
    closed: tuple[str, ...]
    """Those that nobody may connect to."""


def look(client: Client) -> Server:
    """Asks the server what it is. Raises DrtoolError if it cannot be asked."""
    with client.session(client.database or _FALLBACKS[0]) as session:
        ((version, number, superuser),) = session.ask(
            "SELECT current_setting('server_version'), current_setting('server_version_num'), "
            "(SELECT rolsuper FROM pg_catalog.pg_roles WHERE rolname = current_user)"
        )
        rows = session.ask(
            "SELECT datname, CASE WHEN pg_catalog.has_database_privilege(datname, 'CONNECT') "
            "THEN pg_catalog.pg_database_size(datname) ELSE 0 END, datallowconn FROM pg_catalog.pg_database "
            "WHERE NOT datistemplate ORDER BY datname"
        )
    return Server(
        version,
        int(number) // 10_000,
        superuser == "t",
        {name: int(size) for name, size, allowed in rows if allowed == "t"},
        tuple(name for name, _, allowed in rows if allowed != "t"),
    )


def row_counts(session: Session) -> dict[str, int | None]:
    """Rows of each table, as the session's transaction sees them."""
    tables = [row[0] for row in session.ask(_TABLES)]
    return {table: int(session.ask(f"SELECT count(*) FROM {table}")[0][0]) for table in tables}  # noqa: S608 - quoted by the server


def schema_lines(text: str) -> list[str]:
    """What a schema dump defines, line by line, without remarks, settings and what changes from dump to dump."""
    return [line for line in map(str.strip, text.splitlines()) if line and not line.startswith(_IGNORED)]


def check_client(client: Client, server: Server) -> int:
    """The version of pg_dump. DrtoolError if it is older than the server, or programs are missing."""
    majors = {name: client.major(name) for name in ("pg_dump", "pg_dumpall", "psql")}
    if majors["pg_dump"] < server.major:
        raise DrtoolError(
            f"pg_dump is of version {majors['pg_dump']}, and older than the server at {client.told} ({server.version})",
            hint=f"install postgresql-client-{server.major}, or name its directory with `programs:`",
        )
    return majors["pg_dump"]
