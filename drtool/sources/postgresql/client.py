"""PostgreSQL's own programs, pointed at one server: psql for questions, pg_dump and its kin for the rest.

Invariants
    A password goes over the environment alone, and is taken out of every complaint. Nothing asks for one.
    A session's statements are in one transaction if it began one; whatever fails in it ends it.
"""

import csv
import io
import re
import secrets as tokens
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from drtool.errors import DrtoolError
from drtool.sources import children
from drtool.sources.databases import Watch, nobody_watches
from drtool.sources.postgresql.dsn import dsn_environment, of_database

ROOT = Path("/")
_QUIET = ("--no-psqlrc", "--no-password", "--quiet", "--csv", "--tuples-only", "--set=ON_ERROR_STOP=1")
_DEFAULTS = {"PGCONNECT_TIMEOUT": "15", "PGAPPNAME": "drtool", "PGCLIENTENCODING": "UTF8", "LC_MESSAGES": "C"}
_PATIENCE = (
    "SET statement_timeout = 0;\nSELECT pg_catalog.set_config(name, '0', false) FROM pg_catalog.pg_settings WHERE name IN "
    "('idle_in_transaction_session_timeout', 'idle_session_timeout', 'transaction_timeout')"
)
"""Limits of a role or database are for applications: they must not end a count or a restore."""
_ENTRANCES = ("postgres", "template1")
_SHUT = (" does not exist", " is not currently accepting connections")
_ABSENT = re.compile(r'database ".*" does not exist')
_MAJOR = re.compile(r"\(PostgreSQL\) (\d+)")


class Client:
    """One server, as one user."""

    def __init__(
        self,
        dsn: str,
        environ: Mapping[str, str],
        *,
        run_as: str | None = None,
        programs: Path | None = None,
        watch: Watch = nobody_watches,
    ) -> None:
        """Raises ValueError for a DSN that cannot be understood."""
        given = dsn_environment(dsn)
        self.environ = {**_DEFAULTS, **environ, **given}
        if programs is not None:
            self.environ["PATH"] = f"{programs}:{self.environ.get('PATH', '')}"
        self.secrets = tuple(filter(None, (self.environ.get("PGPASSWORD"),)))
        self.run_as = run_as
        self.watch = watch
        self.database = given.get("PGDATABASE")
        self.told = given.get("PGSERVICE") or given.get("PGHOST") or "the local server"

    def entrance(self) -> str:
        """Return a database to connect to where any will do. Raises DrtoolError if there is none."""
        if self.database is None:
            self.database = self._open_database()
        return self.database

    def _open_database(self) -> str:
        """libpq's own choice if a service or the environment makes one, else one that every server has."""
        chosen = "PGSERVICE" in self.environ or "PGDATABASE" in self.environ
        return self._first_open(("",) if chosen else _ENTRANCES)

    def avoid_absent_entrance(self) -> None:
        """Go by way of another database if the DSN's does not exist: a restore may be about to create it. Raises DrtoolError."""
        try:
            self.ask("SELECT 1")
        except DrtoolError as error:
            if _ABSENT.search(error.message) is None:
                raise
            self.database = self._first_open(_ENTRANCES)

    def _first_open(self, names: Sequence[str]) -> str:
        refused = None
        for name in names:
            try:
                return self.ask("SELECT current_database()", name)[0][0]
            except DrtoolError as error:
                if not any(f'database "{name}"{why}' in error.message for why in _SHUT):
                    raise
                refused = refused or error
        assert refused is not None
        raise refused

    def run(self, argv: Sequence[str], *, stdin: bytes | None = None, heard: children.Heard | None = None) -> bytes:
        """A program's output. Raises DrtoolError."""
        return children.run(
            argv,
            self.environ,
            stdin=stdin,
            user=self.run_as,
            secrets=self.secrets,
            cwd=ROOT,
            limit_bytes=256 << 20,
            watch=self.watch,
            heard=heard,
        )

    def complaints(self, argv: Sequence[str], *, stdin: bytes) -> list[str]:
        """What a program says on stderr, line by line, without secrets. Raises DrtoolError if it fails."""
        return children.complaints(
            argv, self.environ, stdin, user=self.run_as, secrets=self.secrets, cwd=ROOT, watch=self.watch
        )

    def fed(self, argv: Sequence[str], file: Path, options: str = "") -> tuple[int, str]:
        """Run a program on a file; (exit code, what it complained of). `options`: settings of the server for it."""
        environ = (
            {**self.environ, "PGOPTIONS": f"{self.environ.get('PGOPTIONS', '')} {options}".strip()}
            if options
            else self.environ
        )
        return children.fed(argv, environ, file, user=self.run_as, secrets=self.secrets, cwd=ROOT, watch=self.watch)

    def here(self, argv: Sequence[str]) -> bytes:
        """The output of a program that reads files of this host and talks to no server. Raises DrtoolError."""
        return children.run(argv, self.environ, limit_bytes=1 << 30, watch=self.watch)

    def piped(
        self, argv: Sequence[str], heard: children.Heard | None = None
    ) -> AbstractContextManager[children.Output]:
        return children.piped(argv, self.environ, cwd=ROOT, user=self.run_as, secrets=self.secrets, heard=heard)

    def major(self, program: str) -> int:
        """The version of a client program. Raises DrtoolError if it is not installed."""
        text = self.run([program, "--version"]).decode()
        match = _MAJOR.search(text)
        if match is None:
            raise DrtoolError(f"{program} --version says {text.strip()!r}: is it PostgreSQL's?")
        return int(match[1])

    @contextmanager
    def session(self, database: str | None = None) -> Iterator["Session"]:
        """A connection that lasts. Raises DrtoolError if there is none."""
        name = self.entrance() if database is None else database
        argv = ["psql", *_QUIET, *([f"--dbname={of_database(name)}"] if name else [])]
        child = children.started(argv, self.environ, cwd=ROOT, user=self.run_as, stdin=subprocess.PIPE)
        try:
            session = Session(child, self)
            session.ask(_PATIENCE)
            yield session
        finally:
            if child.stdin is not None:
                with suppress(OSError):
                    child.stdin.close()  # psql ends where its input does, and whatever it has begun is rolled back
            with suppress(subprocess.TimeoutExpired):
                child.wait(1)
            children.kill_group(child)

    def ask(self, sql: str, database: str | None = None) -> list[list[str]]:
        """The rows of one question."""
        with self.session(database) as session:
            return session.ask(sql)


class Failure(NamedTuple):
    """A statement that failed: SQLSTATE and the server's message."""

    state: str
    message: str


def _rows(text: bytes) -> list[list[str]]:
    """Bytes that are no UTF-8, as a database without an encoding may have, survive in names."""
    return list(csv.reader(io.StringIO(text.decode("utf-8", "surrogateescape"), newline="")))


class Session:
    """psql, question by question."""

    def __init__(self, child: "subprocess.Popen[bytes]", client: Client) -> None:
        assert child.stdin is not None
        assert child.stdout is not None
        self._child, self._client = child, client
        self._in, self._out = child.stdin, child.stdout.fileno()

    def ask(self, sql: str) -> list[list[str]]:
        """The rows that a statement gives. Raises DrtoolError."""
        return _rows(self._said(f"{sql.rstrip().rstrip(';')};"))

    def attempt(self, sql: str) -> "Failure | list[list[str]]":
        """The rows of a statement in a transaction that goes on if it fails. What it did is undone, and its locks are released.

        Raises DrtoolError if the connection ends.
        """
        mark = tokens.token_hex(16)
        text = self._said(
            f"\\unset ON_ERROR_STOP\nSAVEPOINT attempt;\n{sql.rstrip().rstrip(';')};\n"
            f"\\if :ERROR\n\\echo {mark} :LAST_ERROR_SQLSTATE :LAST_ERROR_MESSAGE\n\\endif\n"
            "ROLLBACK TO SAVEPOINT attempt;\nRELEASE SAVEPOINT attempt;\n\\set ON_ERROR_STOP 1"
        )
        rows, failed, why = text.partition(f"{mark} ".encode())
        if not failed:
            return _rows(rows)
        state, _, message = why.decode("utf-8", "replace").strip().partition(" ")
        return Failure(state, message)

    def applied(self, sql: str) -> bool:
        """Whether a statement in a transaction succeeded; one that fails leaves the transaction as it was."""
        mark = tokens.token_hex(16)
        text = self._said(
            f"\\unset ON_ERROR_STOP\nSAVEPOINT attempt;\n{sql};\n\\if :ERROR\n\\echo {mark}\nROLLBACK TO SAVEPOINT attempt;\n"
            "\\endif\nRELEASE SAVEPOINT attempt;\n\\set ON_ERROR_STOP 1"
        )
        return mark.encode() not in text

    def _said(self, words: str) -> bytes:
        """What is printed in answer."""
        mark = tokens.token_hex(16)
        try:
            self._in.write(f"{words}\n\\echo {mark}\n".encode("utf-8", "surrogateescape"))
        except BrokenPipeError:
            raise self._failed() from None
        return self._until(f"{mark}\n".encode())

    def _until(self, end: bytes) -> bytes:
        """What is printed before `end`."""
        text = children.read_until(self._out, end, self._client.watch)
        if text is None:
            raise self._failed()
        return text

    def _failed(self) -> DrtoolError:
        assert self._child.stderr is not None
        text = self._child.stderr.read() or b""
        why = children.told(text, self._client.secrets) or "it said nothing"
        return children.ProgramFailed(
            f"PostgreSQL at {self._client.told}: {why}",
            hint="check that the server is up, and the source's dsn; for a password, use a passfile or a service",
        )
