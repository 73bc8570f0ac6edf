"""Looking into a PostgreSQL server: its version, its databases, rows and definitions.

Invariants
    Two databases with the same definitions have the same schema lines, whichever pg_dump wrote them and in whatever order.
"""

from collections.abc import Sequence
from typing import NamedTuple

from drtool.errors import DrtoolError
from drtool.sources.postgresql.client import Client, Failure, Session

_PROVIDERS = frozenset(
    ["rdsadmin", "cloudsqladmin", "azure_maintenance", "azure_sys", "alloydbadmin", "cloudsqlimport"]
)
_DATABASES = (
    "SELECT datname, CASE WHEN pg_catalog.has_database_privilege(oid, 'CONNECT') "
    "THEN pg_catalog.pg_database_size(oid) ELSE 0 END, datallowconn, pg_catalog.has_database_privilege(oid, 'CONNECT'), "
    "datistemplate, pg_catalog.pg_encoding_to_char(encoding) FROM pg_catalog.pg_database WHERE datname <> 'template0' ORDER BY 1"
)
_CATALOGUES = ("pg_class", "pg_proc", "pg_extension", "pg_namespace", "pg_type")
_TABLES = """
SELECT c.oid, format('%I.%I', n.nspname, c.relname), n.nspname || '.' || c.relname, c.relkind,
'"' || replace(n.nspname, '"', '""') || '"."' || replace(c.relname, '"', '""') || '"',
pg_catalog.has_schema_privilege(n.oid, 'USAGE') AND CASE c.relkind
WHEN 'S' THEN pg_catalog.has_sequence_privilege(c.oid, 'SELECT') ELSE pg_catalog.has_table_privilege(c.oid, 'SELECT') END,
pg_catalog.row_security_active(c.oid) AND c.relkind IN ('r', 'p'), c.relkind = 'r' OR c.relkind = 'm' AND c.relispopulated
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'm', 'p', 'S') AND c.relpersistence <> 't' AND n.nspname <> 'information_schema' AND n.nspname !~ '^pg_'
ORDER BY 2
"""
_IGNORED = ("--", "\\restrict", "\\unrestrict", "SET ", "SELECT pg_catalog.set_config(")


class Server(NamedTuple):
    version: str
    major: int
    is_superuser: bool
    databases: dict[str, int]
    """Those that this user can connect to, with their sizes in bytes; of the templates those with something in them."""
    encodings: dict[str, str]
    closed: tuple[str, ...]
    """Those that take no connections."""
    foreign: tuple[str, ...]
    """Those of the provider of the server, which its customers may not enter."""
    barred: tuple[str, ...]
    """Those that this user may not connect to."""


class Table(NamedTuple):
    """A table, materialized view or sequence. `name` is quoted."""

    name: str
    plain: str
    """`schema.name` without quotes."""
    pattern: str
    """What pg_dump takes to mean exactly this one."""
    number: str
    is_table: bool
    """Whether pg_dump locks it."""
    readable: bool
    hides_rows: bool
    """Row security hides some rows from this user."""
    counted: bool


def look(client: Client) -> Server:
    """Asks the server what it is. Raises DrtoolError if it cannot be asked."""
    with client.session() as session:
        ((version, number, superuser),) = session.ask(
            "SELECT current_setting('server_version'), current_setting('server_version_num'), "
            "(SELECT rolsuper FROM pg_catalog.pg_roles WHERE rolname = current_user)"
        )
        rows = session.ask(_DATABASES)
    open_rows = [row for row in rows if row[2] == "t" and row[3] == "t"]
    shut = [name for name, _, allowed, enters, *_ in rows if allowed == "t" and enters != "t"]
    return Server(
        version,
        int(number) // 10_000,
        superuser == "t",
        {row[0]: int(row[1]) for row in open_rows if row[0] != "template1" or _is_used(client)},
        {row[0]: row[5] for row in rows},
        tuple(row[0] for row in rows if row[2] != "t"),
        tuple(name for name in shut if name in _PROVIDERS),
        tuple(name for name in shut if name not in _PROVIDERS and name != "template1"),
    )


def _is_used(client: Client) -> bool:
    """Whether somebody has put something into template1."""
    with client.session("template1") as session:
        return any(
            session.ask(f"SELECT 1 FROM pg_catalog.{table} WHERE oid >= 16384 LIMIT 1")  # noqa: S608 - constants
            for table in _CATALOGUES
        )


def tables(session: Session) -> list[Table]:
    """The tables, materialized views and sequences of the session's database."""
    return [
        Table(name, plain, pattern, number, kind in "rp", readable == "t", hides == "t", counted == "t")
        for number, name, plain, kind, pattern, readable, hides, counted in session.ask(_TABLES)
    ]


def row_counts(session: Session) -> dict[str, int | None]:
    """Rows of each table as they are now; None of one that cannot be counted."""
    session.ask("BEGIN TRANSACTION READ ONLY")
    found = {shown(table.name): count_of(session, table) for table in tables(session) if table.counted}
    session.ask("ROLLBACK")
    return found


def count_of(session: Session, table: Table) -> int | None:
    """Return None if the rows cannot be counted: this user may not see all of them. No lock is kept."""
    if not table.readable or table.hides_rows:
        return None
    found = session.attempt(f"SELECT count(*) FROM {table.name}")  # noqa: S608 - quoted by the server
    return None if isinstance(found, Failure) else int(found[0][0])


def files_of(session: Session, found: Sequence[Table]) -> dict[Table, str]:
    """Return the file of each table now, also in a transaction that sees an older moment: TRUNCATE and DROP change it."""
    numbers = ", ".join(table.number for table in found)
    if not numbers:
        return {}
    rows = session.ask(f"SELECT n, pg_catalog.pg_relation_filenode(n) FROM unnest(ARRAY[{numbers}]::oid[]) n")  # noqa: S608 - numbers
    files = {number: file for number, file in rows}  # noqa: C416 - pairs
    return {table: files.get(table.number, "") for table in found}


def shown(name: str) -> str:
    """A name as text; bytes that are no UTF-8 are spelled out."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


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
