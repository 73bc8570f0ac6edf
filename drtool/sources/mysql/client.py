"""The client programs of MySQL and MariaDB, pointed at one server; of two of a kind, MariaDB's.

Invariants
    A password goes over the environment alone, and is taken out of every complaint. Nothing asks for one.
    Of a DSN that cannot be understood nothing is repeated: it may hold a password.
"""

import re
import shutil
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

from drtool.errors import DrtoolError
from drtool.sources import children
from drtool.sources.databases import Watch, nobody_watches
from drtool.sources.dsn import parse_url

_HOW = "write mysql://USER@HOST/, or mysql://USER@/?socket=PATH"
_OPTIONS = {"socket": "socket", "ssl-ca": "ssl-ca", "ssl-cert": "ssl-cert", "ssl-key": "ssl-key"}
PLAIN = (
    "SET SESSION sql_mode = '', sql_quote_show_create = 1, autocommit = 1, sql_select_limit = 18446744073709551615, "
    "wait_timeout = 31536000 /*M!100300 , max_statement_time = 0, idle_transaction_timeout = 0, "
    "idle_readonly_transaction_timeout = 0 *//*!80000 , max_execution_time = 0 */"
)
"""Defaults of a server that would change how it writes names, or end a long connection or statement of ours."""
_ESCAPES = {"n": "\n", "t": "\t", "0": "\0"}


class Client:
    """One server, as one user."""

    def __init__(
        self,
        dsn: str,
        environ: Mapping[str, str],
        *,
        defaults_file: Path | None = None,
        watch: Watch = nobody_watches,
    ) -> None:
        """Raises ValueError for a DSN that cannot be understood."""
        options, password = connection_options(dsn)
        first = [f"--defaults-extra-file={defaults_file}"] if defaults_file is not None else []
        self._options = [*first, *(f"--{name}={value}" for name, value in options.items())]
        self.environ = {**environ, **({"MYSQL_PWD": password} if password else {})}
        self.secrets = tuple(filter(None, (self.environ.get("MYSQL_PWD"),)))
        self.watch = watch
        self.told = options.get("socket") or options.get("host") or "the local server"

    @property
    def is_mariadb(self) -> bool:
        """Whether the programs are MariaDB's."""
        return shutil.which("mariadb-dump", path=self.environ.get("PATH")) is not None

    def words(self, program: str, *more: str) -> list[str]:
        """The command line of `dump`, `check`, or with "" the client itself. Raises DrtoolError if it is not installed."""
        names = [f"mariadb-{program}", f"mysql{program}"] if program else ["mariadb", "mysql"]
        found = [name for name in names if shutil.which(name, path=self.environ.get("PATH"))]
        if not found:
            raise DrtoolError(
                f"there is no program {names[0]} or {names[1]}", hint="install mariadb-client, or MySQL's"
            )
        return [found[0], *self._options, "--default-character-set=utf8mb4", *more]

    def run(self, argv: Sequence[str], *, heard: children.Heard | None = None, watch: Watch | None = None) -> bytes:
        """A program's output. Raises DrtoolError."""
        try:
            return children.run(
                argv, self.environ, secrets=self.secrets, limit_bytes=256 << 20, watch=watch or self.watch, heard=heard
            )
        except DrtoolError as error:
            raise children.ProgramFailed(f"the server at {self.told}: {error.message}", hint=error.hint) from None

    def piped(
        self, argv: Sequence[str], heard: children.Heard | None = None
    ) -> AbstractContextManager[children.Output]:
        return children.piped(argv, self.environ, secrets=self.secrets, heard=heard)

    def complaints(self, text: bytes, *more: str) -> list[str]:
        """What the server says about these statements, line by line. Raises DrtoolError."""
        argv = self.words("", "--batch", *more)
        return children.complaints(argv, self.environ, text, secrets=self.secrets, watch=self.watch)

    def load(self, file: Path, *more: str) -> tuple[int, str]:
        """Run the statements of a file, however long it is; (exit code, what the client and the server said)."""
        argv = self.words("", "--batch", *more)
        return children.fed(argv, self.environ, file, secrets=self.secrets, watch=self.watch)

    def ask(self, sql: str, database: str | None = None) -> list[list[str]]:
        """Return the rows of one query. NULL and a text that reads NULL look the same: select no NULL."""
        options = ("--batch", "--skip-column-names", "--loose-skip-print-query-on-error", "--connect-timeout=15")
        argv = self.words("", *options, f"--execute={PLAIN};{sql}")
        return cells(self.run([*argv, *([f"--database={database}"] if database is not None else [])]))


def connection_options(dsn: str) -> tuple[dict[str, str], str]:
    """(options of the client programs, password); which database is said with each question. Raises ValueError."""
    if not dsn:
        return {}, ""
    url = parse_url(dsn)
    if url.scheme not in ("mysql", "mariadb"):
        raise ValueError(f"the DSN is none of a MySQL server; {_HOW}")
    if set(url.query) - set(_OPTIONS):
        raise ValueError(f"the DSN sets a parameter that is not known; known are {', '.join(_OPTIONS)}")
    given = {"host": url.host, "port": url.port, "user": url.user}
    given |= {_OPTIONS[name]: value for name, value in url.query.items()}
    return {name: value for name, value in given.items() if value}, url.password


def cells(text: bytes) -> list[list[str]]:
    """The rows that the client printed with `--batch`."""
    return [[_cell(word) for word in line.split("\t")] for line in text.decode("utf-8", "replace").split("\n")[:-1]]


def _cell(text: str) -> str:
    """Decode a value as `--batch` prints it."""
    return re.sub(r"\\(.)", lambda match: _ESCAPES.get(match[1], match[1]), text)


def quoted(name: str) -> str:
    """A name in SQL."""
    return "`" + name.replace("`", "``") + "`"


def literal(text: str) -> str:
    """A text in SQL, in hexadecimal: nothing in it can end the literal."""
    return f"CONVERT(X'{text.encode().hex()}' USING utf8mb4)"
