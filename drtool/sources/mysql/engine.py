"""MySQL and MariaDB as a place to put dumps back into. Fulfils `databases.Engine`.

Invariants
    A scratch server has no network and a socket in a private directory; it syncs nothing, and ends with its process.
    A database that is there and has tables is never touched, except one that a restore left unfinished: see `unfinished`.
    A fault belongs to the database that it was met in: the others are finished.
    Users come before what they define, and rights on objects after these.
"""

import re
import shutil
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from urllib.parse import quote

from msgspec.structs import replace

from drtool.errors import DrtoolError
from drtool.sources import children
from drtool.sources.databases import (
    NO_ACCESS,
    Access,
    Difference,
    Watch,
    below,
    compared_lines,
    compared_rows,
    kept_databases,
    selected,
)
from drtool.sources.guarded import Guarded, user_of
from drtool.sources.inventory import Database, Inventory
from drtool.sources.mysql import accounts, catalogue, loading, unfinished
from drtool.sources.mysql.capture import SCHEMA, events_options
from drtool.sources.mysql.client import Client, quoted
from drtool.sources.mysql.looking import counts as all_counts
from drtool.sources.mysql.looking import look, row_counts, schema_lines, tables
from drtool.sources.mysql.session import Session, connected

OWNER = "mysql"
START_S = 60.0
_DEFINER = re.compile(f"DEFINER={catalogue.ACCOUNT}")
_SETTINGS = (
    "--no-defaults",
    "--skip-networking",
    "--innodb-buffer-pool-size=64M",
    "--innodb-flush-log-at-trx-commit=0",
    "--skip-log-bin",
    "--max-allowed-packet=1G",
)


class MysqlTarget:
    """Fulfils `databases.Target`."""

    programs = None

    def __init__(self, client: Client, url: str, guarded: Guarded | None) -> None:
        self._client, self._guarded = client, guarded
        self.url = url
        self.version = look(client).version
        self.problems: list[Difference] = []
        self._marked: list[str] = []
        self._without_definers: list[str] = []
        self._packet_bytes: int | None = None
        self._locks = unfinished.Locks(client)

    def check(self, chosen: Sequence[Database]) -> None:
        self._kept(chosen)

    def _kept(self, chosen: Sequence[Database]) -> list[Database]:
        """Lock the databases, and return those that are left alone and only compared. Raises Refused, DrtoolError."""
        self._locks.take([database.name for database in chosen])
        return kept_databases(chosen, unfinished.standing(self._client, chosen))

    def put_back(
        self, inventory: Inventory, files: Path, databases: Sequence[str], tell: Callable[[str], None]
    ) -> list[Database]:
        chosen = selected(inventory, databases)
        kept = self._kept(chosen)
        users = None
        if inventory.globals is not None:
            users = self._users(below(files, inventory.globals), [database.name for database in chosen], tell)
        failed = self._load_all([database for database in chosen if database not in kept], files, tell)
        for database in kept:
            tell(f"the database {database.name} is there: it is left alone, and compared")
        restored = [database for database in chosen if database.name in failed]
        if not restored:
            first = self.problems[-1]
            raise DrtoolError(f"the database {first.where} could not be restored: {first.detail}")
        if users is not None:
            self._report([*users.grant(tell), *self._missing_accounts(inventory)])
            self._report(users.compare(inventory, self.version, tell))
        for database in restored:
            schema = below(files, database.schema).read_text("utf-8", "surrogateescape") if database.schema else ""
            if database.name in self._without_definers:
                schema = _DEFINER.sub("", schema)
            left = loading.views_again(self._client, database.name, schema, failed[database.name])
            self._report((problem.message for problem in left), database.name)
        self._client.run(self._client.words("check", "--check", "--databases", "--", *(row.name for row in restored)))
        if self._guarded is not None and len(restored) == 1:
            self.url = url_of(self._guarded.directory, restored[0].name)
        return [database for database in chosen if database in restored or database in kept]

    def _load_all(
        self, chosen: Sequence[Database], files: Path, tell: Callable[[str], None]
    ) -> dict[str, list[loading.Problem]]:
        """Return what failed of each database that is there now."""
        failed: dict[str, list[loading.Problem]] = {}
        with connected(self._client) as session:
            self._packet_bytes = loading.raised_packets(session)
            refused = _refused_definers(catalogue.rights_of(session))
            for database in chosen:
                try:
                    failed[database.name] = self._load(session, database, below(files, database.dump), refused, tell)
                except DrtoolError as error:
                    self._report([f"it could not be restored: {error.message}"], database.name)
        return failed

    def _users(self, file: Path, databases: Sequence[str], tell: Callable[[str], None]) -> accounts.Users | None:
        try:
            text = file.read_text("utf-8", "surrogateescape")
            users = accounts.Users(self._client, text, databases, is_scratch=self._guarded is not None)
            self._report(users.create(tell))
        except DrtoolError as error:
            self._report([f"they could not be restored: {error.message}"])
            return None
        return users

    def _missing_accounts(self, inventory: Inventory) -> list[str]:
        """Only whoever may read the system's tables sees the accounts of others."""
        with connected(self._client) as session:
            sees_all = catalogue.rights_of(session).may("SELECT", "mysql")
            there = catalogue.accounts(session)
        return [f"{name} is not there" for name in inventory.roles or {} if sees_all and name not in there]

    def _report(self, problems: Iterable[str], database: str = "") -> None:
        """`database`: without one, the problems are of users and their rights."""
        self.problems += [Difference("object", database or "users", problem, database) for problem in problems]

    def _load(
        self,
        session: Session,
        database: Database,
        dump: Path,
        accepts: Callable[[str], bool] | None,
        tell: Callable[[str], None],
    ) -> list[loading.Problem]:
        name = database.name
        there = name in look(self._client).databases
        if there and unfinished.note_of(session, name) is not None:
            tell(f"{name} was left unfinished by a restore, and is begun again")
            session.ask(f"DROP DATABASE {quoted(name)}")
            there = False
        if self._guarded is None or not there:
            loading.prepare(session, dump, name, there=there)
            self._marked.append(name)
        blanked = loading.without_definers(dump, accepts) if accepts is not None else set()
        if blanked:
            self._without_definers.append(name)
            who = ", ".join(sorted(blanked))
            told = f"what {who} defined is defined by the restoring user, who may name no other (SET USER)"
            self._report([told], name)
        return loading.load(self._client, dump)

    def differences(self, chosen: Sequence[Database], files: Path, what: Sequence[str]) -> list[Difference]:
        found: list[Difference] = []
        for database in chosen:
            if "rowcount" in what:
                found += self._rows(database)
            if "schema" in what and database.schema is not None:
                recorded = below(files, database.schema).read_text("utf-8", "surrogateescape")
                options = (*SCHEMA, *events_options(database.name), f"--ignore-table={database.name}.{catalogue.MARK}")
                words = self._client.words("dump", *options, "--databases", "--", database.name)
                dump = self._client.run(words).decode("utf-8", "surrogateescape")
                if database.name in self._without_definers:
                    recorded, dump = (_DEFINER.sub("", text) for text in (recorded, dump))
                own = f"{quoted(database.name)}."  # which user looks decides whether a view's text has it
                found += compared_lines(
                    database.name, *(schema_lines(text.replace(own, "")) for text in (recorded, dump))
                )
                found += self._objects(database)
        self._settle(found)
        return found

    def _rows(self, database: Database) -> list[Difference]:
        counts = row_counts(self._client, database.name)
        for name in (catalogue.MARK, *database.unsteady):
            counts.pop(name, None)
        rows = {name: count for name, count in (database.rows or {}).items() if name not in database.unsteady}
        found = compared_rows(replace(database, rows=rows if database.rows is not None else None), counts)
        with connected(self._client) as session:
            history = all_counts(session, database.name, list(database.history), " FOR SYSTEM_TIME ALL")
        return found + [
            Difference(
                "rowcount",
                f"{database.name}: {name}",
                f"{history[name]} rows with history; {count} recorded",
                database.name,
            )
            for name, count in database.history.items()
            if history[name] != count
        ]

    def _objects(self, database: Database) -> list[Difference]:
        with connected(self._client) as session:
            now = catalogue.objects(session, database.name)
        return [
            Difference("schema", database.name, f"missing: {kind.lower()} {name}", database.name)
            for kind, names in (database.objects or {}).items()
            for name in names
            if name not in now.get(kind, {}) and name not in database.unsteady
        ]

    def _settle(self, found: Sequence[Difference]) -> None:
        """Take the mark from each database that is as recorded; let the others be begun again if they stay as they are."""
        faulty = {row.database for row in (*found, *self.problems)}
        with connected(self._client) as session:
            for name in self._marked:
                if name in faulty:
                    unfinished.note_content(session, name, tables(self._client, name))
                else:
                    unfinished.finished(session, name)
        self._marked = []

    def stop(self) -> list[str]:
        self._locks.release()
        if self._guarded is not None:
            return self._guarded.stop()
        if self._packet_bytes is not None:
            self._client.ask(f"SET GLOBAL max_allowed_packet = {self._packet_bytes}")
            self._packet_bytes = None
        return []


def _refused_definers(rights: catalogue.Rights) -> Callable[[str], bool] | None:
    """Return which accounts this user may name as definers; None: all."""
    if any(rights.may(right) for right in ("SUPER", "SET USER", "SET_USER_ID", "SET_ANY_DEFINER")):
        return None
    return lambda account: account == rights.account


class MysqlEngine:
    """Fulfils `databases.Engine`."""

    def connect(self, dsn: str, environ: Mapping[str, str], watch: Watch, access: Access = NO_ACCESS) -> MysqlTarget:
        try:
            return MysqlTarget(Client(dsn, environ, defaults_file=access.defaults_file, watch=watch), dsn, None)
        except ValueError as error:
            raise DrtoolError(str(error)) from None

    def start(
        self,
        roots: Sequence[Path],
        environ: Mapping[str, str],
        inventory: Inventory,
        size_bytes: int,
        watch: Watch,
    ) -> MysqlTarget:
        daemon, install = _programs(environ)
        user = user_of(OWNER, "mariadb-server")
        guarded = Guarded(roots, environ, prefix="drtool-my-", user=user, size_bytes=2 * size_bytes)
        try:
            data = guarded.directory / "data"
            children.run(
                [*install, f"--datadir={data}"], guarded.environ, user=user, cwd=guarded.directory, watch=watch
            )
            socket = guarded.directory / "socket"
            guarded.start([daemon, *_SETTINGS, f"--datadir={data}", f"--socket={socket}", f"--pid-file={data}/pid"])
            client = Client(url_of(guarded.directory, ""), environ, watch=watch)
            _wait(client, guarded, watch)
            return MysqlTarget(client, url_of(guarded.directory, ""), guarded)
        except BaseException:
            guarded.stop()
            raise

    def lacks(self, environ: Mapping[str, str], inventory: Inventory, *, scratch: bool) -> str:
        try:
            Client("", environ).words("")
            if scratch:
                _programs(environ)
                user_of(OWNER, "mariadb-server")
        except DrtoolError as error:
            return f"{error.message}; {error.hint}" if error.hint else error.message
        return ""


def _programs(environ: Mapping[str, str]) -> tuple[str, list[str]]:
    """(the server, the command line that makes an empty one). Raises DrtoolError."""
    path = f"{environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin"
    mariadbd, install = (shutil.which(name, path=path) for name in ("mariadbd", "mariadb-install-db"))
    if mariadbd and install:
        words = ["--no-defaults", "--auth-root-authentication-method=normal", "--skip-test-db"]
        return mariadbd, [install, *words]
    mysqld = shutil.which("mysqld", path=path)
    if mysqld:
        return mysqld, [mysqld, "--no-defaults", "--initialize-insecure"]
    raise DrtoolError("no server programs of MariaDB or MySQL are installed", hint="install mariadb-server")


def _wait(client: Client, guarded: Guarded, watch: Watch) -> None:
    ends_at = time.monotonic() + START_S
    while True:
        watch()
        try:
            client.ask("SELECT 1")
        except DrtoolError as error:
            if time.monotonic() < ends_at and "Aborting" not in guarded.log():
                time.sleep(0.1)
                continue
            raise DrtoolError(f"the scratch server does not start: {guarded.log() or error.message}") from None
        return


def url_of(directory: Path, database: str) -> str:
    """A DSN for a socket's directory."""
    return f"mysql://root@/{quote(database, safe='')}?socket={quote(str(directory / 'socket'))}"


ENGINE = MysqlEngine()
