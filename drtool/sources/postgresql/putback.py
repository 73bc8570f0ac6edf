"""Dumps back into a PostgreSQL server, and the proof that they are what was recorded.

Invariants
    A database that is there and holds anything is never touched, except in a scratch server, and except one that a restore
    left unfinished (see `unfinished`).
    What fails is reported, and the rest is restored: the other entries, and the other databases. A fault belongs to the
    database that it was met in: the others are finished.
    Proven means compared: the rows of every table that was counted, every line of the schema, every object of the catalogue.
    Of another major version, the lines are not compared: they read differently there.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from drtool.errors import DrtoolError
from drtool.sources.databases import Difference, below, compared_lines, compared_rows, kept_databases, selected
from drtool.sources.inventory import Database, Inventory
from drtool.sources.postgresql import catalogue, roles, unfinished
from drtool.sources.postgresql.capture import schema_words
from drtool.sources.postgresql.catalogue import MARK
from drtool.sources.postgresql.client import Client
from drtool.sources.postgresql.dsn import of_database
from drtool.sources.postgresql.loading import Loading
from drtool.sources.postgresql.looking import look, row_counts, schema_lines

_PER_SERVER = ("encoding", "collation", "character type")
"""What an empty database that was there already keeps."""


class PutBack:
    """A restore of some databases into one server."""

    def __init__(self, client: Client, *, scratch: bool) -> None:
        self._client, self.is_scratch = client, scratch
        self._tell: Callable[[str], None] = lambda _: None
        self.problems: list[Difference] = []
        self.granted: list[str] = []
        self.made: list[str] = []
        self.marked: list[str] = []
        self.without_owners: list[str] = []
        self.recorded_version = ""
        self._locks = unfinished.Locks(client)

    def check(self, chosen: Sequence[Database]) -> list[Database]:
        """Lock the databases, and return those that are left alone and only compared. Raises Refused, DrtoolError."""
        if self.is_scratch:
            return []
        names = [database.name for database in chosen]
        unfinished.leave(self._client, names)
        self._locks.take(names)
        return kept_databases(chosen, unfinished.standing(self._client, chosen))

    def run(
        self, inventory: Inventory, files: Path, chosen: Sequence[Database], tell: Callable[[str], None]
    ) -> list[Database]:
        """Restores globals, then each database, from `files`, where the snapshot was put; those that are there now."""
        self._tell = tell
        kept = self.check(chosen)
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
            if database in kept:
                self._tell(f"the database {database.name} is there: it is left alone, and compared")
                continue
            try:
                self._restore(
                    database,
                    files,
                    without_tablespaces=done.without_tablespaces or self.is_scratch,
                    strangers=strangers,
                )
            except DrtoolError as error:
                self._report(database.name, database.name, f"it could not be restored: {error.message}")
            else:
                restored.append(database)
        if not restored:
            first = next(row for row in reversed(self.problems) if row.what == "object")
            raise DrtoolError(f"the database {first.where} could not be restored: {first.detail}")
        return [database for database in chosen if database in restored or database in kept]

    def _report(self, database: str, where: str, detail: str) -> None:
        self.problems.append(Difference("object", where, detail, database))

    def _restore(self, database: Database, files: Path, *, without_tablespaces: bool, strangers: Sequence[str]) -> None:
        name = database.name
        there = name in look_at(self._client)
        is_again = there and not self.is_scratch and unfinished.is_marked(self._client, name)
        if is_again:
            self._tell(f"{name} was left unfinished by a restore, and is begun again")
        if is_again and unfinished.may_create(self._client):
            unfinished.drop(self._client, name)
            there = False
        foreign = sorted(set(strangers) & set(catalogue.owners(database.objects, database.properties)))
        if foreign:
            self.without_owners.append(name)
            who = ", ".join(foreign)
            self._report(name, name, f"what belonged to {who} belongs to the restoring user, who may not give it away")
        loading = Loading(
            self._client,
            name,
            below(files, database.dump),
            without_tablespaces=without_tablespaces,
            without_owners=bool(foreign),
            marked=not self.is_scratch,
            clean=is_again and there,
            owner=(database.properties or {}).get("owner", ""),
        )
        self.made += [] if there else [name]
        try:
            failed = loading.run(there)
        finally:
            self.marked += [name] if loading.has_mark else []
        for problem in failed:
            self._report(name, f"{name}: {problem.entry}" if problem.entry else name, problem.message)

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
        """Take the mark from each database that is as recorded; let the others be begun again if they stay as they are."""
        faulty = {row.database for row in (*found, *self.problems)}
        for name in self.marked:
            if name in faulty:
                unfinished.note_content(self._client, name)
            else:
                unfinished.finished(self._client, name)
        self.marked = []

    def leave(self) -> list[str]:
        """End the restore: locks and memberships go; what could not be undone, in words."""
        self._locks.release()
        granted, self.granted = self.granted, []
        return roles.leave(self._client, granted)


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
    restore = PutBack(client, scratch=scratch)
    chosen = restore.run(inventory, files, selected(inventory, databases), tell)
    for problem in restore.problems:
        tell(f"{problem.where}: {problem.detail}")
    restore.settle(())
    restore.leave()
    return chosen


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
        Difference("schema", database.name, f"missing: {kind.lower()} {name}", database.name)
        for kind, names in (database.objects or {}).items()
        for name in names
        if name not in now.get(kind, {})
    ]
    ours = restore is None or database.name in restore.made
    if without_owners or (restore is not None and not ours and restore.is_scratch):
        return lost
    kept = () if ours else _PER_SERVER
    return lost + [
        Difference(
            "schema", database.name, f"its {key}: {properties.get(key, '')!r}; {value!r} recorded", database.name
        )
        for key, value in (database.properties or {}).items()
        if key not in kept and properties.get(key) != value
    ]


def compared_schemas(name: str, recorded: str, found: str) -> list[Difference]:
    """Two dumps of a schema."""
    return compared_lines(name, schema_lines(recorded), schema_lines(found))
