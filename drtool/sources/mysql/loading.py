"""Dumps of a snapshot into a MySQL or MariaDB server that may not grant everything.

Invariants
    A statement that fails is reported with the server's own words, and the others run. No row is in a message.
    A connection that is lost is not made again: its successor would lack the settings under which the dump was written.
    A database that is being loaded carries a mark until it is whole: see `unfinished`.
"""

import mmap
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from drtool.errors import DrtoolError
from drtool.sources.mysql.catalogue import ACCOUNT, plain_account
from drtool.sources.mysql.client import Client, quoted
from drtool.sources.mysql.session import Failure, Session
from drtool.sources.mysql.unfinished import mark

PACKET_BYTES = 1 << 30
OPTIONS = ("--force", "--skip-reconnect", "--loose-skip-print-query-on-error", f"--max-allowed-packet={PACKET_BYTES}")
_ERROR = re.compile(r"^ERROR (\d+) \((\w+)\) at line (\d+)[^:]*: (.*)$", re.MULTILINE)
_SAFE = frozenset(
    [1007, 1008, 1044, 1045, 1049, 1050, 1051, 1054, 1142, 1146, 1227, 1304, 1305, 1356, 1359, 1360, 1396, 1419, 1449]
)
"""Errors whose quoted words are names; in others they may be values."""
_RAISED = "45000"
"""The state of errors that SIGNAL raises, in whatever words."""
_DEFINER = re.compile(
    rb"^(?:CREATE |/\*!50013 |/\*!50020 |/\*!50003 CREATE\*/ /\*!5001[0-9] |/\*!50106 CREATE\*/ /\*!50117 )(DEFINER=("
    + ACCOUNT.encode()
    + rb"))",
    re.MULTILINE,
)
_CREATE = re.compile(rb"^CREATE DATABASE /\*!32312 IF NOT EXISTS\*/ (`(?:[^`]|``)+`)(.*?);$", re.MULTILINE | re.DOTALL)
_VIEW = re.compile(
    r"^/\*!50001 DROP VIEW IF EXISTS `(?:[^`]|``)+`\*/;\n(?:/\*!50001 SET [^\n]*\n)+/\*!50001 CREATE ALGORITHM.*?\*/;\n",
    re.MULTILINE | re.DOTALL,
)
_OF_VIEWS = frozenset([1142, 1143, 1356, 1370, 1449])
"""What a view fails with whose definer is not there, or lacks a right."""
_HEAD_BYTES = 1 << 16


def told(code: int, state: str, message: str) -> str:
    """The server's words, without what may be a value of a row."""
    if state == _RAISED:
        return f"ERROR {code}: a trigger or routine of the database refused it"
    text = message if code in _SAFE else re.sub(r"'.*", "'…'", message, flags=re.DOTALL)
    return f"ERROR {code}: {text}"


def errors_of(stderr: str) -> list[tuple[int, int, str]]:
    """(number, line of the script, words) of each error."""
    return [(int(code), int(at), told(int(code), state, text)) for code, state, at, text in _ERROR.findall(stderr)]


def without_definers(dump: Path, accounts: Callable[[str], bool]) -> set[str]:
    """Blank the definers in a dump that `accounts` refuses, in place; who they were."""
    found: set[str] = set()
    if not dump.stat().st_size:
        return found
    with dump.open("r+b") as file, mmap.mmap(file.fileno(), 0) as text:
        for match in list(_DEFINER.finditer(text)):
            account = plain_account(match[2].decode("utf-8", "replace"))
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
    mark(session, name)


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
        why = re.sub(r"'.*", "'…'", last[0])
        raise DrtoolError(f"the client program ended with {code}: {why[:200]}")
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
