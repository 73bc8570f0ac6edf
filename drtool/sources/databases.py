"""Database servers for restores: a private scratch server, or one behind a DSN.

There is one engine per kind, independent of the others.

Invariants
    An engine compares all restored data with the record. Anything that was not recorded is not proven.
    A scratch server is unreachable for others, and ends when it is stopped or when its process ends.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import NamedTuple, Protocol

from drtool.errors import DrtoolError, Refused
from drtool.sources.inventory import Database, Inventory

_ENGINES = {name: f"drtool.sources.{name}.engine" for name in ("postgresql", "mysql", "redis", "sqlite")}
LINES = 20
Watch = Callable[[], None]
"""Called at least once per second during a wait. It raises to end the wait."""


def nobody_watches() -> None:
    """Do nothing, for callers that wait without a limit."""


class Access(NamedTuple):
    """How the backup reached its server. It also applies to another server of the same kind."""

    run_as: str | None = None
    programs: Path | None = None
    defaults_file: Path | None = None


NO_ACCESS = Access()


class Difference(NamedTuple):
    """A place where a restored database differs from its record."""

    what: str
    """`rowcount`, `schema`, or `object` for one that could not be restored."""
    where: str
    detail: str
    database: str = ""
    """The database of the difference, or empty for users, roles and other objects of the whole server."""


class Target(Protocol):
    """A server, or for SQLite the restored files, that receives a snapshot's databases."""

    @property
    def url(self) -> str:
        """The DSN for clients."""
        ...

    @property
    def version(self) -> str: ...

    @property
    def problems(self) -> Sequence[Difference]:
        """The parts that `put_back` could not restore, while the rest is there."""
        ...

    @property
    def programs(self) -> str | None:
        """The directory of the server's own programs, if it is known. They are not in PATH everywhere."""
        ...

    def check(self, chosen: Sequence[Database]) -> None:
        """Raise Refused if existing data would be lost, as `put_back` does. Changes nothing except its own locks.

        If an earlier restore left a database unfinished, complete databases are kept and only compared.
        """
        ...

    def put_back(
        self, inventory: Inventory, files: Path, databases: Sequence[str], tell: Callable[[str], None]
    ) -> list[Database]:
        """Restore these databases (all without names) from the restored files of the snapshot.

        Raises Refused, and DrtoolError if nothing could be restored. A database of an unfinished restore is restored again.
        """
        ...

    def differences(self, chosen: Sequence[Database], files: Path, what: Sequence[str]) -> list[Difference]:
        """Return the differences from the record. Raises DrtoolError if they cannot be determined."""
        ...

    def stop(self) -> list[str]:
        """End a scratch server, or reset the settings made for the restore on another one. Return leftovers in words."""
        ...


class Engine(Protocol):
    """The engine of a kind: `ENGINE` in its module `engine`."""

    def connect(self, dsn: str, environ: Mapping[str, str], watch: Watch, access: Access = NO_ACCESS) -> Target:
        """Connect to an existing server. Raises DrtoolError."""
        ...

    def start(
        self, roots: Sequence[Path], environ: Mapping[str, str], inventory: Inventory, size_bytes: int, watch: Watch
    ) -> Target:
        """Start a private empty server. Raises DrtoolError if programs are missing, or there is no room."""
        ...

    def lacks(self, environ: Mapping[str, str], inventory: Inventory, *, scratch: bool) -> str:
        """Return why this host cannot do either, or an empty string. Starts nothing."""
        ...


def engine_of(kind: str) -> Engine:
    """Return the engine for a kind. Raises DrtoolError if it is not a database."""
    if kind not in _ENGINES:
        raise DrtoolError(
            f"a snapshot of kind {kind!r} is not of a database", hint=f"databases are {', '.join(_ENGINES)}"
        )
    engine: Engine = import_module(_ENGINES[kind]).ENGINE
    return engine


def selected(inventory: Inventory, databases: Sequence[str]) -> list[Database]:
    """Return the requested databases, or all without a choice. Raises DrtoolError."""
    known = {database.name: database for database in inventory.databases}
    missing = [name for name in databases if name not in known]
    if missing:
        raise DrtoolError(f"the snapshot has no database {missing[0]!r}", hint=f"it has {', '.join(known)}")
    return [known[name] for name in databases] or list(known.values())


def unproven(chosen: Sequence[Database], what: Sequence[str]) -> str:
    """Describe the parts of `what` that were not recorded, or return an empty string."""
    for database in chosen:
        if "rowcount" in what and database.rows is None:
            return f"the rows of {database.name} were not counted when it was dumped"
        if "schema" in what and database.schema_sha256 is None:
            return f"the schema of {database.name} was not recorded when it was dumped"
    return ""


def compared_rows(database: Database, counts: Mapping[str, int | None]) -> list[Difference]:
    """Compare the rows of each table with the recorded counts."""
    if database.rows is None:
        why = "no rows were counted when it was dumped"
        return [Difference("rowcount", database.name, why, database.name)]
    names = sorted({*database.rows, *counts})
    return [
        Difference(
            "rowcount",
            f"{database.name}: {name}",
            f"{_told(counts, name)}; {_told(database.rows, name)} recorded",
            database.name,
        )
        for name in names
        if name not in counts or name not in database.rows or database.rows[name] not in (counts[name], None)
    ]


def _told(counts: Mapping[str, int | None], name: str) -> str:
    count = counts.get(name)
    return "not there" if name not in counts else "not counted" if count is None else f"{count} rows"


def compared_lines(name: str, recorded: Sequence[str], found: Sequence[str]) -> list[Difference]:
    """Compare the lines of a schema in any order, and return the first few differences."""
    before, after = Counter(recorded), Counter(found)
    lost = [Difference("schema", name, f"missing: {line}", name) for line in (before - after).elements()]
    more = [Difference("schema", name, f"not recorded: {line}", name) for line in (after - before).elements()]
    return [*lost[:LINES], *more[:LINES]]


def kept_databases(chosen: Sequence[Database], standing: Mapping[str, "Standing"]) -> list[Database]:
    """Return the databases that are kept. Raises Refused if they conflict with the restore.

    After a restore of several databases with errors, its good ones must not block another attempt for the others.
    """
    kept = [database for database in chosen if standing[database.name].refusal is not None]
    for database in kept:
        state = standing[database.name]
        if state.is_unfinished or not any(each.is_unfinished for each in standing.values()):
            assert state.refusal is not None
            raise state.refusal
    return kept


class Standing(NamedTuple):
    """The state of a database at the destination of a restore."""

    is_unfinished: bool
    """An earlier restore left it unfinished."""
    refusal: Refused | None
    """The reason why it must not be touched."""


def below(files: Path, path: str) -> Path:
    """Return the restored path of a file of the snapshot. Raises DrtoolError for a path that leads out of `files`."""
    if ".." in path.split("/"):
        raise DrtoolError(f"the inventory names the file {path!r}, which is outside of the snapshot")
    return files / path.lstrip("/")
