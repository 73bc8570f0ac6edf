"""Databases that a restore left unfinished: a mark separates them from other data, and they are restored again.

Invariants
    A database that is being loaded has a schema named `MARK` until it is complete. Once its restore has ended with errors,
    the comment of that schema is a digest of the contents.
    A marked database is dropped only if it holds nothing but what the restore put there. With a digest, the contents must
    match it. Without one, the restore was interrupted: then nothing may be defined that was not recorded, no table may have
    more rows than were recorded, and all rows of a table must come from one transaction, as `COPY` leaves them.
    Two restores never work on one database: each holds an advisory lock for as long as it lasts.
"""

import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack

from drtool.errors import Refused
from drtool.sources.databases import Standing
from drtool.sources.inventory import Database, digest
from drtool.sources.postgresql import catalogue
from drtool.sources.postgresql.catalogue import MARK
from drtool.sources.postgresql.client import Client, Failure, Session
from drtool.sources.postgresql.looking import Table, look, shown, tables

_END_S = 5.0
"""The time in which the server notices that the sessions of a killed restore are gone."""
_LOCK_CLASS = 0x64727472
_OWN = "n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'"
_HASH = "count(*), coalesce(sum(pg_catalog.hashtextextended({}, 0)::numeric), 0)"
_RELATION = _HASH.format("n.nspname || '.' || c.relname || c.relkind::text")
_FUNCTION = _HASH.format("n.nspname || '.' || p.oid::pg_catalog.regprocedure::text || coalesce(p.prosrc, '')")
_RELATIONS = "pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace"
_FUNCTIONS = "pg_catalog.pg_proc p JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace"
_OBJECTS = " UNION ALL ".join(
    (
        f"SELECT 'relations', {_RELATION} FROM {_RELATIONS} WHERE {_OWN}",  # noqa: S608 - constants
        f"SELECT 'functions', {_FUNCTION} FROM {_FUNCTIONS} WHERE {_OWN}",  # noqa: S608 - constants
        "SELECT 'large objects', count(*), coalesce(sum(oid::bigint), 0) FROM pg_catalog.pg_largeobject_metadata",
    )
)
_CONTENT = "SELECT count(*), coalesce(sum(pg_catalog.hashtextextended(t::text, 0)::numeric), 0) FROM {} t"
_NUMBER_OF_OBJECTS = f"SELECT count(*) FROM {_RELATIONS} WHERE {_OWN}"  # noqa: S608 - constants
_EXTENSION_TABLES = (
    "SELECT objid FROM pg_catalog.pg_depend WHERE deptype = 'e' AND classid = 'pg_catalog.pg_class'::regclass"
)
_LARGE_OBJECTS = "SELECT count(*) FROM pg_catalog.pg_largeobject_metadata"
_OTHERS = (
    "SELECT count(*) FROM pg_catalog.pg_stat_activity WHERE datname = {} AND backend_type = 'client backend' "
    "AND pid <> pg_backend_pid()"
)


class Locks:
    """The databases of one server that this process restores into."""

    def __init__(self, client: Client) -> None:
        self._client, self._stack = client, ExitStack()
        self._session: Session | None = None
        self._held: set[str] = set()

    def take(self, names: Sequence[str]) -> None:
        """Lock databases against other restores. Raises Refused, DrtoolError."""
        if self._session is None:
            self._session = self._stack.enter_context(self._client.session())
        for name in names:
            if name not in self._held:
                self._take(self._session, name)
                self._held.add(name)

    def _take(self, session: Session, name: str) -> None:
        ends_at = time.monotonic() + _END_S
        while session.ask(f"SELECT pg_try_advisory_lock({_LOCK_CLASS}, hashtext({_literal(name)}))") != [["t"]]:
            if time.monotonic() >= ends_at:
                raise Refused(
                    f"another restore of the database {name} at {self._client.told} is under way",
                    hint="wait until it has ended",
                )
            time.sleep(0.2)

    def release(self) -> None:
        self._stack.close()
        self._session = None
        self._held = set()


def standing(client: Client, chosen: Sequence[Database]) -> dict[str, Standing]:
    """Return the state of each database on the server. An empty database counts as missing."""
    there = look(client).databases.keys() | {"template1"}
    absent = Standing(is_unfinished=False, refusal=None)
    return {row.name: _standing(client, row) if row.name in there else absent for row in chosen}


def _standing(client: Client, database: Database) -> Standing:
    if is_marked(client, database.name):
        return Standing(is_unfinished=True, refusal=_refusal(client, database))
    ((count,),) = client.ask(_NUMBER_OF_OBJECTS, database.name)
    if count == "0":
        return Standing(is_unfinished=False, refusal=None)
    refusal = Refused(
        f"the server at {client.told} has a database {database.name} that is not empty (objects in it: {count})",
        hint="rename or drop it first, or restore into another server",
    )
    return Standing(is_unfinished=False, refusal=refusal)


def _refusal(client: Client, database: Database) -> Refused | None:
    """Return why an unfinished database must not be restored again."""
    name = database.name
    note = _note(client, name)
    if note:
        if note == content(client, name):
            return _in_use(client, name)
        return Refused(
            f"the database {name} at {client.told} was restored with errors, and has been changed since",
            hint=f"drop it first; or keep it, and drop its schema {MARK}",
        )
    foreign = _foreign(client, database)
    if foreign:
        return Refused(
            f"a restore of the database {name} at {client.told} was interrupted, and it holds something else now: {foreign}",
            hint=f"drop it first; or keep it, and drop its schema {MARK}",
        )
    return _in_use(client, name)


def leave(client: Client, names: Sequence[str]) -> None:
    """Connect through another database if the DSN names one that is to be dropped. Raises DrtoolError."""
    entrance = client.entrance()
    if entrance in names and is_marked(client, entrance):
        client.database = "template1" if entrance == "postgres" else "postgres"


def _in_use(client: Client, name: str) -> Refused | None:
    """Return a refusal if other sessions are connected, because the database could not be dropped."""
    ends_at = time.monotonic() + _END_S
    with client.session() as session:
        while (found := session.ask(_OTHERS.format(_literal(name)))) != [["0"]]:
            if time.monotonic() >= ends_at:
                return Refused(
                    f"a restore left the database {name} at {client.told} unfinished, and {found[0][0]} other sessions use it",
                    hint="end them, then run the restore again",
                )
            time.sleep(0.2)
    return None


def _note(client: Client, name: str) -> str:
    comment = "SELECT coalesce(pg_catalog.obj_description(oid, 'pg_namespace'), '') FROM pg_catalog.pg_namespace"
    found = client.ask(f"{comment} WHERE nspname = '{MARK}'", name)
    return "".join(row[0] for row in found if row)  # one empty value reads as a row of none


def _foreign(client: Client, database: Database) -> str:
    """Return a description of contents that the interrupted restore cannot have created, or ""."""
    with client.session(database.name) as session:
        if found := _foreign_object(catalogue.objects(session), database.objects):
            return found
        extension = {row[0] for row in session.ask(_EXTENSION_TABLES)}
        session.ask("BEGIN TRANSACTION READ ONLY")
        for table in tables(session):
            of_extension = table.number in extension
            if table.counted and (found := _foreign_rows(session, table, database.rows or {}, of_extension)):
                return found
        return _foreign_large_objects(session, database)


def _foreign_object(defined: catalogue.Objects, recorded: catalogue.Objects | None) -> str:
    for kind, names in defined.items() if recorded is not None else ():
        for name in names:
            if kind != "BLOBS" and name not in (recorded or {}).get(kind, {}):
                return f"the {kind.lower()} {name}"
    return ""


def _foreign_rows(session: Session, table: Table, recorded: Mapping[str, int | None], of_extension: bool) -> str:
    """Check the rows of one table. Those of an extension come from two transactions: its script and the dump."""
    sql = f"SELECT count(*), coalesce(min(xmin::text::bigint) = max(xmin::text::bigint), true) FROM ONLY {table.name}"  # noqa: S608 - quoted
    rows = session.attempt(sql)
    if isinstance(rows, Failure):
        return f"{shown(table.name)}, which cannot be read"
    ((count, is_one),) = rows
    most = recorded.get(shown(table.name))
    if most is not None and int(count) > most:
        return f"{count} rows in {shown(table.name)}, of which {most} were recorded"
    return "" if is_one == "t" or of_extension else f"rows in {shown(table.name)} that were written later"


def _foreign_large_objects(session: Session, database: Database) -> str:
    ((count,),) = session.ask(_LARGE_OBJECTS)
    recorded = (database.objects or {}).get("BLOBS", {}).get("large objects", "0")
    if database.objects is None or int(count) <= int(recorded):
        return ""
    return f"{count} large objects, of which {recorded} were recorded"


def is_marked(client: Client, name: str) -> bool:
    """Return whether a restore left this database unfinished. Raises DrtoolError."""
    return bool(client.ask(f"SELECT 1 FROM pg_catalog.pg_namespace WHERE nspname = '{MARK}'", name))  # noqa: S608 - constant


def finished(client: Client, name: str) -> None:
    """Remove the mark."""
    client.ask(f"SET default_transaction_read_only = off; DROP SCHEMA IF EXISTS {MARK}", name)


def note_content(client: Client, name: str) -> None:
    """Keep the mark, with a digest of the contents."""
    note = content(client, name)
    client.ask(f"SET default_transaction_read_only = off; COMMENT ON SCHEMA {MARK} IS '{note}'", name)


def drop(client: Client, name: str) -> None:
    """Drop a database that a restore left unfinished. Raises DrtoolError."""
    quoted = '"' + name.replace('"', '""') + '"'
    client.ask(f"DROP DATABASE {quoted}")


def may_create(client: Client) -> bool:
    """Return whether the user may create databases."""
    sql = "SELECT rolsuper OR rolcreatedb FROM pg_catalog.pg_roles WHERE rolname = current_user"
    return client.ask(sql) == [["t"]]


def content(client: Client, name: str) -> str:
    """Return a digest of all rows of a database, and of its tables, functions and large objects."""
    with client.session(name) as session:
        rows = [(table.name, session.ask(_CONTENT.format(table.name))) for table in tables(session) if table.counted]
        objects = session.ask(_OBJECTS)
    return digest((*(f"{table}: {row}" for table, row in rows), *map(str, objects)))


def _literal(text: str) -> str:
    """Return a string literal that does not depend on `standard_conforming_strings`."""
    return "E'" + text.replace("\\", "\\\\").replace("'", "''") + "'"
