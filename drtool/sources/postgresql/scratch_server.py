"""A PostgreSQL server of one's own, for as long as it is needed: empty, private, gone afterwards.

Invariants
    It listens on a socket in a private directory and nowhere else: what is restored into it talks to nobody.
    It ends with the process that started it, however that ends: a shell waits at a pipe that only this process holds open, then
    stops the server and removes its directory.
    It syncs nothing: what it holds can be restored again.
"""

import os
import pwd
import shutil
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from urllib.parse import quote

from drtool.errors import DrtoolError
from drtool.sources import children
from drtool.sources.databases import Watch, nobody_watches
from drtool.sources.postgresql.client import Client

OWNER = "postgres"
START_S = 60.0
_STOP_S = 60.0
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
_GUARD = """
trap '' HUP INT TERM
"$1" -D "$2/data" -k "$2" %s >"$2/log" 2>&1 </dev/null &
server=$!
read -r _
kill -INT $server 2>/dev/null
wait $server 2>/dev/null
cd /
rm -rf "$2"
""" % " ".join(f"-c {name}='{value}'" for name, value in _SETTINGS.items())  # noqa: UP031 - braces belong to the shell


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
        self._user = server_user()
        self._environ = {**environ, "LC_MESSAGES": "C"}
        self.directory = _made(roots, size_bytes, self._user)
        self.dsn = f"host={self.directory} port=5432 user={OWNER} dbname=postgres"
        self.url = self.url_of("postgres")
        self._watch = watch
        self.client = Client(self.dsn, environ, programs=self.programs, watch=watch)
        self._guard: subprocess.Popen[bytes] | None = None
        try:
            self._initialise()
            self._guard = self._started()
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
        children.run(argv, self._environ, user=self._user, cwd=self.directory, watch=self._watch)

    def _started(self) -> "subprocess.Popen[bytes]":
        argv = ["/bin/sh", "-c", _GUARD, "sh", str(self.programs / "postgres"), str(self.directory)]
        return children.started(argv, self._environ, user=self._user, cwd=self.directory, stdin=subprocess.PIPE)

    def _wait(self) -> None:
        assert self._guard is not None
        ends_at = time.monotonic() + START_S
        while True:
            self._watch()
            try:
                self.client.ask("SELECT 1")
            except DrtoolError as error:
                log = children.told((self.directory / "log").read_bytes(), ()) if self.directory.exists() else ""
                if time.monotonic() < ends_at and "FATAL:  could not" not in log:
                    time.sleep(0.1)
                    continue
                raise DrtoolError(f"the scratch server does not start: {log or error.message}") from None
            return

    def stop(self) -> list[str]:
        """Ends the server and removes its directory; what could not be ended or removed, in words. Again is harmless."""
        left = []
        guard, self._guard = self._guard, None
        if guard is not None:
            assert guard.stdin is not None
            with suppress(OSError):
                guard.stdin.close()
            try:
                guard.wait(_STOP_S)
            except subprocess.TimeoutExpired:
                left.append(f"the scratch server in {self.directory} did not stop and was killed")
            children.kill_group(guard)
        shutil.rmtree(self.directory, ignore_errors=True)
        if self.directory.exists():
            left.append(f"the directory {self.directory} of the scratch server could not be removed")
        return left


def programs_of(environ: Mapping[str, str], major: int = 0) -> Path:
    """The directory of the server's programs. Raises DrtoolError. Debian keeps them out of PATH, by version."""
    found = shutil.which("initdb", path=environ.get("PATH", os.defpath))
    if found is not None:
        return Path(found).resolve().parent
    debian = Path("/usr/lib/postgresql")
    versions = sorted(
        int(path.name) for path in debian.glob("*") if path.name.isdigit() and (path / "bin/initdb").exists()
    )
    fitting = [version for version in versions if version >= major]
    if not fitting:
        has = f"; there is {', '.join(map(str, versions))}" if versions else ""
        raise DrtoolError(
            f"no server programs of PostgreSQL{f' {major} or newer' if major else ''} are installed{has}",
            hint=f"install postgresql-{major}" if major else "install postgresql",
        )
    return debian / str(fitting[0]) / "bin"


def server_user() -> str | None:
    """Whom the server runs as: PostgreSQL refuses root. None: the one that we are. Raises DrtoolError."""
    if os.geteuid() != 0:
        return None
    try:
        return pwd.getpwnam(OWNER).pw_name
    except KeyError:
        raise DrtoolError(
            f"PostgreSQL does not run as root, and there is no user {OWNER}", hint="install postgresql"
        ) from None


def _made(roots: Sequence[Path], size_bytes: int, user: str | None) -> Path:
    """A private directory that the server's user can reach, with a name short enough for a socket. Raises DrtoolError."""
    problems = []
    for root in dict.fromkeys([*roots, Path("/var/tmp"), Path(tempfile.gettempdir())]):  # noqa: S108 - made privately below
        problem = _unfit(root, size_bytes, user)
        if problem:
            problems.append(f"{root} {problem}")
            continue
        made = Path(tempfile.mkdtemp(prefix="drtool-pg-", dir=root))
        if user is not None:
            shutil.chown(made, user)
        return made
    raise DrtoolError(f"there is no place for a scratch server: {'; '.join(problems)}")


def _unfit(root: Path, size_bytes: int, user: str | None) -> str:
    if not root.is_dir() or not os.access(root, os.W_OK):
        return "cannot be written to"
    if len(os.fsencode(root)) > 70:
        return "has too long a name for a socket"
    if user is not None and not all(above.stat().st_mode & 0o001 for above in (root, *root.parents)):
        return f"cannot be entered by {user}"
    status = os.statvfs(root)
    free_bytes = status.f_bavail * status.f_frsize
    return f"has {free_bytes} bytes free, and {size_bytes} are needed" if free_bytes < size_bytes else ""
