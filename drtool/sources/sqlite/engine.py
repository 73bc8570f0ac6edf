"""SQLite restores, with the restored file as the server. An implementation of `databases.Engine`."""

import sqlite3
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit

from drtool.errors import UsageError
from drtool.sources.databases import NO_ACCESS, Access, Difference, Watch, below, compared_rows, selected
from drtool.sources.inventory import Database, Inventory
from drtool.sources.sqlite.looking import describe


class SqliteTarget:
    """An implementation of `databases.Target`."""

    def __init__(self, path: Path | None = None) -> None:
        self._path = path
        self.url = ""
        self.version = sqlite3.sqlite_version
        self.programs = None
        self.problems: list[Difference] = []

    def check(self, chosen: Sequence[Database]) -> None:
        """Accept anything: a scratch directory is empty."""

    def put_back(
        self, inventory: Inventory, files: Path, databases: Sequence[str], tell: Callable[[str], None]
    ) -> list[Database]:
        if self._path is not None:
            raise UsageError("a SQLite database is restored as a file", hint="restore it with --to DIR")
        chosen = selected(inventory, databases)
        self.url = f"sqlite://{quote(str(below(files, chosen[0].dump)))}"
        return chosen

    def differences(self, chosen: Sequence[Database], files: Path, what: Sequence[str]) -> list[Difference]:
        found: list[Difference] = []
        for database in chosen:
            now = describe(self._path or below(files, database.dump), database.name, database.dump)
            if "rowcount" in what:
                found += compared_rows(database, now.rows or {})
            if "schema" in what and now.schema_sha256 != database.schema_sha256:
                found.append(Difference("schema", database.name, "the schema differs from the recorded one"))
        return found

    def stop(self) -> list[str]:
        return []


class SqliteEngine:
    """An implementation of `databases.Engine`."""

    def connect(self, dsn: str, environ: Mapping[str, str], watch: Watch, access: Access = NO_ACCESS) -> SqliteTarget:
        parts = urlsplit(dsn)
        if parts.scheme != "sqlite" or parts.netloc:
            raise UsageError("the DSN is not one for SQLite; write sqlite:///PATH")
        return SqliteTarget(Path(unquote(parts.path)))

    def start(
        self, roots: Sequence[Path], environ: Mapping[str, str], inventory: Inventory, size_bytes: int, watch: Watch
    ) -> SqliteTarget:
        return SqliteTarget()

    def lacks(self, environ: Mapping[str, str], inventory: Inventory, *, scratch: bool) -> str:
        return "" if scratch else "a SQLite database is a file, and has no DSN"


ENGINE = SqliteEngine()
