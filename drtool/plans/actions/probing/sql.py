"""Probes by SQL: one query, in a transaction that may only read.

Invariants
    Passwords go over the environment of the client program, everything else over its stdin: nothing of a query is in `ps`.
    Parameters are bound, never pasted: psql and mysql get them as values of a prepared statement, SQLite binds them itself.
    SQLite opens read-only, and leaves no file beside the database that was not there.
"""

import csv
import io
import os
import re
import secrets
import shutil
import sqlite3
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from threading import Event
from urllib.parse import parse_qsl, quote, unquote, urlsplit

from drtool.errors import DrtoolError
from drtool.plans.actions.port import Around, ChildResult
from drtool.plans.actions.probing.replies import CannotAsk, Reply, bad, good, unlike_number
from drtool.plans.bounded import TimeUp, WasCancelled
from drtool.plans.language.probes import Scalar, SqlExpect, SqlProbe

ROWS_MAX = 100_000
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]{0,17})(\.[0-9]{1,15})?", re.ASCII)
_PAIR = re.compile(r"\s*([a-z_]+)\s*=\s*(?:'((?:[^'\\]|\\.)*)'|([^\s'\\]+))\s*")
_POSTGRES = {
    "host": "PGHOST",
    "hostaddr": "PGHOSTADDR",
    "port": "PGPORT",
    "dbname": "PGDATABASE",
    "user": "PGUSER",
    "password": "PGPASSWORD",
    "passfile": "PGPASSFILE",
    "sslmode": "PGSSLMODE",
    "sslrootcert": "PGSSLROOTCERT",
    "sslcert": "PGSSLCERT",
    "sslkey": "PGSSLKEY",
    "sslcrl": "PGSSLCRL",
    "application_name": "PGAPPNAME",
    "connect_timeout": "PGCONNECT_TIMEOUT",
    "channel_binding": "PGCHANNELBINDING",
    "gssencmode": "PGGSSENCMODE",
    "requirepeer": "PGREQUIREPEER",
    "target_session_attrs": "PGTARGETSESSIONATTRS",
}
Cell = str | int | float | None
Row = Sequence[Cell]


def ask_sql(probe: SqlProbe, around: Around, ends_at: float, cancelled: Event | None) -> Reply:
    """Raises CannotAsk: no client program, or no DSN that could be understood."""
    ask = {"postgresql": _postgresql, "mysql": _mysql, "sqlite": _sqlite}[probe.engine]
    return ask(probe, around, ends_at, cancelled)


def judged(expect: SqlExpect, rows: Sequence[Row], more: bool) -> Reply:
    """What the rows are worth. `more`: there are more than these."""
    value = rows[0][0] if rows and rows[0] else None
    if expect.rows is not None and (more or len(rows) != expect.rows):
        return bad(f"{'more than ' if more else ''}{len(rows)} rows; expected {expect.rows}", value)
    wants_value = expect.equals is not None or expect.min is not None or expect.max is not None
    if wants_value and not rows:
        return bad("no row; expected one")
    problem = _unlike(expect, value) if wants_value else ""
    told = f"the first value is {value!r}" if rows else "no row"
    return bad(f"{told}; {problem}", value) if problem else good(f"{told}, of {len(rows)} rows", value)


def _unlike(expect: SqlExpect, value: Cell) -> str:
    if expect.equals is not None and not _equal(expect.equals, value):
        return f"expected {expect.equals!r}"
    if expect.min is None and expect.max is None:
        return ""
    if not isinstance(value, int | float):
        return "expected a number"
    return unlike_number(value, expect.min, expect.max)


def _equal(wanted: Scalar, value: Cell) -> bool:
    """Client programs print everything as text: `t`, `1`; a text that looks like a number is one then."""
    if isinstance(wanted, bool):
        return value in ((1, "t", "true") if wanted else (0, "f", "false"))
    if isinstance(wanted, str):
        return str(value) == wanted if value is not None else False
    return isinstance(value, int | float) and value == wanted


def cell(text: str) -> Cell:
    """A value as a client program prints it: a number where it is written like one."""
    match = _NUMBER.fullmatch(text)
    if match is None or text == "-0":
        return text
    return float(text) if match[1] else int(text)


# -- PostgreSQL


def _postgresql(probe: SqlProbe, around: Around, ends_at: float, cancelled: Event | None) -> Reply:
    env = {**around.environ, **postgres_environment(probe.dsn)}
    left_s = max(2, round(ends_at - time.monotonic()))
    env.setdefault("PGCONNECT_TIMEOUT", str(left_s))
    env["PGOPTIONS"] = f"-c default_transaction_read_only=on -c statement_timeout={left_s * 1000}"
    nothing = secrets.token_hex(8)
    argv = ["psql", "--no-psqlrc", "--no-password", "--quiet", "--csv", "--tuples-only", f"--pset=null={nothing}"]
    result = _client(argv, postgres_script(probe.query, probe.params), env, around, ends_at, cancelled)
    if result.exit_code:
        return bad(_complaint(result))
    if result.truncated:
        return bad("the answer is longer than what is read; select less")
    rows = list(csv.reader(io.StringIO(result.stdout.decode("utf-8", "replace"))))
    return judged(probe.expect, [[None if text == nothing else cell(text) for text in row] for row in rows], more=False)


def postgres_environment(dsn: str) -> dict[str, str]:
    """What libpq reads from its environment: a DSN in an argument would stand in `ps`. Raises CannotAsk."""
    pairs = _uri_pairs(dsn) if "://" in dsn else _keyword_pairs(dsn)
    unknown = sorted(set(pairs) - set(_POSTGRES))
    if unknown:
        raise CannotAsk(f"the DSN sets {', '.join(unknown)}, which probes cannot hand over without a command line")
    return {_POSTGRES[name]: value for name, value in pairs.items() if value}


def _uri_pairs(dsn: str) -> dict[str, str]:
    scheme, host, port, user, password, path, query = _uri(dsn)
    if scheme not in ("postgresql", "postgres"):
        raise CannotAsk("the DSN is none of PostgreSQL: write postgresql://USER@HOST/DATABASE, or host=… dbname=…")
    pairs = {"host": host, "port": port, "user": user, "password": password, "dbname": path}
    return {name: value for name, value in pairs.items() if value} | query


def _uri(dsn: str) -> tuple[str, str, str, str, str, str, dict[str, str]]:
    """(scheme, host, port, user, password, path, query); of a DSN that is none, nothing is repeated: it may be a secret."""
    try:
        parts = urlsplit(dsn)
        port = str(parts.port or "")
    except ValueError:
        raise CannotAsk("the DSN is no URL that can be understood") from None
    host = unquote(parts.netloc.rpartition("@")[2])
    host = unquote(parts.hostname or "") if parts.hostname and not host.startswith("/") else host
    query = dict(parse_qsl(parts.query, keep_blank_values=True))
    return (
        parts.scheme,
        host,
        port,
        unquote(parts.username or ""),
        unquote(parts.password or ""),
        unquote(parts.path.removeprefix("/")),
        query,
    )


def _keyword_pairs(dsn: str) -> dict[str, str]:
    pairs, at = {}, 0
    while at < len(dsn):
        match = _PAIR.match(dsn, at)
        if match is None:
            raise CannotAsk("the DSN is none of PostgreSQL: write postgresql://USER@HOST/DATABASE, or host=… dbname=…")
        quoted, plain = match[2], match[3]
        pairs[match[1]] = plain if quoted is None else re.sub(r"\\(.)", r"\1", quoted)
        at = match.end()
    return pairs


def postgres_script(query: str, params: Sequence[Scalar | None]) -> str:
    """For psql's stdin. Query and values are psql variables, quoted by psql; `\\gexec` sends the statement to the server as it
    is, so that no backslash in it is a command of psql's. With parameters it is prepared, and `$1` is bound."""
    query = query.strip().rstrip(";")
    lines = ["\\set ON_ERROR_STOP on"]
    lines += [
        f"\\set p{number} {_psql_quoted(_text(value))}" for number, value in enumerate(params, 1) if value is not None
    ]
    statement = f"PREPARE drtool_probe AS {query}" if params else query
    lines += [f"\\set statement {_psql_quoted(statement)}", "BEGIN READ ONLY;", "SELECT :'statement' \\gexec"]
    if params:
        values = ("NULL" if value is None else f":'p{number}'" for number, value in enumerate(params, 1))
        lines.append(f"EXECUTE drtool_probe({', '.join(values)});")
    return "\n".join([*lines, "ROLLBACK;", ""])


_PSQL_ESCAPES = str.maketrans({"\\": "\\\\", "'": "''", "\n": "\\n", "\r": "\\r", "\t": "\\t"})


def _psql_quoted(text: str) -> str:
    _no_nul(text)
    return "'" + text.translate(_PSQL_ESCAPES) + "'"


def _no_nul(text: str) -> None:
    if "\0" in text:
        raise CannotAsk("a NUL character can stand in no query and in no parameter")


def _text(value: Scalar) -> str:
    return {True: "true", False: "false"}[value] if isinstance(value, bool) else str(value)


# -- MySQL and MariaDB


def _mysql(probe: SqlProbe, around: Around, ends_at: float, cancelled: Event | None) -> Reply:
    scheme, host, port, user, password, database, query = _uri(probe.dsn)
    if scheme not in ("mysql", "mariadb") or query.keys() - {"socket"}:
        raise CannotAsk(
            "the DSN is none of MySQL: write mysql://USER@HOST/DATABASE, or mysql://USER@/DATABASE?socket=PATH"
        )
    left_s = max(2, round(ends_at - time.monotonic()))
    words = [
        "--no-defaults",
        "--batch",
        "--skip-column-names",
        f"--connect-timeout={left_s}",
        "--default-character-set=utf8mb4",
    ]
    given = {"host": host, "port": port, "user": user, "socket": query.get("socket", ""), "database": database}
    words += [f"--{name}={value}" for name, value in given.items() if value]
    env = dict(around.environ) | ({"MYSQL_PWD": password} if password else {})
    client = "mariadb" if shutil.which("mariadb", path=env.get("PATH")) else "mysql"
    result = _client([client, *words], mysql_script(probe.query, probe.params), env, around, ends_at, cancelled)
    if result.exit_code:
        return bad(_complaint(result))
    if result.truncated:
        return bad("the answer is longer than what is read; select less")
    lines = result.stdout.decode("utf-8", "replace").splitlines()
    return judged(probe.expect, [[mysql_cell(text) for text in line.split("\t")] for line in lines], more=False)


def mysql_script(query: str, params: Sequence[Scalar | None]) -> str:
    """For mysql's stdin. Query and values are in hexadecimal, so nothing in them can end a literal; PREPARE takes exactly one
    statement, and binds each `?`."""
    lines = [f"SET @p{number} = {_mysql_literal(value)};" for number, value in enumerate(params, 1)]
    lines.append(f"SET @statement = {_mysql_literal(query.strip().rstrip(';'))};")
    lines += ["START TRANSACTION READ ONLY;", "PREPARE drtool_probe FROM @statement;"]
    using = " USING " + ", ".join(f"@p{number}" for number in range(1, len(params) + 1)) if params else ""
    return "\n".join([*lines, f"EXECUTE drtool_probe{using};", "ROLLBACK;", ""])


def _mysql_literal(value: Scalar | None) -> str:
    if value is None:
        return "NULL"
    if isinstance(value, bool | int | float):
        return repr(int(value)) if isinstance(value, bool) else repr(value)
    _no_nul(value)
    return f"CONVERT(X'{value.encode().hex()}' USING utf8mb4)"


def mysql_cell(text: str) -> Cell:
    """As `--batch` prints it: `\\n`, `\\t`, `\\\\`, and NULL."""
    if text == "NULL":
        return None
    return cell(re.sub(r"\\(.)", lambda match: {"n": "\n", "t": "\t", "0": "\0"}.get(match[1], match[1]), text))


# -- SQLite


def _sqlite(probe: SqlProbe, around: Around, ends_at: float, cancelled: Event | None) -> Reply:  # noqa: ARG001
    path = sqlite_path(probe.dsn)
    try:
        connection = sqlite3.connect(_sqlite_uri(path), uri=True, timeout=1.0)
    except sqlite3.Error as error:
        return bad(f"{path}: {error}")
    try:
        connection.set_progress_handler(lambda: _over(ends_at, cancelled), 10_000)
        connection.execute("PRAGMA query_only = on")
        found = connection.execute(probe.query, probe.params)
        rows = found.fetchmany(ROWS_MAX + 1)
    except (sqlite3.Error, sqlite3.Warning) as error:
        if _over(ends_at, cancelled):
            raise TimeUp(f"{path}: no answer in time") from None
        return bad(f"{path}: {error}")
    finally:
        connection.close()
    plain = [[_plain(value) for value in row] for row in rows[:ROWS_MAX]]
    return judged(probe.expect, plain, more=len(rows) > ROWS_MAX)


def _over(ends_at: float, cancelled: Event | None) -> bool:
    return time.monotonic() > ends_at or (cancelled is not None and cancelled.is_set())


def _plain(value: object) -> Cell:
    if isinstance(value, bytes):
        return value[:1024].hex()
    return value if value is None or isinstance(value, str | int | float) else str(value)


def sqlite_path(dsn: str) -> Path:
    """`sqlite:///srv/app.db`, or the path itself. Raises CannotAsk."""
    if "://" in dsn:
        parts = urlsplit(dsn)
        if parts.scheme not in ("sqlite", "sqlite3") or parts.netloc:
            raise CannotAsk("the DSN is none of SQLite: write sqlite:///PATH, or the path")
        return Path(unquote(parts.path))
    return Path(dsn)


def _sqlite_uri(path: Path) -> str:
    """Read-only. A database in WAL mode that nobody has open has no `-wal`; a reader would make one, and leave it there, so it is
    opened as the unchanging file that it is. One whose `-wal` lost its `-shm` is not at rest, and not in use: not to be read."""
    try:
        with path.open("rb") as file:
            header = file.read(100)
    except FileNotFoundError:
        return f"file:{quote(os.fspath(path))}?mode=ro"  # SQLite says that there is none
    except OSError as error:
        raise CannotAsk(f"{path} cannot be read: {error.strerror}") from None
    log, index = (path.with_name(path.name + end) for end in ("-wal", "-shm"))
    if header[18:20] != b"\x02\x02" or (log.exists() and index.exists()):
        return f"file:{quote(os.fspath(path))}?mode=ro"
    if log.exists() and log.stat().st_size:
        raise CannotAsk(f"{path} has a -wal without its -shm: nobody has it open, and to read it would change it")
    return f"file:{quote(os.fspath(path))}?mode=ro&immutable=1"


# -- client programs


def _client(
    argv: Sequence[str],
    script: str,
    env: Mapping[str, str],
    around: Around,
    ends_at: float,
    cancelled: Event | None,
) -> ChildResult:
    try:
        result = around.program(argv, ends_at=ends_at, cancelled=cancelled, env=env, stdin=script.encode())
    except DrtoolError as error:
        raise CannotAsk(f"{error.message}; {error.hint}" if error.hint else error.message) from None
    if result.ended_by == "timeout":
        raise TimeUp(f"{argv[0]} got no answer in time")
    if result.ended_by == "cancelled":
        raise WasCancelled("the run was cancelled")
    return result


def _complaint(result: ChildResult) -> str:
    lines = [line for line in result.stderr.strip().splitlines() if line.strip()]
    return " ".join(lines[:3])[:500] or f"the client ended with {result.exit_code}"
