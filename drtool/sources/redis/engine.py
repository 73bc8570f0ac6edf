"""Redis restores: a private server that starts with the RDB. An implementation of `databases.Engine`.

Invariants
    The server has a socket in a private directory and no port. It saves nothing, and ends with its process.
    A running server cannot load an RDB. Its administrator starts it with the file.
"""

import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from urllib.parse import quote

from drtool.errors import DrtoolError, UsageError
from drtool.sources import children
from drtool.sources.databases import NO_ACCESS, Access, Difference, Watch, below, compared_rows, selected
from drtool.sources.guarded import Guarded
from drtool.sources.inventory import Database, Inventory
from drtool.sources.redis.client import Client

START_S = 60.0
_NO_DSN = "a running Redis server cannot load an RDB"


class RedisTarget:
    """An implementation of `databases.Target`."""

    programs = None
    problems = ()

    def __init__(self, client: Client, url: str, guarded: Guarded | None) -> None:
        self._client, self._guarded = client, guarded
        self.url = url
        self.version = client.version() if guarded is None else ""

    def check(self, chosen: Sequence[Database]) -> None:
        if self._guarded is None:
            raise UsageError(_NO_DSN, hint="restore dump.rdb with --to, and start the server with it")

    def put_back(
        self, inventory: Inventory, files: Path, databases: Sequence[str], tell: Callable[[str], None]
    ) -> list[Database]:
        chosen = selected(inventory, databases)
        self.check(chosen)
        assert self._guarded is not None
        directory = self._guarded.directory
        dump = below(files, chosen[0].dump)
        children.run(["redis-check-rdb", str(dump)], self._guarded.environ, watch=self._client.watch)
        shutil.copyfile(dump, directory / "dump.rdb")
        words = ["--port", "0", "--unixsocket", str(directory / "socket"), "--dir", str(directory), "--save", ""]
        self._guarded.start(["redis-server", *words, "--appendonly", "no", "--daemonize", "no"])
        self._wait()
        self.version = self._client.version()
        return chosen

    def _wait(self) -> None:
        assert self._guarded is not None
        ends_at = time.monotonic() + START_S
        while True:
            self._client.watch()
            try:
                self._client.ask("PING")
            except DrtoolError as error:
                loading = "LOADING" in error.message
                if loading or time.monotonic() < ends_at:
                    time.sleep(0.1)
                    continue
                raise DrtoolError(f"the scratch server did not start: {self._guarded.log()}") from None
            return

    def differences(self, chosen: Sequence[Database], files: Path, what: Sequence[str]) -> list[Difference]:
        if "rowcount" not in what:
            return []
        return [row for database in chosen for row in compared_rows(database, self._client.keys())]

    def stop(self) -> list[str]:
        return self._guarded.stop() if self._guarded is not None else []


class RedisEngine:
    """An implementation of `databases.Engine`."""

    def connect(self, dsn: str, environ: Mapping[str, str], watch: Watch, access: Access = NO_ACCESS) -> RedisTarget:
        try:
            return RedisTarget(Client(dsn, environ, watch=watch), dsn, None)
        except ValueError as error:
            raise DrtoolError(str(error)) from None

    def start(
        self,
        roots: Sequence[Path],
        environ: Mapping[str, str],
        inventory: Inventory,
        size_bytes: int,
        watch: Watch,
    ) -> RedisTarget:
        guarded = Guarded(roots, environ, prefix="drtool-rd-", user=None, size_bytes=size_bytes)
        url = f"unix://{quote(str(guarded.directory / 'socket'))}"
        return RedisTarget(Client(url, environ, watch=watch), url, guarded)

    def lacks(self, environ: Mapping[str, str], inventory: Inventory, *, scratch: bool) -> str:
        if not scratch:
            return f"{_NO_DSN}; restore dump.rdb as a file, and start the server with it"
        try:
            for name in ("redis-server", "redis-cli", "redis-check-rdb"):
                children.program(name, environ)
        except DrtoolError as error:
            return f"{error.message}; {error.hint}" if error.hint else error.message
        return ""


ENGINE = RedisEngine()
