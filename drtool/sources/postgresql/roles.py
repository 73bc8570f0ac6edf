"""Roles and tablespaces of a snapshot, brought into a server that may have some already and may not grant everything.

Invariants
    A role that is there keeps its password and rights.
    What this user may not set is left out and named: a hosted server has no superuser.
"""

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from drtool.sources.postgresql.client import Client
from drtool.sources.postgresql.dsn import of_database

_EXPECTED = ("already exists", "current user cannot be dropped")
_NAME = r'"(?:[^"]|"")+"|[^\s";]+'
_ATTRIBUTES = re.compile(rf"^(ALTER ROLE (?:{_NAME}) WITH )([A-Z ]+)", re.MULTILINE)
_GRANTOR = re.compile(rf"^(GRANT (?:{_NAME}) TO .*?) GRANTED BY ({_NAME});$", re.MULTILINE)
_TABLESPACE = re.compile(rf"^CREATE TABLESPACE ({_NAME}) ", re.MULTILINE)
_PRIVILEGED = ("SUPERUSER", "REPLICATION", "BYPASSRLS")


class Globals(NamedTuple):
    """What became of the globals of a snapshot."""

    problems: list[str]
    without_tablespaces: bool
    granted: list[str]
    """Roles that the restoring user was made a member of for as long as the restore lasts; quoted."""


def put_back(client: Client, file: Path | None, owners: Sequence[str], tell: Callable[[str], None]) -> Globals:
    """Make the roles and tablespaces that are missing."""
    text = file.read_text("utf-8", "surrogateescape") if file is not None else ""
    with client.session() as session:
        roles = [row[0] for row in session.ask("SELECT pg_catalog.quote_ident(rolname) FROM pg_catalog.pg_roles")]
        ((superuser, creates),) = session.ask(
            "SELECT rolsuper, rolcreaterole FROM pg_catalog.pg_roles WHERE rolname = current_user"
        )
    wanted = grantable(without_roles(text, roles), roles)
    problems = []
    if superuser != "t":
        wanted, left = modest(wanted)
        problems += left
    argv = ["psql", "--no-psqlrc", "--no-password", "--quiet", "--set=ON_ERROR_STOP=0", "--output=/dev/null"]
    argv.append(f"--dbname={of_database(client.entrance())}")
    for line in client.complaints(argv, stdin=wanted.encode("utf-8", "surrogateescape")):
        if "ERROR" in line and not any(word in line for word in _EXPECTED):
            if "tablespace" in line or "directory" in line:
                tell(f"globals: {line}")
            else:
                problems.append(line.partition("ERROR:")[2].strip())
    granted = _joined(client, owners) if superuser != "t" and creates == "t" else []
    return Globals(problems, _lacks_tablespace(client, text, tell), granted)


def _lacks_tablespace(client: Client, text: str, tell: Callable[[str], None]) -> bool:
    named = {name.strip('"').replace('""', '"') for name in _TABLESPACE.findall(text)}
    missing = sorted(named - {row[0] for row in client.ask("SELECT spcname FROM pg_catalog.pg_tablespace")})
    if missing:
        tell(f"the tablespace {missing[0]} is not there: everything goes into the default tablespace")
    return bool(missing)


def _joined(client: Client, owners: Sequence[str]) -> list[str]:
    """Make the restoring user a member of the roles that own something, as far as it may; which it was not before."""
    found = []
    with client.session() as session:
        rows = session.ask(
            "SELECT pg_catalog.quote_ident(rolname) FROM pg_catalog.pg_roles WHERE NOT rolsuper "
            "AND rolname !~ '^pg_' AND NOT pg_catalog.pg_has_role(current_user, oid, 'USAGE')"
        )
        session.ask("BEGIN")
        for (quoted,) in rows:
            if quoted in owners and session.applied(f"GRANT {quoted} TO CURRENT_USER"):
                found.append(quoted)
        session.ask("COMMIT")
    return found


def strangers(client: Client, owners: Sequence[str]) -> list[str]:
    """Return the owners, quoted, whom the restoring user can give nothing: they are not there, or it is no member of them."""
    rows = client.ask(
        "SELECT pg_catalog.quote_ident(rolname) FROM pg_catalog.pg_roles "
        "WHERE pg_catalog.pg_has_role(current_user, oid, 'MEMBER')"
    )
    own = {row[0] for row in rows}
    return [owner for owner in owners if owner not in own]


def leave(client: Client, granted: Sequence[str]) -> list[str]:
    """Undo what `put_back` granted to the restoring user; what could not be undone, in words."""
    left = []
    for quoted in granted:
        with client.session() as session:
            session.ask("BEGIN")
            if not session.applied(f"REVOKE {quoted} FROM CURRENT_USER"):
                left.append(f"the restoring user is still a member of the role {quoted}")
            session.ask("COMMIT")
    return left


def without_roles(text: str, names: Sequence[str]) -> str:
    """Leave out the statements that create or alter these roles. The names are quoted, and may hold line ends."""
    own = tuple(f"{verb} ROLE {name}{end}" for name in names for verb, end in (("CREATE", ";"), ("ALTER", " ")))
    kept, at = [], 0
    while at < len(text):
        begins = next((begin for begin in own if text.startswith(begin, at)), "")
        end_text = ";\n" if begins else "\n"
        found = text.find(end_text, at + max(0, len(begins) - 1))
        end = len(text) if found < 0 else found + len(end_text)
        if not begins:
            kept.append(text[at:end])
        at = end
    return "".join(kept)


def grantable(text: str, roles: Sequence[str]) -> str:
    """Leave out the grantor of a membership where that role is not there and is not made."""
    made = set(re.findall(rf"^CREATE ROLE ({_NAME});$", text, re.MULTILINE))
    return _GRANTOR.sub(lambda match: match[0] if match[2] in {*roles, *made} else f"{match[1]};", text)


def modest(text: str) -> tuple[str, list[str]]:
    """(the statements without what only a superuser may set, what was left out in words)."""
    left: list[str] = []

    def without(match: re.Match[str]) -> str:
        words = match[2].split(" ")
        named = match[1].removeprefix("ALTER ROLE ").removesuffix(" WITH ")
        left.extend(f"the role {named} is restored without {word}" for word in _PRIVILEGED if word in words)
        kept = [word for word in words if word.removeprefix("NO") not in _PRIVILEGED]
        return match[1] + (" ".join(kept) if any(kept) else "INHERIT")

    plain = _ATTRIBUTES.sub(without, text)
    return _GRANTOR.sub(lambda match: f"{match[1]};", plain), left
