"""Dumps back into a PostgreSQL server, and the proof that they are what was recorded.

Invariants
    A database that is there and holds anything is never touched, except in a scratch server, and except one that a restore
    left unfinished and nobody has changed since.
    What fails is reported, and the rest is restored: the other entries, and the other databases.
    Proven means compared: the rows of every table that was counted, every line of the schema, every object of the catalogue.
    Of another major version, the lines are not compared: they read differently there.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from drtool.errors import DrtoolError, Refused
from drtool.sources.databases import Difference, below, compared_lines, compared_rows, selected
from drtool.sources.inventory import Database, Inventory, digest
from drtool.sources.postgresql import catalogue, roles
from drtool.sources.postgresql.capture import schema_words
from drtool.sources.postgresql.client import Client
from drtool.sources.postgresql.dsn import of_database
from drtool.sources.postgresql.loading import MARK, Loading, drop, finished, is_marked
from drtool.sources.postgresql.looking import look, row_counts, schema_lines, tables

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
_PER_SERVER = ("encoding", "collation", "character type")
"""What an empty database that was there already keeps."""


class PutBack:
    """A restore of some databases into one server."""

    def __init__(self, client: Client, *, scratch: bool, tell: Callable[[str], None]) -> None:
        self._client, self.is_scratch, self._tell = client, scratch, tell
        self.problems: list[Difference] = []
        self.granted: list[str] = []
        self.made: list[str] = []
        self.marked: list[str] = []
        self.without_owners: list[str] = []
        self.recorded_version = ""

    def run(self, inventory: Inventory, files: Path, chosen: Sequence[Database]) -> list[Database]:
        """Restores globals, then each database, from `files`, where the snapshot was put; those that are there now."""
        if not self.is_scratch:
            check_absent(self._client, chosen)
        owners = sorted(
            {owner for database in chosen for owner in catalogue.owners(database.objects, database.properties)}
        )
        file = below(files, inventory.globals) if inventory.globals is not None else None
        done = roles.put_back(self._client, file, owners, self._tell)
        self.granted = done.granted
        self.recorded_version = inventory.server_version or ""
        self.problems += self._missing_roles(inventory.roles or {})
        self.problems += [Difference("object", "roles", problem) for problem in done.problems]
        strangers = roles.strangers(self._client, owners)
        restored = []
        for database in chosen:
            try:
                self._restore(
                    database,
                    files,
                    without_tablespaces=done.without_tablespaces or self.is_scratch,
                    strangers=strangers,
                )
            except DrtoolError as error:
                self.problems.append(Difference("object", database.name, f"it could not be restored: {error.message}"))
            else:
                restored.append(database)
        if not restored:
            first = next(row for row in reversed(self.problems) if row.what == "object")
            raise DrtoolError(f"the database {first.where} could not be restored: {first.detail}")
        return restored

    def _restore(self, database: Database, files: Path, *, without_tablespaces: bool, strangers: Sequence[str]) -> None:
        name = database.name
        there = name in look_at(self._client)
        if there and not self.is_scratch and is_marked(self._client, name):
            self._tell(f"{name} was left unfinished by a restore, and is begun again")
            drop(self._client, name)
            there = False
        foreign = sorted(set(strangers) & set(catalogue.owners(database.objects, database.properties)))
        if foreign:
            self.without_owners.append(name)
            self.problems.append(
                Difference(
                    "object",
                    name,
                    f"what belonged to {', '.join(foreign)} belongs to the restoring user, who may not give it away",
                )
            )
        loading = Loading(
            self._client,
            name,
            below(files, database.dump),
            without_tablespaces=without_tablespaces,
            without_owners=bool(foreign),
            marked=not self.is_scratch,
            owner=(database.properties or {}).get("owner", ""),
        )
        self.made += [] if there else [name]
        try:
            failed = loading.run(there)
        finally:
            self.marked += [name] if loading.has_mark else []
        for problem in failed:
            self.problems.append(
                Difference("object", f"{name}: {problem.entry}" if problem.entry else name, problem.message)
            )

    def _missing_roles(self, recorded: Mapping[str, str]) -> list[Difference]:
        with self._client.session() as session:
            there = catalogue.roles(session)
        return [
            Difference("object", "roles", f"the role {name} is not there") for name in recorded if name not in there
        ]

    def has_other_version(self, client: Client) -> bool:
        """Whether the dump is of another major version, whose definitions read differently."""
        major = self.recorded_version.partition(".")[0]
        return major.isdigit() and int(major) != look(client).major

    def settle(self, found: Sequence[Difference]) -> None:
        """Take the marks away if all is as recorded; else note the contents, so that only what nobody changed is begun again."""
        for name in self.marked:
            if found or self.problems:
                note = content(self._client, name)
                self._client.ask(f"SET default_transaction_read_only = off; COMMENT ON SCHEMA {MARK} IS '{note}'", name)
            else:
                finished(self._client, name)
        self.marked = []


def look_at(client: Client) -> set[str]:
    """The names of all databases."""
    return {row[0] for row in client.ask("SELECT datname FROM pg_catalog.pg_database")}


def put_back(
    client: Client,
    inventory: Inventory,
    files: Path,
    *,
    scratch: bool,
    databases: Sequence[str] = (),
    tell: Callable[[str], None],
) -> list[Database]:
    """Restore and settle; what could not be restored is told. Raises DrtoolError, Refused."""
    restore = PutBack(client, scratch=scratch, tell=tell)
    chosen = restore.run(inventory, files, selected(inventory, databases))
    for problem in restore.problems:
        tell(f"{problem.where}: {problem.detail}")
    restore.settle(())
    return chosen


def check_absent(client: Client, chosen: Sequence[Database]) -> None:
    """An empty database of that name is as good as none, and so is one that a restore left unfinished."""
    there = look(client).databases.keys() | {"template1"}
    for database in chosen:
        if database.name not in there:
            continue
        with client.session(database.name) as session:
            ((count,),) = session.ask(
                "SELECT count(*) FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace "
                "WHERE n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'"
            )
        if int(count) or is_marked(client, database.name):
            _check_unfinished(client, database.name, count)


def _check_unfinished(client: Client, name: str, count: str) -> None:
    if not is_marked(client, name):
        raise Refused(
            f"the server at {client.told} has a database {name} with {count} tables and other objects in it",
            hint="rename or drop it first, or restore into another server",
        )
    comment = "SELECT coalesce(pg_catalog.obj_description(oid, 'pg_namespace'), '') FROM pg_catalog.pg_namespace"
    found = client.ask(f"{comment} WHERE nspname = '{MARK}'", name)
    note = "".join(row[0] for row in found if row)  # one empty value reads as a row of none
    if not note:
        raise Refused(
            f"a restore of the database {name} at {client.told} was interrupted, so nothing tells whether it was changed since",
            hint="drop it, then run the restore again",
        )
    if client.entrance() == name:
        raise Refused(
            f"the database {name} at {client.told} was restored with errors, and cannot be dropped by way of itself",
            hint="add dbname=template1 to the DSN",
        )
    if note != content(client, name):
        raise Refused(
            f"the database {name} at {client.told} was restored with errors, and has been changed since",
            hint=f"drop it first; or keep it, and drop its schema {MARK}",
        )


def content(client: Client, name: str) -> str:
    """Return a digest of all rows of a database, and of its tables, functions and large objects."""
    with client.session(name) as session:
        rows = [(table.name, session.ask(_CONTENT.format(table.name))) for table in tables(session) if table.counted]
        objects = session.ask(_OBJECTS)
    return digest((*(f"{table}: {row}" for table, row in rows), *map(str, objects)))


def differences(
    client: Client,
    chosen: Sequence[Database],
    files: Path,
    what: Sequence[str] = ("rowcount", "schema"),
    *,
    restore: PutBack | None = None,
) -> list[Difference]:
    """Where the server differs from what was recorded when the databases were dumped."""
    found: list[Difference] = []
    for database in chosen:
        if "rowcount" in what:
            with client.session(database.name) as session:
                found += compared_rows(database, row_counts(session))
        if "schema" in what and database.schema is not None:
            without_owners = restore is not None and database.name in restore.without_owners
            if restore is None or not restore.has_other_version(client):
                found += _schema_differences(client, database, files, without_owners=without_owners)
            found += _record_differences(client, database, restore, without_owners=without_owners)
    return found


def _schema_differences(client: Client, database: Database, files: Path, *, without_owners: bool) -> list[Difference]:
    assert database.schema is not None
    recorded = below(files, database.schema).read_text("utf-8", "surrogateescape")
    ((encoding,),) = client.ask("SHOW server_encoding", database.name)
    words = ["pg_dump", "--no-password", f"--exclude-schema={MARK}", f"--dbname={of_database(database.name)}"]
    dump = client.run(schema_words(words, encoding)).decode("utf-8", "surrogateescape")
    if not without_owners:
        return compared_schemas(database.name, recorded, dump)
    return compared_lines(
        database.name, *([line for line in schema_lines(text) if not _of_owner(line)] for text in (recorded, dump))
    )


def _of_owner(line: str) -> bool:
    return " OWNER TO " in line or line.startswith(("GRANT ", "REVOKE ", "ALTER DEFAULT PRIVILEGES "))


def _record_differences(
    client: Client, database: Database, restore: PutBack | None, *, without_owners: bool
) -> list[Difference]:
    """Objects that the catalogue had and has no more; properties of the database that are others."""
    with client.session(database.name) as session:
        now, properties = catalogue.objects(session), catalogue.properties(session)
    lost = [
        Difference("schema", database.name, f"missing: {kind.lower()} {name}")
        for kind, names in (database.objects or {}).items()
        for name in names
        if name not in now.get(kind, {})
    ]
    ours = restore is None or database.name in restore.made
    if without_owners or (restore is not None and not ours and restore.is_scratch):
        return lost
    kept = () if ours else _PER_SERVER
    return lost + [
        Difference("schema", database.name, f"its {key}: {properties.get(key, '')!r}; {value!r} recorded")
        for key, value in (database.properties or {}).items()
        if key not in kept and properties.get(key) != value
    ]


def compared_schemas(name: str, recorded: str, found: str) -> list[Difference]:
    """Two dumps of a schema."""
    return compared_lines(name, schema_lines(recorded), schema_lines(found))
