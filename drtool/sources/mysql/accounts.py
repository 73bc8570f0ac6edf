"""Users, roles, rights and other objects outside of databases: the record, the dump, the restore and the comparison.

Invariants
    The record comes from the server (`SHOW GRANTS`, `mysql.servers`, …), not from the dump. It holds no password.
    Existing users and roles keep their passwords and rights. They may be given new roles.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

from drtool.errors import DrtoolError
from drtool.sources.inventory import Inventory
from drtool.sources.mysql.client import PLAIN, Client, quoted
from drtool.sources.mysql.loading import OPTIONS, errors_of
from drtool.sources.mysql.session import Failure, Session, connected

Grants = dict[str, tuple[str, ...]]
Tell = Callable[[str], None]
PUBLIC = "PUBLIC"
"""The role that every user of MariaDB 10.11 has. The dump programs leave out its rights."""
_NO_SUCH_GRANT = 1141
"""The account was dropped in the meantime."""
_IMPORT_ROLE = "mariadb_dump_import_role"
_ACCOUNTS = "SELECT User, Host, is_role FROM mysql.user"
_SYSTEM = {
    "SERVER": "SELECT Server_name, CONCAT_WS(' ', Wrapper, Host, Port, Socket, Db, Username, Owner) FROM mysql.servers",
    "PLUGIN": "SELECT name, dl FROM mysql.plugin",
    "LOADABLE FUNCTION": "SELECT name, dl FROM mysql.func",
}
_DUMPED = {
    "SERVER": re.compile(r"^CREATE SERVER (?:IF NOT EXISTS )?`((?:[^`]|``)+)`", re.MULTILINE),
    "PLUGIN": re.compile(r"^INSTALL PLUGIN (?:IF NOT EXISTS )?`((?:[^`]|``)+)`", re.MULTILINE),
    "LOADABLE FUNCTION": re.compile(
        r"^CREATE (?:AGGREGATE )?FUNCTION (?:IF NOT EXISTS )?`((?:[^`]|``)+)`", re.MULTILINE
    ),
}
_INSTALLED = {
    "SERVER": "SELECT Server_name FROM mysql.servers",
    "PLUGIN": "SELECT PLUGIN_NAME FROM information_schema.PLUGINS",
    "LOADABLE FUNCTION": "SELECT name FROM mysql.func",
}
_LATER = re.compile(r"^(?:/\*M!\d+ )?GRANT ")
_OF_PROGRAMS = re.compile(r"^INSTALL PLUGIN |^CREATE .* SONAME ")
"""Statements that load a library from the server's host."""
_IDENTIFIED = re.compile(r" IDENTIFIED (?:BY|VIA) .*?(?= REQUIRE | WITH |$)")
_ON = re.compile(r" ON (?:TABLE |PROCEDURE |FUNCTION |PACKAGE |PACKAGE BODY )?`((?:[^`]|``)+)`\.")
_WRAPPED = re.compile(r"^/\*M?!\d+ (.*?) \*/;?$", re.DOTALL)
_TOKEN = re.compile(r"`(?:[^`]|``)*`|'(?:[^'\\]|\\.|'')*'|\"(?:[^\"]|\"\")*\"|[^\s`'\"@;(),]+|[@;(),]", re.DOTALL)


class Record(NamedTuple):
    """The accounts of a server, and its other objects outside of databases."""

    grants: Grants
    """By account, written with back quotes: the statements of `SHOW GRANTS` without passwords."""
    system: dict[str, dict[str, str]]
    """By kind and name: connections to other servers, plugins, loadable functions."""


def recorded(session: Session) -> Record | None:
    """Return the record, or None if this user may not read it."""
    rows = session.attempt(_ACCOUNTS)
    if isinstance(rows, Failure):
        return None
    found: Grants = {}
    for user, host, is_role in rows:
        account = _spelled(user, "" if is_role == "Y" else host, is_role=is_role == "Y")
        grants = grants_of(session, account) if user != _IMPORT_ROLE else ()
        if grants is None:
            return None
        found |= {account: grants} if user != _IMPORT_ROLE else {}
    system = {}
    for kind, sql in _SYSTEM.items():
        listed = session.attempt(sql)
        if not isinstance(listed, Failure):
            system[kind] = dict(sorted((name, what) for name, what in listed))
    return Record(dict(sorted(found.items())), system)


def grants_of(session: Session, account: str) -> tuple[str, ...] | None:
    """Return an account's own rights, or None if they cannot be read. The server also lists the rights of a role's roles."""
    rows = session.attempt(f"SHOW GRANTS FOR {account}")
    if isinstance(rows, Failure):
        return () if account == PUBLIC or rows.code == _NO_SUCH_GRANT else None
    return tuple(
        sorted(plain for row in rows if (plain := without_password(row[0])) and _subject_text(plain) == account)
    )


def both(before: Record, after: Record) -> Record:
    """Return the parts that both records have in common."""
    grants = {
        account: tuple(line for line in lines if line in after.grants[account])
        for account, lines in before.grants.items()
        if account in after.grants
    }
    system = {
        kind: {name: what for name, what in names.items() if after.system.get(kind, {}).get(name) == what}
        for kind, names in before.system.items()
    }
    return Record(grants, system)


def dumped(client: Client, session: Session) -> tuple[bytes, Record | None, list[str]]:
    """Return (the statements that restore everything, the record, descriptions of missing parts). Raises DrtoolError."""
    before = recorded(session)
    words = client.words("dump", "--skip-dump-date", "--skip-comments")
    users = client.run([*words, "--system=users"])
    missing = []
    try:
        text = client.run([*words, "--system=servers,plugins,udfs"]) + users  # users may log in by a plugin
    except DrtoolError as error:
        text = users
        missing.append(f"servers, plugins and loadable functions are left out: {error.message}")
    after = recorded(session)
    if before is None or after is None:
        return (
            text,
            None,
            [*missing, "the rights of users cannot be compared with their dump: GRANT SELECT ON `mysql`.*"],
        )
    record = both(before, after)
    public = "".join(f"{line};\n" for line in record.grants.get(PUBLIC, ()))
    text += public.encode("utf-8", "surrogateescape")
    return text, record, missing or lacking(record, text.decode("utf-8", "surrogateescape"))


def lacking(record: Record, text: str) -> list[str]:
    """Return descriptions of the recorded parts that a dump does not contain."""
    there = {_canonical(without_password(line.rstrip(";"))) for line in text.splitlines()}
    lost = [
        f"the dump of users lacks: {line}"
        for lines in record.grants.values()
        for line in lines
        if _canonical(line) not in there
    ]
    for kind, names in record.system.items():
        found = {name.replace("``", "`") for name in _DUMPED[kind].findall(text)}
        lost += [f"the dump lacks the {kind.lower()} {name}" for name in names if name not in found]
    return lost


def without_password(grant: str) -> str:
    """Return a statement of `SHOW GRANTS` without the password."""
    return _IDENTIFIED.sub("", grant)


class Users:
    """The users and roles of a snapshot, in two passes: a right on a table can be granted once the table is there."""

    def __init__(self, client: Client, text: str, databases: Iterable[str], *, is_scratch: bool) -> None:
        """`databases`: the restored ones. A scratch server need not have the libraries of plugins."""
        self._is_scratch, self._client, self._databases = is_scratch, client, frozenset(databases)
        with connected(client) as session:
            accounts = session.ask("SELECT User, Host FROM mysql.user")
            public = grants_of(session, PUBLIC)
            installed = {kind: session.attempt(sql) for kind, sql in _INSTALLED.items()}
        self._before = {(user, host) for user, host in accounts if (user, host) != (PUBLIC, "")}
        self._before |= {(PUBLIC, "")} if public else set()
        here = {kind: {row[0] for row in rows} for kind, rows in installed.items() if not isinstance(rows, Failure)}
        kept = without_installed(of_new_users(text, self._before, self._databases), here)
        self._lines = kept.splitlines(keepends=True)
        self._later: list[str] = []
        self._failed: set[str] = set()

    def create(self, tell: Tell) -> list[str]:
        """Create users and roles. Return descriptions of the failures, except those that `grant` tries again."""
        problems = []
        for code, at, message in self._said(self._lines):
            line = self._lines[at - 1] if 0 < at <= len(self._lines) else ""
            if _LATER.match(line):
                self._later.append(line)
            elif self._is_scratch and _OF_PROGRAMS.match(line):
                tell(f"{message}{about(line)}")
            elif not (code == 1396 and "CREATE ROLE" in line):  # the dump makes a role once for each who administers it
                problems.append(f"{message}{about(line)}")
        return problems

    def grant(self, tell: Tell) -> list[str]:
        """Grant the remaining rights. Return descriptions of the failures."""
        problems = []
        for _, at, message in self._said(self._later):
            line = self._later[at - 1]
            self._failed.add(_subject_line(line))
            if (database := database_of(line)) is not None and database not in self._databases:
                tell(f"users: {message}{about(line)}, whose database is not restored")
            else:
                problems.append(f"{message}{about(line)}")
        return problems

    def compare(self, inventory: Inventory, server_version: str, tell: Tell) -> list[str]:
        """Return descriptions of recorded parts that the server lacks. The user must be able to read the system tables."""
        if inventory.grants is None or _series(inventory.server_version or "") != _series(server_version):
            return []
        with connected(self._client) as session:
            now = recorded(session)
        if now is None:
            return []
        problems = []
        for account, lines in inventory.grants.items():
            lost = [line for line in lines if line not in now.grants.get(account, ()) and self._concerns(line)]
            if lost and _account_of(account) in self._before:
                tell(f"users: {account} was there and keeps its rights; of those that were recorded it lacks {lost[0]}")
            else:
                problems += [f"missing: {line}" for line in lost]
        for kind, names in (inventory.system or {}).items():
            if self._is_scratch and kind != "SERVER":
                continue
            there = now.system.get(kind, {})
            problems += [
                f"missing: the {kind.lower()} {name}" for name in names if kind in now.system and name not in there
            ]
            for name, what in names.items():
                if there.get(name, what) != what:
                    tell(f"the {kind.lower()} {name} was there, and is not as it was recorded")
        return problems

    def _concerns(self, line: str) -> bool:
        """Return whether a right should exist: its failure is not reported yet, and its database is restored."""
        database = database_of(line)
        return line not in self._failed and (database is None or database in self._databases)

    def _said(self, lines: Sequence[str]) -> list[tuple[int, int, str]]:
        if not lines:
            return []
        text = f"{PLAIN};" + "".join(lines)
        said = self._client.complaints(text.encode("utf-8", "surrogateescape"), *OPTIONS)
        return errors_of("\n".join(said))


def about(line: str) -> str:
    """Return a statement without its password."""
    text = re.sub(r"^/\*M?!\d+ | \*/;?$|;$", "", line.strip())
    text = text.partition(" IDENTIFIED ")[0].partition(" OPTIONS (")[0]
    return f" ({text})" if text else ""


def of_new_users(text: str, accounts: Iterable[Sequence[str]], databases: Iterable[str] = ()) -> str:
    """Remove the statements that would change existing users and roles.

    Existing users may be given new roles, and `PUBLIC` rights on the restored databases.
    """
    here, restored = {(user, host) for user, host in accounts}, set(databases)
    lines = text.splitlines(keepends=True)
    subjects = [subject(line) for line in lines]
    fresh = {who for line, who in zip(lines, subjects, strict=True) if who and "CREATE ROLE" in line} - here

    def is_kept(line: str, who: tuple[str, str] | None) -> bool:
        if who is None or who not in here:
            return True
        if who == (PUBLIC, ""):
            return database_of(line) in restored
        tokens = _tokens(line)
        return tokens[0].upper() == "GRANT" and tokens[2].upper() == "TO" and (_unquoted(tokens[1]), "") in fresh

    return "".join(line for line, who in zip(lines, subjects, strict=True) if is_kept(line, who))


def without_installed(text: str, here: Mapping[str, set[str]]) -> str:
    """Remove the statements that would define an existing server, plugin or loadable function."""

    def is_there(line: str) -> bool:
        for kind, pattern in _DUMPED.items():
            match = pattern.match(line)
            if match is not None:
                return match[1].replace("``", "`") in here.get(kind, ())
        return False

    return "".join(line for line in text.splitlines(keepends=True) if not is_there(line))


def subject(line: str) -> tuple[str, str] | None:
    """Return the user (with host) or role that a statement creates or changes, or None."""
    tokens = _tokens(line)
    at = _subject_at(tokens)
    if not 0 <= at < len(tokens):
        return None
    host = _unquoted(tokens[at + 2]) if tokens[at + 1 : at + 2] == ["@"] and at + 2 < len(tokens) else ""
    return _unquoted(tokens[at]), host


def _subject_at(tokens: Sequence[str]) -> int:
    words = [token.upper() for token in tokens]
    if words[:1] == ["GRANT"] and "TO" in words:
        return len(words) - words[::-1].index("TO")
    if words[:3] == ["SET", "DEFAULT", "ROLE"] and "FOR" in words:
        return len(words) - words[::-1].index("FOR")
    if words[:2] in (["CREATE", "USER"], ["ALTER", "USER"], ["CREATE", "ROLE"]):
        return 5 if words[2:5] == ["IF", "NOT", "EXISTS"] else 2
    return -1


def database_of(grant: str) -> str | None:
    """Return the database of a right, or None for rights on the whole server."""
    match = _ON.search(grant)
    return None if match is None else re.sub(r"\\([_%])", r"\1", match[1].replace("``", "`"))


def _tokens(line: str) -> list[str]:
    plain = line.strip()
    wrapped = _WRAPPED.match(plain)
    return _TOKEN.findall(wrapped[1] if wrapped is not None else plain)


def _canonical(line: str) -> tuple[str, ...]:
    """Return the parts of a statement, without quotes."""
    return tuple(_unquoted(token) for token in _tokens(line))


def _unquoted(token: str) -> str:
    quote = token[:1]
    if quote not in ("`", "'", '"'):
        return token
    inner = token[1:-1].replace(quote * 2, quote)
    return re.sub(r"\\(.)", r"\1", inner) if quote == "'" else inner


def _spelled(user: str, host: str, *, is_role: bool) -> str:
    if is_role:
        return PUBLIC if user == PUBLIC else quoted(user)
    return f"{quoted(user)}@{quoted(host)}"


def _subject_text(grant: str) -> str:
    """Return the account of a grant as `_spelled` writes it, or "" if there is none."""
    found, tokens = subject(grant), _tokens(grant)
    if found is None:
        return ""
    at = _subject_at(tokens)
    return _spelled(*found, is_role=tokens[at + 1 : at + 2] != ["@"])


def _subject_line(line: str) -> str:
    """Return a statement of a dump in the form of the record."""
    return without_password(about(line)[2:-1])


def _account_of(account: str) -> tuple[str, str]:
    return subject(f"GRANT x TO {account}") or ("", "")


def _series(version: str) -> list[str]:
    return version.partition("-")[0].split(".")[:2]
