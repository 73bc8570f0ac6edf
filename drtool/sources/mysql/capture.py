"""A MySQL or MariaDB server as files: a dump of each database as SQL, its schema, the users, and an inventory.

Invariants
    A dump is of one moment as far as its tables have transactions; others are named. It comes through a pipe, as plain SQL
    without a date: the same rows give the same bytes. No table is locked for writers.
    A dump and a count cannot share a moment here. A count is recorded only of a table that had as many rows before the dump as
    after it; an object that came or went meanwhile is neither required nor refused.
    What a dump lacks against the catalogue, and what the server may hide from this user, is reported and recorded.
"""

import re
from collections.abc import Callable, Generator, Mapping, Sequence
from pathlib import Path
from urllib.parse import quote

from drtool.errors import DrtoolError
from drtool.sources.filesystem import Problem
from drtool.sources.inventory import NAME, Database, Inventory, digest
from drtool.sources.mysql import accounts, catalogue
from drtool.sources.mysql.client import Client, connection_options, quoted
from drtool.sources.mysql.looking import Server, counts, look, schema_lines
from drtool.sources.mysql.reach import LockWatch, Reach, reach
from drtool.sources.mysql.session import Failure, Session, connected
from drtool.sources.port import Around, Foreseen, Foresight, VirtualFile, from_bytes, virtual_path

KIND = "mysql"
USERS = "users.sql"
LOCK_TIMEOUT_S = 600
_PACKET = "--max-allowed-packet=1G"
DUMP = ("--single-transaction", "--quick", "--routines", "--triggers", "--hex-blob", "--skip-dump-date", _PACKET)
SCHEMA = ("--single-transaction", "--no-data", "--routines", "--triggers", "--skip-comments", _PACKET)
EVENTS = ("--events",)
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
        lock_timeout_s: int = LOCK_TIMEOUT_S,
    ) -> None:
        """Raises ValueError for a DSN that cannot be understood."""
        connection_options(dsn)
        self._dsn, self._databases = dsn, tuple(databases)
        self._defaults_file, self._count_rows = defaults_file, count_rows
        self._lock_timeout_s = lock_timeout_s

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
            raise DrtoolError(
                f"the server at {client.told} has only its own system databases, so there is nothing to back up"
            )
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
        for name in server.directories:
            around.warn(f"mysql: {name} is a directory and no database: it is left out")
        with connected(client) as session:
            users, record, missing = _users(client, session)
            run = _Run(client, session, around, self._databases, self._lock_timeout_s, count_rows=self._count_rows)
            for why in missing:
                run.without_users(why)
            for name in chosen:
                yield from run.database(name)
            if not run.done:
                raise DrtoolError(run.missing[0] if run.missing else "every database was dropped during the backup")
            roles = catalogue.accounts(session)
        if users is not None:
            yield from_bytes(f"/mysql/{USERS}".encode(), users)
        inventory = Inventory(
            drtool=KIND,
            server_version=server.version,
            client_version=client.run([client.words("dump")[0], "--version"]).decode().strip(),
            globals=f"/mysql/{USERS}" if users is not None else None,
            databases=tuple(run.done),
            roles=roles,
            grants=record.grants if record is not None else None,
            system=record.system if record is not None else None,
            warnings=tuple(run.warnings),
            missing=tuple(run.missing),
        )
        yield from_bytes(b"/mysql/" + NAME.encode(), inventory.encoded())


class _Run:
    """One capture of a server: what is done, and what is missing."""

    def __init__(
        self,
        client: Client,
        session: Session,
        around: Around,
        named: Sequence[str],
        lock_timeout_s: int,
        *,
        count_rows: bool,
    ) -> None:
        self._client, self._session, self._around, self._named = client, session, around, named
        self._lock_timeout_s, self._count_rows = lock_timeout_s, count_rows
        self._rights = catalogue.rights_of(session)
        self.done: list[Database] = []
        self.warnings: list[str] = []
        self.missing: list[str] = []

    def without_users(self, why: str) -> None:
        """Whoever names databases wants these alone; of a whole server the users are a part."""
        if self._named or not self._client.is_mariadb:
            self._around.warn(f"mysql: {why}")
        else:
            self.missing.append(why)
            self._around.problem(Problem(f"/mysql/{USERS}".encode(), why))

    def _lost(self, database: str, why: str) -> None:
        self.missing.append(f"{database}: {why}")
        self._around.problem(Problem(_path(database, "dump.sql"), why))

    def _heard(self, database: str) -> Callable[[str], None]:
        def heard(line: str) -> None:
            text = f"{database}: {line}"
            if text not in self.warnings:
                self.warnings.append(text)
                self._around.warn(f"mysql: {text}")

        return heard

    def database(self, name: str) -> Generator[VirtualFile, None, None]:
        """All of one database; nothing of it if it cannot be dumped."""
        try:
            yield from self._captured(name)
        except DrtoolError as error:
            if not self._named and name not in look(self._client).databases:
                self._around.warn(f"mysql: database {name} was dropped during the backup")
            else:
                self._lost(name, error.message)

    def _captured(self, name: str) -> Generator[VirtualFile, None, None]:
        session, client = self._session, self._client
        there = reach(session, name, self._lock_timeout_s)
        self._warn_of_engines(name, there)
        if not isinstance(session.attempt(f"SHOW FIELDS FROM {quoted(name)}.{catalogue.MARK}"), Failure):
            self._heard(name)(f"a restore left it unfinished, as its table {catalogue.MARK} says, which is not stored")
        objects, properties = catalogue.objects(session, name), catalogue.properties(session, name)
        watch = LockWatch(client, self._lock_timeout_s)
        # without the right, the program fails at them
        events = events_options(name) if self._rights.may("EVENT", name) else ()
        after_words = [*events, *there.options(name), "--databases", "--", name]
        text = client.run(client.words("dump", *SCHEMA, *after_words), heard=self._heard(name), watch=watch.idle)
        with_history = self._with_history(name, there)
        before = self._counts(name, there)
        argv = client.words("dump", *DUMP, *(["--dump-history"] if with_history else []), *after_words)
        failures: list[DrtoolError] = []
        dump, schema = _path(name, "dump.sql"), _path(name, "schema.sql")
        yield VirtualFile(path=dump, opened=lambda: watch.watching(argv, self._heard(name)), failed=failures.append)
        if failures:
            raise failures[0]
        yield from_bytes(schema, text)
        after = self._counts(name, there)
        history = counts(session, name, list(there.versioned), " FOR SYSTEM_TIME ALL") if with_history else {}
        definitions = text.decode("utf-8", "surrogateescape")
        steady, unsteady = _compared(objects, catalogue.objects(session, name))
        lacking = [f"{table} is left out: {why}" for table, why in there.without.items()]
        lacking += self._rights.hidden(name, is_mariadb=client.is_mariadb)
        lacking += catalogue.lacking(there.narrowed(steady), definitions)
        lacking += [f"the history of {table} is left out: it is kept by transactions" for table in there.precise]
        lacking += [] if with_history else [f"the history of {table} is left out" for table in there.versioned]
        for each in lacking:
            self._lost(name, each)
        row = Database(
            name=name,
            dump=dump.decode(),
            schema=schema.decode(),
            rows=_steady(before, after) if self._count_rows else None,
            schema_sha256=digest(schema_lines(definitions)),
            objects=objects,
            properties=properties,
            unsteady=unsteady,
            history={table: count for table, count in history.items() if count is not None},
            missing=tuple(lacking),
        )
        self.done.append(row)

    def _warn_of_engines(self, name: str, there: Reach) -> None:
        for table, engine in there.tables.items():
            if engine not in _TRANSACTIONAL:
                self._around.warn(
                    f"mysql: {name}.{table} is kept by {engine}, without transactions: its rows may be of another moment"
                )

    def _with_history(self, name: str, there: Reach) -> bool:
        """The program refuses the option where a single table keeps its history by transactions."""
        if not there.versioned or there.precise:
            return False
        if catalogue.supports_history(self._client):
            return True
        self._around.warn(
            f"mysql: {name}: install the programs of MariaDB 10.11 or newer, which dump the history of tables"
        )
        return False

    def _counts(self, name: str, there: Reach) -> dict[str, int | None]:
        return counts(self._session, name, list(there.tables)) if self._count_rows else {}


def events_options(database: str) -> tuple[str, ...]:
    """Return the options that dump the events of a database.

    mariadb-dump 10.11 escapes such a name twice and does not find the database. Its events are then reported as missing.
    """
    return () if re.search(r"['\"\\]", database) else EVENTS


def _compared(
    before: Mapping[str, Mapping[str, str]], after: Mapping[str, Mapping[str, str]]
) -> tuple[dict[str, dict[str, str]], tuple[str, ...]]:
    """Return the objects that were there all the time, and those that came or went."""
    pairs = {(kind, name) for kind, names in before.items() for name in names}
    later = {(kind, name) for kind, names in after.items() for name in names}
    steady: dict[str, dict[str, str]] = {}
    for kind, name in sorted(pairs & later):
        steady.setdefault(kind, {})[name] = before[kind][name]
    return steady, tuple(sorted({name for _, name in pairs ^ later}))


def _steady(before: dict[str, int | None], after: dict[str, int | None]) -> dict[str, int | None]:
    return {table: count if after.get(table) == count else None for table, count in before.items()}


def _users(client: Client, session: Session) -> tuple[bytes | None, accounts.Record | None, list[str]]:
    """(users, roles and what they may do; the record of them; what is missing, in words)."""
    if not client.is_mariadb:
        return None, None, ["users are stored by MariaDB's programs alone; they are left out"]
    try:
        return accounts.dumped(client, session)
    except DrtoolError as error:
        return None, None, [f"users and their rights are left out: {error.message}"]


def _path(database: str, name: str) -> bytes:
    """Below a folder of the database's name; what no file can be called is percent-encoded."""
    folder = quote(database, safe=" !#$&'()*+,;=@[]{}~^")
    if folder in (".", "..", NAME, USERS):
        folder = f"%{ord(folder[0]):02X}{folder[1:]}"
    return virtual_path(f"mysql/{folder}/{name}")
