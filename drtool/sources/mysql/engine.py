"""MySQL and MariaDB as a place to put dumps back into. Fulfils `databases.Engine`.

Invariants
    A scratch server has no network and a socket in a private directory; it syncs nothing, and ends with its process.
    A database that is there and has tables is never touched, except in a scratch server, which has none.
"""

import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from urllib.parse import quote

from drtool.errors import DrtoolError, Refused
from drtool.sources import children
from drtool.sources.databases import (
    NO_ACCESS,
    Access,
    Difference,
    Watch,
    below,
    compared_lines,
    compared_rows,
    selected,
)
from drtool.sources.guarded import Guarded, user_of
from drtool.sources.inventory import Database, Inventory
from drtool.sources.mysql.capture import EVENTS, SCHEMA
from drtool.sources.mysql.client import Client, quoted
from drtool.sources.mysql.looking import look, row_counts, schema_lines, tables

OWNER = "mysql"
START_S = 60.0
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
    problems: Sequence[Difference] = ()

    def __init__(self, client: Client, url: str, guarded: Guarded | None) -> None:
        self._client, self._guarded = client, guarded
        self.url = url
        self.version = look(client).version

    def check(self, chosen: Sequence[Database]) -> None:
        there = look(self._client).databases
        for database in chosen:
            if database.name in there and (count := len(tables(self._client, database.name))):
                raise Refused(
                    f"the server at {self._client.told} has a database {database.name} with {count} tables",
                    hint="rename or drop it first, or restore into another server",
                )

    def put_back(
        self, inventory: Inventory, files: Path, databases: Sequence[str], tell: Callable[[str], None]
    ) -> list[Database]:
        chosen = selected(inventory, databases)
        self.check(chosen)
        for database in chosen:
            try:
                code, stderr = self._client.load(below(files, database.dump))
                if code:
                    raise DrtoolError(stderr.strip()[-500:])
            except DrtoolError as error:
                raise DrtoolError(f"the database {database.name} could not be restored: {error.message}") from None
        if inventory.globals is not None:
            self._users(below(files, inventory.globals), tell)
        self._client.run(self._client.words("check", "--check", "--databases", "--", *(row.name for row in chosen)))
        if self._guarded is not None and len(chosen) == 1:
            self.url = url_of(self._guarded.directory, chosen[0].name)
        return chosen

    def _users(self, file: Path, tell: Callable[[str], None]) -> None:
        """Those that are there already stay as they are: their passwords and rights are this server's own."""
        text = of_new_users(
            file.read_text("utf-8", "surrogateescape"), self._client.ask("SELECT User, Host FROM mysql.user")
        )
        for line in self._client.complaints(text.encode("utf-8", "surrogateescape"), "--force"):
            if "ERROR" in line:
                tell(f"users: {line}")

    def differences(self, chosen: Sequence[Database], files: Path, what: Sequence[str]) -> list[Difference]:
        found: list[Difference] = []
        for database in chosen:
            if "rowcount" in what:
                found += compared_rows(database, row_counts(self._client, database.name))
            if "schema" in what and database.schema is not None:
                recorded = below(files, database.schema).read_text("utf-8", "surrogateescape")
                dump = self._client.run(
                    self._client.words("dump", *SCHEMA, *EVENTS, "--databases", "--", database.name)
                )
                found += compared_lines(
                    database.name, schema_lines(recorded), schema_lines(dump.decode("utf-8", "surrogateescape"))
                )
        return found

    def stop(self) -> list[str]:
        return self._guarded.stop() if self._guarded is not None else []


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


def of_new_users(text: str, accounts: Sequence[Sequence[str]]) -> str:
    """Without what would change users and roles that are there. A role's host is empty."""
    own = [spelling for user, host in accounts for spelling in _spellings(user, host)]
    return "".join(line for line in text.splitlines(keepends=True) if not any(each in line for each in own))


def _spellings(user: str, host: str) -> tuple[str, ...]:
    """How mariadb-dump writes an account: in back quotes, and in single ones."""
    back = [quoted(part) for part in (user, host)]
    single = ["'" + part.replace("\\", "\\\\").replace("'", "\\'") + "'" for part in (user, host)]
    if host:
        return "@".join(back), "@".join(single)
    return f"CREATE ROLE {single[0]}", f"TO {back[0]};", f"TO {single[0]};"


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
