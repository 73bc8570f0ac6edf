"""A MySQL or MariaDB server as files: a dump of each database as SQL, its schema, the users, and an inventory.

Invariants
    A dump is of one moment as far as its tables have transactions; others are named. It comes through a pipe, as plain SQL
    without a date: the same rows give the same bytes.
    A count is recorded only of a table that had as many rows before the dump as after it.
"""

from collections.abc import Generator, Sequence
from pathlib import Path
from urllib.parse import quote

from drtool.errors import DrtoolError
from drtool.sources.inventory import NAME, Database, Inventory, digest
from drtool.sources.mysql.client import Client, connection_options
from drtool.sources.mysql.looking import Server, look, row_counts, schema_lines, tables
from drtool.sources.port import Around, Foreseen, Foresight, VirtualFile, from_bytes, virtual_path

KIND = "mysql"
USERS = "users.sql"
DUMP = ("--single-transaction", "--quick", "--routines", "--events", "--triggers", "--hex-blob", "--skip-dump-date")
SCHEMA = ("--no-data", "--routines", "--events", "--triggers", "--skip-comments")
_TRANSACTIONAL = ("InnoDB", "", "ROCKSDB", "TokuDB", "BLACKHOLE", "SEQUENCE")


class MysqlSource:
    """Fulfils `port.Source`."""

    kind = KIND
    again = True
    paths = (b"/mysql",)

    def __init__(
        self,
        dsn: str,
        *,
        databases: Sequence[str] = (),
        defaults_file: Path | None = None,
        count_rows: bool = True,
    ) -> None:
        """Raises ValueError for a DSN that cannot be understood."""
        connection_options(dsn)
        self._dsn, self._databases = dsn, tuple(databases)
        self._defaults_file, self._count_rows = defaults_file, count_rows

    def _looked(self, around: Around) -> tuple[Client, Server, list[str]]:
        client = Client(self._dsn, around.environ, defaults_file=self._defaults_file)
        client.words("dump")
        server = look(client)
        chosen = list(self._databases or server.databases)
        missing = [name for name in chosen if name not in server.databases]
        if missing:
            raise DrtoolError(
                f"the server at {client.told} has no database {missing[0]!r}",
                hint=f"it has {', '.join(server.databases) or 'none'}",
            )
        if not chosen:
            raise DrtoolError(f"the server at {client.told} has no database but its own: an empty backup is none")
        return client, server, chosen

    def foresee(self, around: Around) -> Foresight:
        client, server, chosen = self._looked(around)
        files = [Foreseen(_path(name, "dump.sql"), server.databases[name]) for name in chosen]
        files += [Foreseen(_path(name, "schema.sql")) for name in chosen]
        files += [Foreseen(b"/mysql/" + name.encode()) for name in (USERS, NAME)]
        facts = [f"{server.version} at {client.told}, to be dumped by {client.words('dump')[0]}"]
        facts += [f"database {name}: {server.databases[name]} bytes there" for name in chosen]
        return Foresight(tuple(files), tuple(facts))

    def files(self, around: Around) -> Generator[VirtualFile, None, None]:
        client, server, chosen = self._looked(around)
        users = _users(client, around)
        rows: list[Database] = []
        for name in chosen:
            yield from self._database(client, name, rows, around)
        if users is not None:
            yield from_bytes(f"/mysql/{USERS}".encode(), users)
        inventory = Inventory(
            drtool=KIND,
            server_version=server.version,
            client_version=client.run([client.words("dump")[0], "--version"]).decode().strip(),
            globals=f"/mysql/{USERS}" if users is not None else None,
            databases=tuple(rows),
        )
        yield from_bytes(b"/mysql/" + NAME.encode(), inventory.encoded())

    def _database(
        self, client: Client, name: str, done: list[Database], around: Around
    ) -> Generator[VirtualFile, None, None]:
        for table, engine in tables(client, name).items():
            if engine not in _TRANSACTIONAL:
                around.warn(
                    f"mysql: {name}.{table} is kept by {engine}, without transactions: its rows may be of another moment"
                )
        dump, schema = _path(name, "dump.sql"), _path(name, "schema.sql")
        text = client.run(client.words("dump", *SCHEMA, "--databases", "--", name))
        yield from_bytes(schema, text)
        before = row_counts(client, name) if self._count_rows else None
        yield VirtualFile(
            path=dump, opened=lambda: client.piped(client.words("dump", *DUMP, "--databases", "--", name))
        )
        after = row_counts(client, name) if self._count_rows else None
        row = Database(
            name=name,
            dump=dump.decode(),
            schema=schema.decode(),
            rows=None if before is None or after is None else _steady(before, after),
            schema_sha256=digest(schema_lines(text.decode("utf-8", "surrogateescape"))),
        )
        done.append(row)


def _steady(before: dict[str, int | None], after: dict[str, int | None]) -> dict[str, int | None]:
    return {table: count if after.get(table) == count else None for table, count in before.items()}


def _users(client: Client, around: Around) -> bytes | None:
    """Users, roles and what they may do; None where they cannot be had, which is told."""
    if not client.is_mariadb:
        around.warn("mysql: users are stored by MariaDB's programs alone; they are left out")
        return None
    try:
        return client.run(client.words("dump", "--system=users", "--skip-dump-date", "--skip-comments"))
    except DrtoolError as error:
        around.warn(f"mysql: users and their rights are left out: {error.message}")
        return None


def _path(database: str, name: str) -> bytes:
    """Below a folder of the database's name; what no file can be called is percent-encoded."""
    folder = quote(database, safe=" !#$&'()*+,;=@[]{}~^")
    if folder in (".", "..", NAME, USERS):
        folder = f"%{ord(folder[0]):02X}{folder[1:]}"
    return virtual_path(f"mysql/{folder}/{name}")
