"""PostgreSQL as a place to put dumps back into. Fulfils `databases.Engine`."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from drtool.errors import DrtoolError
from drtool.sources.children import program
from drtool.sources.databases import NO_ACCESS, Access, Difference, Watch, selected
from drtool.sources.guarded import user_of
from drtool.sources.inventory import Database, Inventory
from drtool.sources.postgresql import putback
from drtool.sources.postgresql.client import Client
from drtool.sources.postgresql.dsn import is_local
from drtool.sources.postgresql.looking import look
from drtool.sources.postgresql.scratch_server import OWNER, ScratchServer, programs_of


class PostgresqlTarget:
    """Fulfils `databases.Target`."""

    def __init__(self, client: Client, url: str, server: ScratchServer | None) -> None:
        self._client, self._server = client, server
        self.url = url
        self.version = look(client).version
        self.programs = str(server.programs) if server is not None else None
        self._restore = putback.PutBack(client, scratch=server is not None)
        self._began = False

    @property
    def problems(self) -> Sequence[Difference]:
        return self._restore.problems

    def check(self, chosen: Sequence[Database]) -> None:
        self._restore.check(chosen)

    def put_back(
        self, inventory: Inventory, files: Path, databases: Sequence[str], tell: Callable[[str], None]
    ) -> list[Database]:
        self._began = True
        chosen = self._restore.run(inventory, files, selected(inventory, databases), tell)
        if self._server is not None:
            own = [database.name for database in chosen if database.name != "postgres"]
            self.url = self._server.url_of(own[0] if len(own) == 1 else "postgres")
        return chosen

    def differences(self, chosen: Sequence[Database], files: Path, what: Sequence[str]) -> list[Difference]:
        restore = self._restore if self._began else None
        found = putback.differences(self._client, chosen, files, what, restore=restore)
        self._restore.settle(found)
        return found

    def stop(self) -> list[str]:
        return [*self._restore.leave(), *(self._server.stop() if self._server is not None else [])]


class PostgresqlEngine:
    """Fulfils `databases.Engine`."""

    def connect(
        self, dsn: str, environ: Mapping[str, str], watch: Watch, access: Access = NO_ACCESS
    ) -> PostgresqlTarget:
        try:
            client = Client(
                dsn,
                environ,
                run_as=access.run_as if is_local(dsn, environ) else None,
                programs=access.programs,
                watch=watch,
            )
        except ValueError as error:
            raise DrtoolError(str(error)) from None
        client.avoid_absent_entrance()
        return PostgresqlTarget(client, dsn, None)

    def start(
        self, roots: Sequence[Path], environ: Mapping[str, str], inventory: Inventory, size_bytes: int, watch: Watch
    ) -> PostgresqlTarget:
        server = ScratchServer(roots, environ, major=_major(inventory), size_bytes=2 * size_bytes, watch=watch)
        return PostgresqlTarget(server.client, server.url, server)

    def lacks(self, environ: Mapping[str, str], inventory: Inventory, *, scratch: bool) -> str:
        try:
            program("pg_restore", environ)
            program("psql", environ)
            if scratch:
                programs_of(environ, _major(inventory))
                user_of(OWNER, "postgresql")
        except DrtoolError as error:
            return f"{error.message}; {error.hint}" if error.hint else error.message
        return ""


def _major(inventory: Inventory) -> int:
    """The least version that can take the dumps."""
    digits = (inventory.server_version or "").partition(".")[0]
    return int(digits) if digits.isdigit() else 0


ENGINE = PostgresqlEngine()
