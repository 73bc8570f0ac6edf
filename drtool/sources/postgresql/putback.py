"""Dumps back into a PostgreSQL server, and the proof that they are what was recorded.

Invariants
    A database that is there and holds anything is never touched, except in a scratch server.
    What a program complains of is a problem, but for what is expected: roles that the new server has already.
    Proven means compared: the rows of every table that was counted, and every line of the schema.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

from drtool.errors import DrtoolError, Refused
from drtool.sources.databases import Difference, below, compared_lines, compared_rows, selected
from drtool.sources.inventory import Database, Inventory
from drtool.sources.postgresql.client import Client
from drtool.sources.postgresql.dsn import of_database
from drtool.sources.postgresql.looking import look, row_counts, schema_lines

_EXPECTED = ("already exists", "current user cannot be dropped")


def put_back(
    client: Client,
    inventory: Inventory,
    files: Path,
    *,
    scratch: bool,
    databases: Sequence[str] = (),
    tell: Callable[[str], None],
) -> list[Database]:
    """Restores globals, then each database, from `files`, where the snapshot was put. Raises DrtoolError, Refused."""
    chosen = selected(inventory, databases)
    if not scratch:
        check_absent(client, chosen)
    for problem in _globals(client, inventory, files):
        tell(f"globals: {problem}")
    for database in chosen:
        _restore(client, database, files, scratch=scratch)
    return chosen


def check_absent(client: Client, chosen: Sequence[Database]) -> None:
    """An empty database of that name is as good as none."""
    there = look(client).databases
    for database in chosen:
        if database.name in there:
            with client.session(database.name) as session:
                ((count,),) = session.ask(
                    "SELECT count(*) FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace "
                    "WHERE n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'"
                )
            if int(count):
                raise Refused(
                    f"the server at {client.told} has a database {database.name} with {count} tables and other objects in it",
                    hint="rename or drop it first, or restore into another server",
                )


def _globals(client: Client, inventory: Inventory, files: Path) -> list[str]:
    """What of roles and tablespaces could not be made."""
    if inventory.globals is None:
        return []
    text = _of_new_roles(client, below(files, inventory.globals).read_text("utf-8", "surrogateescape"))
    argv = ["psql", "--no-psqlrc", "--no-password", "--quiet", "--set=ON_ERROR_STOP=0", "--output=/dev/null"]
    argv.append(f"--dbname={of_database(client.database or 'postgres')}")
    complaints = client.complaints(argv, stdin=text.encode("utf-8", "surrogateescape"))
    return [line for line in complaints if "ERROR" in line and not any(word in line for word in _EXPECTED)]


def _of_new_roles(client: Client, text: str) -> str:
    """Without what would change roles that are there: their passwords and rights are this server's own."""
    names = [row[0] for row in client.ask("SELECT pg_catalog.quote_ident(rolname) FROM pg_catalog.pg_roles")]
    return without_roles(text, names)


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


def _restore(client: Client, database: Database, files: Path, *, scratch: bool) -> None:
    there = database.name in look(client).databases
    argv = ["pg_restore", "--no-password", "--exit-on-error"]
    argv += ["--no-tablespaces"] if scratch else []
    if there:
        argv += ["--clean", "--if-exists"] if scratch else []
        argv.append(f"--dbname={of_database(database.name)}")
    else:
        argv += ["--create", f"--dbname={of_database(client.database or 'postgres')}"]
    try:
        client.run([*argv, "--", str(below(files, database.dump))])
    except DrtoolError as error:
        raise DrtoolError(f"the database {database.name} could not be restored: {error.message}") from None


def differences(
    client: Client, chosen: Sequence[Database], files: Path, what: Sequence[str] = ("rowcount", "schema")
) -> list[Difference]:
    """Where the server differs from what was recorded when the databases were dumped."""
    found: list[Difference] = []
    for database in chosen:
        if "rowcount" in what:
            with client.session(database.name) as session:
                found += compared_rows(database, row_counts(session))
        if "schema" in what and database.schema is not None:
            recorded = below(files, database.schema).read_text("utf-8", "surrogateescape")
            dump = client.run(["pg_dump", "--no-password", "--schema-only", f"--dbname={of_database(database.name)}"])
            found += compared_schemas(database.name, recorded, dump.decode("utf-8", "surrogateescape"))
    return found


def compared_schemas(name: str, recorded: str, found: str) -> list[Difference]:
    """Two dumps of a schema."""
    return compared_lines(name, schema_lines(recorded), schema_lines(found))
