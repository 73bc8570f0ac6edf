"""Which tables and views of a database can be dumped now, and which have to be left out so that the others are stored.

Invariants
    A probe takes no lock on rows, and what it locks of a definition is released at once.
    A table is left out only if the dump program would fail or wait at it, and each is reported.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import NamedTuple

from drtool.sources.children import Output, ProgramFailed
from drtool.sources.mysql.catalogue import MARK
from drtool.sources.mysql.client import Client, literal, quoted
from drtool.sources.mysql.session import Failure, Session

_LOCK_WAIT = 1205
_TABLES = (
    "SELECT TABLE_NAME, TABLE_TYPE, COALESCE(ENGINE, '') FROM information_schema.TABLES "  # noqa: S608 - constants
    "WHERE TABLE_SCHEMA = {} AND TABLE_TYPE IN ('BASE TABLE', 'SYSTEM VERSIONED', 'VIEW') "
    f"AND TABLE_NAME <> '{MARK}' ORDER BY 1"
)
_PRECISE = (
    "SELECT DISTINCT TABLE_NAME FROM information_schema.COLUMNS WHERE TABLE_SCHEMA = {} AND DATA_TYPE = 'bigint' "
    "AND (EXTRA LIKE '%ROW START%' OR GENERATION_EXPRESSION LIKE '%ROW START%')"
)
_WAITING = (
    "SELECT COUNT(*) FROM information_schema.PROCESSLIST WHERE STATE LIKE 'Waiting for %lock%' AND TIME >= {} "
    "AND USER = SUBSTRING_INDEX(USER(), '@', 1)"
)


class Reach(NamedTuple):
    tables: dict[str, str]
    """The engine of each table that is dumped."""
    without: dict[str, str]
    """Tables and views that are left out, and why."""
    versioned: tuple[str, ...]
    """Tables that keep their history, which can be dumped with it."""
    precise: tuple[str, ...]
    """Tables that keep their history by transactions: no program dumps it."""

    def options(self, database: str) -> list[str]:
        """Options of the dump program."""
        return [f"--ignore-table={database}.{name}" for name in (MARK, *self.without)]

    def narrowed(self, objects: Mapping[str, Mapping[str, str]]) -> dict[str, dict[str, str]]:
        """Return the objects that a dump without these tables has to define. Which triggers went with them is not known."""
        return {
            kind: {
                name: what for name, what in names.items() if kind not in ("TABLE", "VIEW") or name not in self.without
            }
            for kind, names in objects.items()
            if kind != "TRIGGER" or not self.without
        }


def reach(session: Session, database: str, lock_timeout_s: int) -> Reach:
    """Find out which tables and views can be dumped; waits for locks as long as that in all."""
    ends_at = time.monotonic() + lock_timeout_s
    found: dict[str, str] = {}
    versioned: list[str] = []
    without: dict[str, str] = {}
    for name, kind, engine in session.ask(_TABLES.format(literal(database))):
        session.ask(f"SET SESSION lock_wait_timeout = {max(1, round(ends_at - time.monotonic()))}")
        why = _refusal(session, f"{quoted(database)}.{quoted(name)}", kind == "VIEW", lock_timeout_s)
        if why:
            without[name] = why
        elif kind != "VIEW":
            found[name] = engine
            versioned += [name] if kind == "SYSTEM VERSIONED" else []
    session.ask(f"SET SESSION lock_wait_timeout = {lock_timeout_s}")
    precise = {row[0] for row in session.ask(_PRECISE.format(literal(database)))} if versioned else set()
    return Reach(
        found,
        without,
        tuple(name for name in versioned if name not in precise),
        tuple(name for name in versioned if name in precise),
    )


def _refusal(session: Session, table: str, is_view: bool, lock_timeout_s: int) -> str:
    """Return why a table or view cannot be dumped; empty if it can."""
    done = session.attempt(f"SHOW FIELDS FROM {table}" if is_view else f"SELECT 1 FROM {table} LIMIT 0")  # noqa: S608 - quoted
    if not isinstance(done, Failure):
        return ""
    if done.code == _LOCK_WAIT:
        return f"it stayed locked for {lock_timeout_s} s"
    return f"ERROR {done.code}: {done.message}"


class LockWatch:
    """Ends a dump that waits for a lock for too long: the dump programs themselves would wait for a day."""

    def __init__(self, client: Client, lock_timeout_s: int) -> None:
        self._client, self._lock_timeout_s = client, lock_timeout_s
        self._since = time.monotonic()

    def moved(self) -> None:
        """Something came."""
        self._since = time.monotonic()

    def idle(self) -> None:
        """Nothing came for a while. Raises ProgramFailed if the dump waits for a lock."""
        self._client.watch()
        if time.monotonic() - self._since < self._lock_timeout_s:
            return
        self._since = time.monotonic()
        if self._client.ask(_WAITING.format(self._lock_timeout_s)) != [["0"]]:
            raise ProgramFailed(f"a table stayed locked for {self._lock_timeout_s} s")

    @contextmanager
    def watching(self, argv: list[str], heard: Callable[[str], None]) -> Iterator["_Watched"]:
        """The output of a dump program."""
        with self._client.piped(argv, heard) as output:
            yield _Watched(output, self)


class _Watched:
    """Fulfils `port.Readable`."""

    def __init__(self, output: Output, watch: LockWatch) -> None:
        self._output, self._watch = output, watch
        watch.moved()

    def readinto(self, buffer: memoryview, /) -> int | None:
        got = self._output.readinto(buffer)
        if got is None:
            self._watch.idle()
        else:
            self._watch.moved()
        return got
