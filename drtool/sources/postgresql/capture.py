"""A PostgreSQL server as files: a dump of each database, its schema as text, what is global, and an inventory.

Invariants
    Everything of one database (dump, schema, record, row counts, time) is of one moment: one exported snapshot.
    A count is recorded only of a table that was neither dropped nor emptied by TRUNCATE, which no snapshot hides, meanwhile.
    No lock is held but those of pg_dump.
    Dumps come through a pipe, uncompressed: the repository compresses, and what did not change is not stored again.
    What a dump lacks against the catalogue is reported and recorded. A database that cannot be dumped does not keep the others
    from being stored; one that is named and not there is a failure.
"""

from collections.abc import Callable, Generator, Sequence
from pathlib import Path
from urllib.parse import quote

from drtool.errors import DrtoolError
from drtool.sources.filesystem import Problem
from drtool.sources.inventory import NAME, Database, Inventory, digest
from drtool.sources.port import Around, Foreseen, Foresight, VirtualFile, from_bytes, virtual_path
from drtool.sources.postgresql import catalogue
from drtool.sources.postgresql.client import Client, Session
from drtool.sources.postgresql.dsn import dsn_environment, of_database
from drtool.sources.postgresql.looking import (
    Server,
    Table,
    check_client,
    count_of,
    files_of,
    look,
    schema_lines,
    shown,
)
from drtool.sources.postgresql.reach import begin, reach

KIND = "postgresql"
GLOBALS = "globals.sql"
LOCK_TIMEOUT_S = 600
ATTEMPTS = 3
"""A table that is dropped just when pg_dump begins makes it fail; so often it is tried again."""
_EXPORT = (
    """SELECT pg_catalog.pg_export_snapshot(), to_char(now() AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')"""
)


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
        lock_timeout_s: int = LOCK_TIMEOUT_S,
    ) -> None:
        """Raises ValueError for a DSN that cannot be understood."""
        dsn_environment(dsn)
        self._dsn, self._databases = dsn, tuple(databases)
        self._run_as, self._programs, self._count_rows = run_as, programs, count_rows
        self._lock_timeout_s = lock_timeout_s

    def _looked(self, around: Around) -> tuple[Client, Server, int, list[str]]:
        client = Client(self._dsn, around.environ, run_as=self._run_as, programs=self._programs)
        client.major("psql")
        server = look(client)
        chosen = list(self._databases or server.databases)
        missing = [name for name in chosen if name not in server.databases]
        if missing and not (missing == ["template1"] and client.ask("SELECT 1", "template1")):
            raise DrtoolError(
                f"the server at {client.told} has no database {missing[0]!r} that can be connected to",
                hint=f"it has {', '.join(server.databases) or 'none'}",
            )
        if not chosen:
            raise DrtoolError(f"the server at {client.told} has no database that could be dumped")
        return client, server, check_client(client, server), chosen

    def foresee(self, around: Around) -> Foresight:
        client, server, major, chosen = self._looked(around)
        files = [Foreseen(_path(name, "dump.pgc"), server.databases.get(name)) for name in chosen]
        files += [Foreseen(_path(name, "schema.sql")) for name in chosen]
        files += [Foreseen(b"/postgresql/" + name.encode()) for name in (GLOBALS, NAME)]
        facts = [f"PostgreSQL {server.version} at {client.told}, to be dumped by pg_dump {major}"]
        facts += [f"database {name}: {server.databases.get(name, 0)} bytes there" for name in chosen]
        return Foresight(tuple(files), (*facts, *self._remarks(server)))

    def _remarks(self, server: Server) -> list[str]:
        remarks = [f"database {name} takes no connections and is left out" for name in server.closed]
        remarks += [f"database {name} is the provider's own and is left out" for name in server.foreign]
        if not server.is_superuser:
            remarks.append("the user is no superuser: roles are stored without their passwords")
        return remarks

    def files(self, around: Around) -> Generator[VirtualFile, None, None]:
        client, server, major, chosen = self._looked(around)
        for remark in self._remarks(server):
            around.warn(f"postgresql: {remark}")
        run = _Run(client, server, around, self._databases, self._lock_timeout_s, count_rows=self._count_rows)
        for name in server.barred if not self._databases else ():
            run.lost(name, f'this user may not connect to it: GRANT CONNECT ON DATABASE "{name}", or name `databases`')
        for name in chosen:
            yield from run.database(name)
        if not run.done:
            raise DrtoolError(run.missing[0] if run.missing else "every database was dropped during the backup")
        yield from_bytes(b"/postgresql/" + GLOBALS.encode(), run.globals())
        inventory = Inventory(
            drtool=KIND,
            server_version=server.version,
            client_version=str(major),
            globals=f"/postgresql/{GLOBALS}",
            databases=tuple(run.done),
            roles=run.roles,
            warnings=tuple(run.warnings),
            missing=tuple(run.missing),
        )
        yield from_bytes(b"/postgresql/" + NAME.encode(), inventory.encoded())


class _Run:
    """One capture of a server: what is done, and what is missing."""

    def __init__(
        self,
        client: Client,
        server: Server,
        around: Around,
        named: Sequence[str],
        lock_timeout_s: int,
        *,
        count_rows: bool,
    ) -> None:
        self._client, self._server, self._around, self._named = client, server, around, named
        self._count_rows, self._lock_timeout_s = count_rows, lock_timeout_s
        self.roles: dict[str, str] = {}
        self.done: list[Database] = []
        self.warnings: list[str] = []
        self.missing: list[str] = []

    def lost(self, database: str, why: str) -> None:
        """Report something of a database that is not in the snapshot."""
        self.missing.append(f"{shown(database)}: {why}")
        self._around.problem(Problem(_path(database, "dump.pgc"), why))

    def _heard(self, database: str) -> Callable[[str], None]:
        def heard(line: str) -> None:
            text = f"{shown(database)}: {line}"
            if text not in self.warnings:
                self.warnings.append(text)
                self._around.warn(f"postgresql: {text}")

        return heard

    def globals(self) -> bytes:
        """Roles and tablespaces as SQL. A role that the catalogue has and the dump lacks is reported."""
        client, server = self._client, self._server
        words = ["pg_dumpall", "--no-password", "--globals-only", f"--database={of_database(client.entrance())}"]
        words += [] if server.is_superuser else ["--no-role-passwords"]
        text = client.run(words, heard=self._heard("globals"))
        with client.session() as session:
            before, self.roles = self.roles, catalogue.roles(session)
            quoted = dict(session.ask("SELECT rolname, quote_ident(rolname) FROM pg_catalog.pg_roles"))
        for name in self.roles:
            if f"CREATE ROLE {quoted[name]};".encode() not in text and name in before:
                self.missing.append(f"role {name}: pg_dumpall left it out")
                self._around.problem(Problem(b"/postgresql/" + GLOBALS.encode(), self.missing[-1]))
        return text

    def database(self, name: str) -> Generator[VirtualFile, None, None]:
        """All of one database; nothing of it if it cannot be dumped."""
        error: DrtoolError | None = None
        for _ in range(ATTEMPTS):
            try:
                with self._client.session(name) as session:
                    yield from self._captured(session, name)
            except DrtoolError as failure:
                error = failure
                if "does not exist" in failure.message and name in look(self._client).databases:
                    continue
                break
            return
        assert error is not None
        if not self._named and name not in look(self._client).databases:
            self._around.warn(f"postgresql: database {shown(name)} was dropped during the backup")
            return
        self.lost(name, error.message)

    def _captured(self, session: Session, name: str) -> Generator[VirtualFile, None, None]:
        dump, schema = _path(name, "dump.pgc"), _path(name, "schema.sql")
        encoding = self._server.encodings[name]
        if encoding == "SQL_ASCII":  # bytes without a meaning: they must be neither converted nor checked
            session.ask("SET client_encoding = SQL_ASCII")
        begin(session, self._lock_timeout_s)
        ((snapshot, time),) = session.ask(_EXPORT)
        self.roles = self.roles or catalogue.roles(session)
        there = reach(session, self._lock_timeout_s)
        objects, properties = catalogue.objects(session), catalogue.properties(session)
        if not self._server.is_superuser and (hidden := catalogue.hidden_mappings(session)):
            self._around.warn(
                f"postgresql: {shown(name)}: the options of {hidden} user mappings may be hidden from this user"
            )
        for index in catalogue.invalid_indexes(session):
            self._heard(name)(
                f"the index {index} was never finished and is left out: REINDEX INDEX {index}, or drop it"
            )
        if session.ask(f"SELECT 1 FROM pg_catalog.pg_namespace WHERE nspname = '{catalogue.MARK}'"):  # noqa: S608 - constant
            self._heard(name)(f"a restore left it unfinished, as its schema {catalogue.MARK} says, which is not stored")
        words = ["pg_dump", "--no-password", f"--lock-wait-timeout={self._lock_timeout_s * 1000}"]
        words += [f"--exclude-schema={catalogue.MARK}"]
        words += [f"--dbname={of_database(name)}", f"--snapshot={snapshot}", *there.options()]
        text = self._client.run(schema_words(words, encoding), heard=self._heard(name))
        counted = [table for table in there.dumped if table.counted] if self._count_rows else []
        before = files_of(session, counted)
        counts = {table: count_of(session, table) for table in counted}
        failures: list[DrtoolError] = []
        argv = [*words, f"--encoding={encoding}", "--format=custom", "--compress=0"]
        yield VirtualFile(path=dump, opened=lambda: self._client.piped(argv, self._heard(name)), failed=failures.append)
        if failures:
            raise failures[0]
        yield from_bytes(schema, text)
        definitions = text.decode("utf-8", "surrogateescape")
        session.ask("ROLLBACK")  # files of tables are looked at as they are now, not in the moment of the dump
        unsteady = _unsteady(before, files_of(session, counted))
        lacking = [*there.reasons(), *catalogue.lacking(there.narrowed(objects), definitions)]
        for each in lacking:
            self.lost(name, each)
        row = Database(
            name=shown(name),
            dump=dump.decode(),
            schema=schema.decode(),
            rows={shown(table.name): None if table in unsteady else count for table, count in counts.items()}
            if self._count_rows
            else None,
            schema_sha256=digest(schema_lines(definitions)),
            consistent_at=time,
            objects=objects,
            properties=properties,
            unsteady=tuple(shown(table.name) for table in unsteady),
            missing=tuple(lacking),
        )
        self.done.append(row)


def _unsteady(before: dict[Table, str], after: dict[Table, str]) -> list[Table]:
    """Tables that were emptied, dropped or rewritten between their count and the end of the dump."""
    return [table for table, file in before.items() if after[table] != file or not file]


def schema_words(words: Sequence[str], encoding: str) -> list[str]:
    """Return the command that dumps the definitions, as UTF-8 where the database has an encoding."""
    return [*words, "--schema-only", *(["--encoding=SQL_ASCII"] if encoding == "SQL_ASCII" else [])]


def _path(database: str, name: str) -> bytes:
    """Below a folder of the database's name; what no file can be called is percent-encoded."""
    folder = quote(database.encode("utf-8", "surrogateescape"), safe=" !#$&'()*+,;=@[]{}~^")
    if folder in (".", "..", NAME, GLOBALS):
        folder = f"%{ord(folder[0]):02X}{folder[1:]}"
    return virtual_path(f"postgresql/{folder}/{name}")
