"""A PostgreSQL server as files: a dump of each database, its schema as text, what is global, and an inventory.

Invariants
    Everything of one database (dump, schema, row counts, time) is of one moment: one exported snapshot.
    Dumps come through a pipe, uncompressed: the repository compresses, and what did not change is not stored again.
    Every database that can be connected to, or those that are named; one that is named and not there is a failure.
"""

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

from drtool.errors import DrtoolError
from drtool.sources.inventory import NAME, Database, Inventory, digest
from drtool.sources.port import Around, Foreseen, Foresight, VirtualFile, from_bytes, virtual_path
from drtool.sources.postgresql.client import Client, Session
from drtool.sources.postgresql.dsn import dsn_environment, of_database
from drtool.sources.postgresql.looking import Server, check_client, look, row_counts, schema_lines

KIND = "postgresql"
GLOBALS = "globals.sql"
_BEGIN = "BEGIN TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY"
_EXPORT = (
    """SELECT pg_catalog.pg_export_snapshot(), to_char(now() AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')"""
)
_LIMITS = ("statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout")
_DUMP = ("pg_dump", "--no-password", "--lock-wait-timeout=600000")


class PostgresqlSource:
    """Fulfils `port.Source`."""

    kind = KIND
    again = True
    paths = (b"/postgresql",)

    def __init__(
        self,
        dsn: str,
        *,
        databases: Sequence[str] = (),
        run_as: str | None = None,
        programs: Path | None = None,
        count_rows: bool = True,
    ) -> None:
        """Raises ValueError for a DSN that cannot be understood."""
        dsn_environment(dsn)
        self._dsn, self._databases = dsn, tuple(databases)
        self._run_as, self._programs, self._count_rows = run_as, programs, count_rows

    def _looked(self, around: Around) -> tuple[Client, Server, int, list[str]]:
        client = Client(self._dsn, around.environ, run_as=self._run_as, programs=self._programs)
        client.major("psql")
        server = look(client)
        chosen = list(self._databases or server.databases)
        missing = [name for name in chosen if name not in server.databases]
        if missing:
            raise DrtoolError(
                f"the server at {client.told} has no database {missing[0]!r} that can be connected to",
                hint=f"it has {', '.join(server.databases) or 'none'}",
            )
        if not chosen:
            raise DrtoolError(f"the server at {client.told} has no database that could be dumped")
        return client, server, check_client(client, server), chosen

    def foresee(self, around: Around) -> Foresight:
        client, server, major, chosen = self._looked(around)
        files = [Foreseen(_path(name, "dump.pgc"), server.databases[name]) for name in chosen]
        files += [Foreseen(_path(name, "schema.sql")) for name in chosen]
        files += [Foreseen(b"/postgresql/" + name.encode()) for name in (GLOBALS, NAME)]
        facts = [f"PostgreSQL {server.version} at {client.told}, to be dumped by pg_dump {major}"]
        facts += [f"database {name}: {server.databases[name]} bytes there" for name in chosen]
        return Foresight(tuple(files), (*facts, *self._remarks(server)))

    def _remarks(self, server: Server) -> list[str]:
        remarks = [f"database {name} takes no connections and is left out" for name in server.closed]
        if not server.is_superuser:
            remarks.append("the user is no superuser: roles are stored without their passwords")
        return remarks

    def files(self, around: Around) -> Generator[VirtualFile, None, None]:
        client, server, major, chosen = self._looked(around)
        for remark in self._remarks(server):
            around.warn(f"postgresql: {remark}")
        rows: list[Database] = []
        for name in chosen:
            yield from self._database(client, name, rows)
        yield from_bytes(b"/postgresql/" + GLOBALS.encode(), _globals(client, server))
        inventory = Inventory(
            drtool=KIND,
            server_version=server.version,
            client_version=str(major),
            globals=f"/postgresql/{GLOBALS}",
            databases=tuple(rows),
        )
        yield from_bytes(b"/postgresql/" + NAME.encode(), inventory.encoded())

    def _database(self, client: Client, name: str, done: list[Database]) -> Generator[VirtualFile, None, None]:
        """All of one database, while a transaction holds its moment."""
        dump, schema = _path(name, "dump.pgc"), _path(name, "schema.sql")
        with _exported(client, name) as (session, snapshot, time):
            words = [*_DUMP, f"--dbname={of_database(name)}", f"--snapshot={snapshot}"]
            text = client.run([*words, "--schema-only"])
            yield from_bytes(schema, text)
            yield VirtualFile(path=dump, opened=lambda: client.piped([*words, "--format=custom", "--compress=0"]))
            rows = row_counts(session) if self._count_rows else None
        row = Database(
            name=name,
            dump=dump.decode(),
            schema=schema.decode(),
            rows=rows,
            schema_sha256=digest(schema_lines(text.decode("utf-8", "surrogateescape"))),
            consistent_at=time,
        )
        done.append(row)


@contextmanager
def _exported(client: Client, name: str) -> Generator[tuple[Session, str, str], None, None]:
    """A transaction that sees one moment, for as long as this lasts; the name by which others see the same."""
    with client.session(name) as session:
        for limit in _LIMITS:  # a server's defaults for the impatient must not end a long dump
            session.ask(f"SET {limit} = 0")
        session.ask(_BEGIN)
        ((snapshot, time),) = session.ask(_EXPORT)
        yield session, snapshot, time


def _globals(client: Client, server: Server) -> bytes:
    words = ["pg_dumpall", "--no-password", "--globals-only"]
    words += [f"--database={of_database(client.database)}"] if client.database else []
    return client.run(words if server.is_superuser else [*words, "--no-role-passwords"])


def _path(database: str, name: str) -> bytes:
    """Below a folder of the database's name; what no file can be called is percent-encoded."""
    folder = quote(database, safe=" !#$&'()*+,;=@[]{}~^")
    if folder in (".", "..", NAME, GLOBALS):
        folder = f"%{ord(folder[0]):02X}{folder[1:]}"
    return virtual_path(f"postgresql/{folder}/{name}")
