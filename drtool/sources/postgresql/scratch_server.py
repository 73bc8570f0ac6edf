"""A PostgreSQL server of one's own, for as long as it is needed: empty, private, gone afterwards.

Invariants
    It listens on a socket in a private directory and nowhere else: what is restored into it talks to nobody.
    It ends with the process that started it, however that ends: see `guarded`.
    It syncs nothing: what it holds can be restored again.
"""

import os
import re
import shutil
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from urllib.parse import quote

from drtool.errors import DrtoolError
from drtool.sources import children
from drtool.sources.databases import Watch, nobody_watches
from drtool.sources.guarded import Guarded, user_of
from drtool.sources.postgresql.client import Client

OWNER = "postgres"
START_S = 60.0
_SETTINGS = {
    "listen_addresses": "",
    "unix_socket_permissions": "0700",
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "archive_mode": "off",
    "logging_collector": "off",
    "max_connections": "40",
}


class ScratchServer:
    """A running server; `stop` it. Its superuser is `postgres`, without a password."""

    def __init__(
        self,
        roots: Sequence[Path],
        environ: Mapping[str, str],
        *,
        major: int = 0,
        size_bytes: int = 0,
        watch: Watch = nobody_watches,
    ) -> None:
        """`major`: at least this version. Raises DrtoolError: no programs, no room, or it does not start."""
        self.programs = programs_of(environ, major)
        self._guarded = Guarded(
            roots, environ, prefix="drtool-pg-", user=user_of(OWNER, "postgresql"), size_bytes=size_bytes
        )
        self.directory = self._guarded.directory
        self.dsn = f"host={self.directory} port=5432 user={OWNER} dbname=postgres"
        self.url = self.url_of("postgres")
        self._watch = watch
        self.client = Client(self.dsn, environ, programs=self.programs, watch=watch)
        try:
            self._initialise()
            self._start()
            self._wait()
        except BaseException:
            self.stop()
            raise

    def url_of(self, database: str) -> str:
        """The DSN of one database."""
        return f"postgresql://{OWNER}@/{quote(database, safe='')}?host={quote(str(self.directory))}&port=5432"

    def _initialise(self) -> None:
        argv = [str(self.programs / "initdb"), "--no-sync", "--auth=trust", f"--username={OWNER}", "--encoding=UTF8"]
        argv += ["--locale=C", f"--pgdata={self.directory / 'data'}"]
        guarded = self._guarded
        children.run(argv, guarded.environ, user=guarded.user, cwd=self.directory, watch=self._watch)

    def _start(self) -> None:
        argv = [str(self.programs / "postgres"), "-D", str(self.directory / "data"), "-k", str(self.directory)]
        self._guarded.start([*argv, *(f"--{name}={value}" for name, value in _SETTINGS.items())], signal="INT")

    def _wait(self) -> None:
        ends_at = time.monotonic() + START_S
        while True:
            self._watch()
            try:
                self.client.ask("SELECT 1")
            except DrtoolError as error:
                log = self._guarded.log()
                if time.monotonic() < ends_at and "FATAL:  could not" not in log:
                    time.sleep(0.1)
                    continue
                raise DrtoolError(f"the scratch server does not start: {log or error.message}") from None
            return

    def stop(self) -> list[str]:
        """Ends the server and removes its directory; what could not be ended or removed, in words. Again is harmless."""
        return self._guarded.stop()


def programs_of(environ: Mapping[str, str], major: int = 0) -> Path:
    """The directory of the server's programs, of this version or the next that there is. Raises DrtoolError. Debian keeps them
    out of PATH, by version."""
    found = shutil.which("initdb", path=environ.get("PATH", os.defpath))
    if found is not None and _major_of(found, environ) >= major:
        return Path(found).resolve().parent
    debian = Path("/usr/lib/postgresql")
    versions = sorted(int(path.parts[-3]) for path in debian.glob("[0-9]*/bin/initdb") if path.parts[-3].isdigit())
    fitting = [version for version in versions if version >= major]
    if not fitting:
        has = f"; there is {', '.join(map(str, versions))}" if versions else ""
        raise DrtoolError(
            f"no server programs of PostgreSQL{f' {major} or newer' if major else ''} are installed{has}",
            hint=f"install postgresql-{major}" if major else "install postgresql",
        )
    return debian / str(fitting[0]) / "bin"


def _major_of(initdb: str, environ: Mapping[str, str]) -> int:
    match = re.search(rb"\(PostgreSQL\) (\d+)", children.run([initdb, "--version"], environ))
    return int(match[1]) if match else 0
