"""Users and dumps of a snapshot into a MySQL or MariaDB server that may not grant everything.

Invariants
    A statement that fails is reported with the server's own words, and the others run. No row is in a message.
    A connection that is lost is not made again: its successor would lack the settings under which the dump was written.
    A database that is being loaded holds an empty table named `MARK` until it is whole. By it a later restore tells its own
    unfinished work, which it begins again, from somebody's data, which it never touches.
"""

import mmap
import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from drtool.errors import DrtoolError
from drtool.sources.inventory import digest
from drtool.sources.mysql.client import Client, quoted
from drtool.sources.mysql.session import Failure, Session

MARK = "drtool_unfinished_restore"
PACKET_BYTES = 1 << 30
OPTIONS = ("--force", "--skip-reconnect", "--loose-skip-print-query-on-error", f"--max-allowed-packet={PACKET_BYTES}")
_ERROR = re.compile(r"^ERROR (\d+) \(\w+\) at line (\d+)[^:]*: (.*)$", re.MULTILINE)
_SAFE = frozenset(
    [1007, 1008, 1044, 1045, 1049, 1050, 1051, 1054, 1142, 1146, 1227, 1304, 1305, 1356, 1359, 1360, 1396, 1419, 1449]
)
"""Errors whose quoted words are names; in others they may be values."""
_LATER = frozenset([1146, 1305, 1147, 1403])
"""What a grant on an object fails with before the object is there."""
_ACCOUNT = rb"`(?:[^`]|``)*`(?:@`(?:[^`]|``)*`)?"
_DEFINER = re.compile(
    rb"^(?:CREATE |/\*!50013 |/\*!50020 |/\*!50003 CREATE\*/ /\*!5001[0-9] |/\*!50106 CREATE\*/ /\*!50117 )(DEFINER=("
    + _ACCOUNT
    + rb"))",
    re.MULTILINE,
)
_CREATE = re.compile(rb"^CREATE DATABASE /\*!32312 IF NOT EXISTS\*/ (`(?:[^`]|``)+`)(.*?);$", re.MULTILINE | re.DOTALL)
_ROLE_GRANT = re.compile(r"GRANT ([`'](?:[^`']|``|'')+[`']) TO ")
_NEW_ROLE = re.compile(r"CREATE ROLE (?:IF NOT EXISTS )?'((?:[^'\\]|\\.|'')+)'")
_VIEW = re.compile(
    r"^/\*!50001 DROP VIEW IF EXISTS `(?:[^`]|``)+`\*/;\n(?:/\*!50001 SET [^\n]*\n)+/\*!50001 CREATE ALGORITHM.*?\*/;\n",
    re.MULTILINE | re.DOTALL,
)
_OF_VIEWS = frozenset([1142, 1143, 1356, 1370, 1449])
"""What a view fails with whose definer is not there, or lacks a right."""
_HEAD_BYTES = 1 << 16


def told(code: int, message: str) -> str:
    """The server's words, without what may be a value of a row."""
    text = message if code in _SAFE else re.sub(r"'.*'", "'…'", message)
    return f"ERROR {code}: {text}"


def errors_of(stderr: str) -> list[tuple[int, int, str]]:
    """(number, line of the script, words) of each error."""
    return [(int(code), int(at), told(int(code), text)) for code, at, text in _ERROR.findall(stderr)]


class Users:
    """The users and roles of a snapshot, in two passes: a right on a table can be granted once the table is there."""

    def __init__(self, client: Client, text: str) -> None:
        self._client = client
        accounts = client.ask("SELECT User, Host FROM mysql.user")
        self._lines = of_new_users(text, accounts).splitlines(keepends=True)
        self._later: list[str] = []

    def create(self) -> list[str]:
        """What could not be done, in words, but for what waits for `grant`."""
        problems = []
        for code, at, message in self._said(self._lines):
            line = self._lines[at - 1] if 0 < at <= len(self._lines) else ""
            if code in _LATER and "GRANT " in line:
                self._later.append(line)
            elif not (code == 1396 and "CREATE ROLE" in line):  # the dump makes a role once for each who administers it
                problems.append(f"{message}{_about(line)}")
        return problems

    def grant(self) -> list[str]:
        """What could not be granted although its object should be there."""
        return [f"{message}{_about(self._later[at - 1])}" for _, at, message in self._said(self._later)]

    def _said(self, lines: Sequence[str]) -> list[tuple[int, int, str]]:
        text = "".join(lines)
        if not text:
            return []
        said = self._client.complaints(text.encode("utf-8", "surrogateescape"), *OPTIONS)
        return errors_of("\n".join(said))


def _about(line: str) -> str:
    """The statement without a password."""
    text = re.sub(r"^/\*M?!\d+ | \*/;?$|;$", "", line.strip()).partition(" IDENTIFIED ")[0]
    return f" ({text})" if text else ""


def of_new_users(text: str, accounts: Iterable[Sequence[str]]) -> str:
    """Without what would change users and roles that are there. Those that are there may be given roles that are new."""
    accounts = list(accounts)
    own = [spelling for user, host in accounts for spelling in _spellings(user, host)]
    here = {user for user, host in accounts if not host}
    made = {name for name in _NEW_ROLE.findall(text) if name.replace("\\'", "'") not in here}
    fresh = {f"`{name}`" for name in made} | {f"'{name}'" for name in made}

    def kept(line: str) -> bool:
        granted = _ROLE_GRANT.search(line)
        return (granted is not None and granted[1] in fresh) or not any(each in line for each in own)

    return "".join(line for line in text.splitlines(keepends=True) if kept(line))


def _spellings(user: str, host: str) -> tuple[str, ...]:
    """How mariadb-dump writes an account: in back quotes, and in single ones."""
    back = [quoted(part) for part in (user, host)]
    single = ["'" + part.replace("\\", "\\\\").replace("'", "\\'") + "'" for part in (user, host)]
    if host:
        return "@".join(back), "@".join(single)
    return f"CREATE ROLE {single[0]}", f"TO {back[0]};", f"TO {single[0]};"


def without_definers(dump: Path, accounts: Callable[[str], bool]) -> set[str]:
    """Blank the definers in a dump that `accounts` refuses, in place; who they were."""
    found: set[str] = set()
    if not dump.stat().st_size:
        return found
    with dump.open("r+b") as file, mmap.mmap(file.fileno(), 0) as text:
        for match in list(_DEFINER.finditer(text)):
            account = match[2].decode("utf-8", "replace")
            if not accounts(account):
                found.add(account)
                text[match.start(1) : match.end(1)] = b" " * (match.end(1) - match.start(1))
    return found


def prepare(session: Session, dump: Path, name: str, *, there: bool) -> None:
    """Make the database as the dump says, or give an empty one the same properties; mark it. Raises DrtoolError."""
    with dump.open("rb") as file:
        head = file.read(_HEAD_BYTES)
    match = _CREATE.search(head)
    options = match[2].decode("utf-8", "surrogateescape") if match is not None else ""
    if there:
        if options.strip():
            session.ask(f"ALTER DATABASE {quoted(name)}{options}")
    else:
        session.ask(f"CREATE DATABASE {quoted(name)}{options}")
    session.ask(f"CREATE TABLE IF NOT EXISTS {quoted(name)}.{MARK} (content VARCHAR(64))")


class Problem(NamedTuple):
    """A statement that failed: the server's number and words."""

    code: int
    message: str


def load(client: Client, dump: Path) -> list[Problem]:
    """Run the statements of a dump; what failed. Raises DrtoolError if the client itself fails."""
    code, stderr = client.load(dump, *OPTIONS)
    found = errors_of(stderr)
    if code and not found:
        last = stderr.strip().splitlines()[-1:] or ["it said nothing"]
        raise DrtoolError(f"the client program ended with {code}: {last[0][:200]}")
    return list(dict.fromkeys(Problem(code, message) for code, _, message in found))


def views_again(client: Client, name: str, schema: str, failed: Sequence[Problem]) -> list[Problem]:
    """Define the views once more, now that their definers have their rights on tables; what of `failed` is left."""
    views = _VIEW.findall(schema)
    if not views or not any(problem.code in _OF_VIEWS for problem in failed):
        return list(failed)
    text = "".join(views).encode("utf-8", "surrogateescape")
    said: list[str] = []
    for _ in range(2):  # a view that is defined by another one may come before it
        said = client.complaints(text, *OPTIONS, f"--database={name}")
    left = [problem for problem in failed if problem.code not in _OF_VIEWS]
    return left + list(dict.fromkeys(Problem(code, message) for code, _, message in errors_of("\n".join(said))))


def raised_packets(session: Session) -> int | None:
    """Let the server take rows as large as any; what its limit was. None: it takes them, or this user may not change it."""
    ((limit,),) = session.ask("SELECT @@GLOBAL.max_allowed_packet")
    if int(limit) >= PACKET_BYTES:
        return None
    done = session.attempt(f"SET GLOBAL max_allowed_packet = {PACKET_BYTES}")
    return None if isinstance(done, Failure) else int(limit)


def mark_of(session: Session, name: str) -> str | None:
    """The mark of a restore that did not finish: empty, or the digest of what it left. None: there is none."""
    rows = session.attempt(f"SELECT COALESCE(MAX(content), '') FROM {quoted(name)}.{MARK}")  # noqa: S608 - quoted
    return None if isinstance(rows, Failure) else rows[0][0]


def content(session: Session, name: str, tables: Iterable[str]) -> str:
    """A digest of all rows of a database, by the server's checksums."""
    checksums = [
        session.attempt(f"CHECKSUM TABLE {quoted(name)}.{quoted(table)} EXTENDED") for table in tables if table != MARK
    ]
    return digest(str(row) for row in checksums)
