"""Database servers that dumps go back into: a scratch server of one's own, or one behind a DSN.

One engine each; none knows another.

Invariants
    Whatever an engine puts back, it compares with what was recorded; what was not recorded is not proven.
    A scratch server talks to nobody, and ends when it is stopped or when its process ends.
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
"""Called at least every second while something is waited for; raises to end it."""


def nobody_watches() -> None:
    """For callers that wait as long as it takes."""


class Access(NamedTuple):
    """How the backup reached its server, which holds for a server of the same kind, too."""

    run_as: str | None = None
    programs: Path | None = None
    defaults_file: Path | None = None


NO_ACCESS = Access()


class Difference(NamedTuple):
    """Where a restored database is not as it was recorded."""

    what: str
    """`rowcount`, `schema`, or `object` for one that could not be restored."""
    where: str
    detail: str
    database: str = ""
    """The database that it was met in; empty for users, roles and what else belongs to the server as a whole."""


class Target(Protocol):
    """A server, or for SQLite the restored files, that a snapshot's databases are put into."""

    @property
    def url(self) -> str:
        """The DSN by which others reach it."""
        ...

    @property
    def version(self) -> str: ...

    @property
    def problems(self) -> Sequence[Difference]:
        """What `put_back` could not restore, while the rest is there."""
        ...

    @property
    def programs(self) -> str | None:
        """The directory of the server's own programs, where it is known: not all of them stand in PATH everywhere."""
        ...

    def check(self, chosen: Sequence[Database]) -> None:
        """Raises Refused if something is there that would be lost, as `put_back` does; changes nothing but locks of its own.

        Where a restore left one of the databases unfinished, those that are whole are left alone, and are only compared.
        """
        ...

    def put_back(
        self, inventory: Inventory, files: Path, databases: Sequence[str], tell: Callable[[str], None]
    ) -> list[Database]:
        """Restores these databases (all without names) from where the snapshot's files were put.

        Raises Refused, and DrtoolError if nothing came back. A database that a restore left unfinished is begun again.
        """
        ...

    def differences(self, chosen: Sequence[Database], files: Path, what: Sequence[str]) -> list[Difference]:
        """What is not as recorded. Raises DrtoolError if it cannot be told."""
        ...

    def stop(self) -> list[str]:
        """Ends a scratch server, and takes back what was set for the restore on any other; what is left, in words."""
        ...


class Engine(Protocol):
    """`ENGINE` in the module `engine` of each kind."""

    def connect(self, dsn: str, environ: Mapping[str, str], watch: Watch, access: Access = NO_ACCESS) -> Target:
        """A server that somebody else runs. Raises DrtoolError."""
        ...

    def start(
        self, roots: Sequence[Path], environ: Mapping[str, str], inventory: Inventory, size_bytes: int, watch: Watch
    ) -> Target:
        """A private empty server. Raises DrtoolError: programs are missing, or there is no room."""
        ...

    def lacks(self, environ: Mapping[str, str], inventory: Inventory, *, scratch: bool) -> str:
        """Why neither can be done on this host; empty if they can. Looks, and starts nothing."""
        ...


def engine_of(kind: str) -> Engine:
    """Raises DrtoolError for what is no database."""
    if kind not in _ENGINES:
        raise DrtoolError(f"a snapshot of kind {kind!r} is of no database", hint=f"there are {', '.join(_ENGINES)}")
    engine: Engine = import_module(_ENGINES[kind]).ENGINE
    return engine


def selected(inventory: Inventory, databases: Sequence[str]) -> list[Database]:
    """The databases that are asked for; all without a choice. Raises DrtoolError."""
    known = {database.name: database for database in inventory.databases}
    missing = [name for name in databases if name not in known]
    if missing:
        raise DrtoolError(f"the snapshot has no database {missing[0]!r}", hint=f"it has {', '.join(known)}")
    return [known[name] for name in databases] or list(known.values())


def unproven(chosen: Sequence[Database], what: Sequence[str]) -> str:
    """What of `what` was not recorded, in words; empty if all was."""
    for database in chosen:
        if "rowcount" in what and database.rows is None:
            return f"the rows of {database.name} were not counted when it was dumped"
        if "schema" in what and database.schema_sha256 is None:
            return f"the schema of {database.name} was not recorded when it was dumped"
    return ""


def compared_rows(database: Database, counts: Mapping[str, int | None]) -> list[Difference]:
    """Of each table, those that there are against those that were counted."""
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
    """A schema's lines, whatever their order; the first few that differ."""
    before, after = Counter(recorded), Counter(found)
    lost = [Difference("schema", name, f"missing: {line}", name) for line in (before - after).elements()]
    more = [Difference("schema", name, f"not recorded: {line}", name) for line in (after - before).elements()]
    return [*lost[:LINES], *more[:LINES]]


def kept_databases(chosen: Sequence[Database], standing: Mapping[str, "Standing"]) -> list[Database]:
    """Return the databases that are left alone. Raises Refused if they stand in the way of what is to be restored.

    After a restore of several databases that ended with errors, its good ones must not keep the others from being begun again.
    """
    kept = [database for database in chosen if standing[database.name].refusal is not None]
    for database in kept:
        state = standing[database.name]
        if state.is_unfinished or not any(each.is_unfinished for each in standing.values()):
            assert state.refusal is not None
            raise state.refusal
    return kept


class Standing(NamedTuple):
    """What is there of a database that is to be restored."""

    is_unfinished: bool
    """A restore left it unfinished."""
    refusal: Refused | None
    """Why it must not be touched."""


def below(files: Path, path: str) -> Path:
    """Return where a file of the snapshot was put. Raises DrtoolError for a path that leads out of `files`."""
    if ".." in path.split("/"):
        raise DrtoolError(f"the inventory names the file {path!r}, which is outside of the snapshot")
    return files / path.lstrip("/")
