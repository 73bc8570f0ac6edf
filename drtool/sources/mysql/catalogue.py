"""What a MySQL or MariaDB server says that there is: the record that a dump and a restore are held against.

Invariants
    Nothing here comes from the dump program, except in `lacking`, which compares a dump with the record.
    A server hides what a user has no right to. So the rights are looked at too: what may be hidden is said to be missing.
"""

import re
from collections.abc import Iterable, Mapping

from drtool.sources.mysql.client import Client, literal, quoted
from drtool.sources.mysql.session import Failure, Session

Objects = dict[str, dict[str, str]]
MARK = "drtool_unfinished_restore"
"""The table in a database that a restore has not finished: see `unfinished`."""
_DEFINED = {
    "TABLE": "SELECT IF(TABLE_TYPE = 'SEQUENCE', 'SEQUENCE', 'TABLE'), TABLE_NAME, COALESCE(ENGINE, '') "  # noqa: S608 - constant
    f"FROM information_schema.TABLES WHERE TABLE_SCHEMA = {{}} AND TABLE_TYPE <> 'VIEW' AND TABLE_NAME <> '{MARK}'",
    "VIEW": "SELECT 'VIEW', TABLE_NAME, DEFINER FROM information_schema.VIEWS WHERE TABLE_SCHEMA = {}",
    "TRIGGER": "SELECT 'TRIGGER', TRIGGER_NAME, DEFINER FROM information_schema.TRIGGERS WHERE TRIGGER_SCHEMA = {}",
    "ROUTINE": "SELECT ROUTINE_TYPE, ROUTINE_NAME, DEFINER FROM information_schema.ROUTINES WHERE ROUTINE_SCHEMA = {}",
    "EVENT": "SELECT 'EVENT', EVENT_NAME, DEFINER FROM information_schema.EVENTS WHERE EVENT_SCHEMA = {}",
}
_NEEDED = {
    "SELECT": "tables and rows",
    "SHOW VIEW": "views",
    "TRIGGER": "triggers",
    "EVENT": "events",
}
_ACCOUNTS = "SELECT DISTINCT GRANTEE FROM information_schema.USER_PRIVILEGES"
_GRANT = re.compile(r"GRANT (.+?) ON (?:TABLE )?(\*\.\*|`(?:[^`]|``)*`\.(?:\*|`(?:[^`]|``)*`)) TO ", re.DOTALL)
_QUOTED = r'`(?:[^`]|``)+`|"(?:[^"]|"")+"'
"""A name as the server writes it: routines, triggers and packages keep the quotes of the `sql_mode` they were made under."""
_NAME = rf'({_QUOTED}|[^\s`("]+)'
ACCOUNT = r'(?:`(?:[^`]|``)*`|"(?:[^"]|"")*")(?:@(?:`(?:[^`]|``)*`|"(?:[^"]|"")*"))?'
_ROUTINE = rf"^CREATE (?:DEFINER={ACCOUNT} )?"
_DUMPED = {
    "TABLE": re.compile(rf"^CREATE TABLE (?:IF NOT EXISTS )?{_NAME}", re.MULTILINE),
    "SEQUENCE": re.compile(rf"^CREATE SEQUENCE {_NAME}", re.MULTILINE),
    "VIEW": re.compile(rf"^/\*!50001 (?:CREATE )?(?:ALGORITHM=\w+ )?VIEW {_NAME} ", re.MULTILINE),
    "TRIGGER": re.compile(
        rf"^/\*!50003 CREATE\*/.*?/\*!50003 TRIGGER\s+(?:IF\s+NOT\s+EXISTS\s+)?(?:(?:{_QUOTED})\s*\.\s*)?{_NAME}",
        re.MULTILINE | re.IGNORECASE,
    ),
    "EVENT": re.compile(rf"^/\*!50106 CREATE\*/.*? EVENT (?:IF NOT EXISTS )?{_NAME} ON ", re.MULTILINE),
    "PROCEDURE": re.compile(rf"{_ROUTINE}PROCEDURE {_NAME}", re.MULTILINE),
    "FUNCTION": re.compile(rf"{_ROUTINE}(?:AGGREGATE )?FUNCTION {_NAME}", re.MULTILINE),
    "PACKAGE": re.compile(rf"{_ROUTINE}PACKAGE (?!BODY ){_NAME}", re.MULTILINE),
    "PACKAGE BODY": re.compile(rf"{_ROUTINE}PACKAGE BODY {_NAME}", re.MULTILINE),
}


def objects(session: Session, database: str) -> Objects:
    """Return the objects of a database that this user sees, by kind and name, with their engines or definers."""
    found: Objects = {}
    for sql in _DEFINED.values():
        for kind, name, described in session.ask(sql.format(literal(database))):
            found.setdefault(kind, {})[name] = described
    return {kind: dict(sorted(found[kind].items())) for kind in sorted(found)}


def properties(session: Session, database: str) -> dict[str, str]:
    """Return what is set for a database as a whole."""
    columns = "SELECT DEFAULT_CHARACTER_SET_NAME, DEFAULT_COLLATION_NAME FROM information_schema.SCHEMATA"
    ((charset, collation),) = session.ask(f"{columns} WHERE SCHEMA_NAME = {literal(database)}")
    return {"character set": charset, "collation": collation}


def accounts(session: Session) -> dict[str, str]:
    """Return the users and roles that this user sees, each with its rights on the whole server."""
    rows = session.ask(
        "SELECT GRANTEE, GROUP_CONCAT(PRIVILEGE_TYPE ORDER BY PRIVILEGE_TYPE SEPARATOR ', ') "
        "FROM information_schema.USER_PRIVILEGES GROUP BY GRANTEE ORDER BY GRANTEE"
    )
    return dict(rows)


class Rights:
    """What the user who asks may do."""

    def __init__(self, grants: Iterable[str], account: str) -> None:
        self.account = account
        self._global: set[str] = set()
        self._databases: list[tuple[re.Pattern[str], set[str]]] = []
        self._tables: dict[str, set[str]] = {}
        for line in grants:
            self._take(line)

    def _take(self, line: str) -> None:
        match = _GRANT.match(line)
        if match is None:
            return
        rights = {each.strip() for each in match[1].split(",")}
        if match[2] == "*.*":
            self._global |= rights
        elif match[2].endswith(".*"):
            self._databases.append((_like(_unquoted(match[2][:-2])), rights))
        else:
            self._tables.setdefault(match[2], set()).update(rights)

    def may(self, right: str, database: str | None = None) -> bool:
        """Whether it is granted on the whole server, or on the whole database."""
        granted = [self._global, *(rights for name, rights in self._databases if database and name.fullmatch(database))]
        return any(right in rights or "ALL PRIVILEGES" in rights for rights in granted)

    def hidden(self, database: str, *, is_mariadb: bool) -> list[str]:
        """Return what of a database may be hidden from this user, in words."""
        found = [
            f"{what} of {database} may be hidden from this user: GRANT {right} ON {quoted(database)}.* TO {self.account}"
            for right, what in _NEEDED.items()
            if not self.may(right, database)
        ]
        if not (self._sees_routines(database, is_mariadb=is_mariadb)):
            right = "SELECT ON `mysql`.`proc`" if is_mariadb else "SHOW_ROUTINE ON *.*"
            found.append(f"routines of {database} may be hidden from this user: GRANT {right} TO {self.account}")
        return found

    def _sees_routines(self, database: str, *, is_mariadb: bool) -> bool:
        if self.may("SELECT") or self.may("SHOW_ROUTINE") or self.may("SHOW CREATE ROUTINE", database):
            return True
        if not is_mariadb:
            return False
        return self.may("SELECT", "mysql") or "SELECT" in self._tables.get("`mysql`.`proc`", ())


def rights_of(session: Session) -> Rights:
    """Return the rights of the session's user, with those of the roles that are in force."""
    ((account,),) = session.ask("SELECT CURRENT_USER()")
    grants = [row[0] for row in session.ask("SHOW GRANTS")]
    roles = session.attempt("SELECT CURRENT_ROLE()")
    if not isinstance(roles, Failure) and roles[0][0] not in ("NULL", "NONE") and "@" in roles[0][0]:
        more = session.attempt(f"SHOW GRANTS FOR CURRENT_USER() USING {roles[0][0]}")  # as MySQL needs it
        grants += [] if isinstance(more, Failure) else [row[0] for row in more]
    user, _, host = account.rpartition("@")
    return Rights(grants, f"{quoted(user)}@{quoted(host)}")


def lacking(recorded: Mapping[str, Mapping[str, str]], schema: str) -> list[str]:
    """Return the objects that are recorded and that a dump without rows, `schema`, does not define."""
    lost = []
    for kind, names in recorded.items():
        dumped = [_unquoted(name) for name in _DUMPED[kind].findall(schema)] if kind in _DUMPED else []
        missing = [name for name in names if name not in dumped]
        if len(set(dumped)) >= len(names) and kind == "TRIGGER":
            continue  # a trigger's own text says its name, and it can be written in many ways
        lost += [f"the dump lacks {kind.lower()} {name}: the dump program left it out" for name in missing]
    return lost


def _unquoted(name: str) -> str:
    quote = name[:1]
    return name[1:-1].replace(quote * 2, quote) if quote in ("`", '"') else name


def plain_account(account: str) -> str:
    """An account with back quotes, whatever quotes it was written with."""
    parts = re.findall(_QUOTED.replace("+", "*"), account)
    return "@".join(quoted(_unquoted(part)) for part in parts)


def _like(pattern: str) -> re.Pattern[str]:
    """A name of a grant: `_` and `%` are wild unless a backslash stands before them."""
    parts = re.findall(r"\\+[_%]|.", pattern, re.DOTALL)
    wild = {"_": ".", "%": ".*"}
    return re.compile("".join(wild.get(part, re.escape(part[-1])) for part in parts), re.DOTALL)


def supports_history(client: Client) -> bool:
    """Whether the dump program can write the history of system-versioned tables."""
    return b"--dump-history" in client.run(client.words("dump", "--help"))
