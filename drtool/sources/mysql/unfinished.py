"""Databases that a restore left unfinished: a mark separates them from other data, and they are restored again.

Invariants
    A database that is being loaded has an empty table named `MARK` until it is complete. Once its restore has ended with errors,
    the table holds a digest of the contents.
    A marked database is dropped only if it holds nothing but what the restore put there. With a digest, the contents must
    match it. Without one, the restore was interrupted: then nothing may be defined that was not recorded, and no table may
    have more rows than were recorded.
    Two restores never work on one database: each holds a lock of the server (`GET_LOCK`) for as long as it lasts.
"""

from collections.abc import Iterable, Sequence
from contextlib import ExitStack

from drtool.errors import Refused
from drtool.sources.databases import Standing
from drtool.sources.inventory import Database, digest
from drtool.sources.mysql import catalogue
from drtool.sources.mysql.catalogue import MARK
from drtool.sources.mysql.client import Client, literal, quoted
from drtool.sources.mysql.looking import counts, look, tables
from drtool.sources.mysql.session import Failure, Session, connected

_END_S = 5
"""The time in which the server notices that the session of a killed restore is gone."""


class Locks:
    """The databases of one server that this process restores into."""

    def __init__(self, client: Client) -> None:
        self._client, self._stack = client, ExitStack()
        self._session: Session | None = None
        self._held: set[str] = set()

    def take(self, names: Sequence[str]) -> None:
        """Lock databases against other restores. Raises Refused, DrtoolError."""
        if self._session is None:
            self._session = self._stack.enter_context(connected(self._client))
        for name in names:
            if name in self._held:
                continue
            lock = f"drtool_restore_{digest([name])[:32]}"  # the server takes 64 characters
            got = self._session.attempt(f"SELECT COALESCE(GET_LOCK({literal(lock)}, {_END_S}), 0)")
            if got == [["0"]]:  # a cluster may refuse the function: then there is no lock
                raise Refused(
                    f"another restore of the database {name} at {self._client.told} is under way",
                    hint="wait until it has ended",
                )
            self._held.add(name)

    def release(self) -> None:
        self._stack.close()
        self._session = None
        self._held = set()


def standing(client: Client, chosen: Sequence[Database]) -> dict[str, Standing]:
    """Return the state of each database on the server. An empty database counts as missing."""
    there = look(client).databases
    absent = Standing(is_unfinished=False, refusal=None)
    with connected(client) as session:
        return {row.name: _standing(client, session, row) if row.name in there else absent for row in chosen}


def _standing(client: Client, session: Session, database: Database) -> Standing:
    found = tables(client, database.name)
    if MARK in found:
        return Standing(is_unfinished=True, refusal=_refusal(client, session, database, found))
    count = sum(map(len, catalogue.objects(session, database.name).values()))
    if not count:
        return Standing(is_unfinished=False, refusal=None)
    refusal = Refused(
        f"the server at {client.told} has a database {database.name} that is not empty (objects in it: {count})",
        hint="rename or drop it first, or restore into another server",
    )
    return Standing(is_unfinished=False, refusal=refusal)


def _refusal(client: Client, session: Session, database: Database, found: Iterable[str]) -> Refused | None:
    """Return why an unfinished database must not be restored again."""
    name, hint = database.name, f"drop it first; or keep it, and drop its table {MARK}"
    note = note_of(session, name)
    if note:
        why = "was restored with errors, and has been changed since"
        return None if note == content(session, name, found) else Refused(f"the database {name} {why}", hint=hint)
    foreign = _foreign(session, database, list(found))
    if not foreign:
        return None
    return Refused(
        f"a restore of the database {name} at {client.told} was interrupted, and it holds something else now: {foreign}",
        hint=hint,
    )


def _foreign(session: Session, database: Database, found: list[str]) -> str:
    """Return a description of contents that the interrupted restore cannot have created, or ""."""
    recorded = database.objects
    for kind, names in catalogue.objects(session, database.name).items() if recorded is not None else ():
        for name in names:
            if name not in (*(recorded or {}).get(kind, ()), *database.unsteady) and not _is_stand_in(
                kind, name, recorded
            ):
                return f"the {kind.lower()} {name}"
    for table, count in counts(session, database.name, [each for each in found if each != MARK]).items():
        most = (database.rows or {}).get(table)
        if most is not None and (count is None or count > most):
            return f"{count} rows in {table}, of which {most} were recorded"
    return ""


def _is_stand_in(kind: str, name: str, recorded: catalogue.Objects | None) -> bool:
    """Return whether this is a table that a dump creates as a placeholder of a view."""
    return kind == "TABLE" and name in (recorded or {}).get("VIEW", ())


def mark(session: Session, name: str) -> None:
    """Mark a database as being loaded. Some servers accept no table without a key."""
    session.ask(f"CREATE TABLE IF NOT EXISTS {quoted(name)}.{MARK} (content VARCHAR(64) NOT NULL PRIMARY KEY)")


def note_of(session: Session, name: str) -> str | None:
    """Return the note in the mark: "", or the digest of the contents. None: there is no mark."""
    rows = session.attempt(f"SELECT COALESCE(MAX(content), '') FROM {quoted(name)}.{MARK}")  # noqa: S608 - quoted
    return None if isinstance(rows, Failure) else rows[0][0]


def note_content(session: Session, name: str, found: Iterable[str]) -> None:
    """Keep the mark, with a digest of the contents."""
    note = content(session, name, found)
    session.ask(f"REPLACE INTO {quoted(name)}.{MARK} VALUES ('{note}')")  # noqa: S608 - quoted


def finished(session: Session, name: str) -> None:
    """Remove the mark."""
    session.ask(f"DROP TABLE {quoted(name)}.{MARK}")


def content(session: Session, name: str, found: Iterable[str]) -> str:
    """Return a digest of all rows of a database, from the server's checksums."""
    checksums = [
        session.attempt(f"CHECKSUM TABLE {quoted(name)}.{quoted(table)} EXTENDED") for table in found if table != MARK
    ]
    return digest(str(row) for row in checksums)
