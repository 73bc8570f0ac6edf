"""Which tables of a database can be dumped by this user now, and which have to be left out so that the others are stored.

Invariants
    No lock outlives a probe: a lock that is held while pg_dump waits behind somebody who waits for it would never end.
    A table is left out only if pg_dump would fail at it, and each is reported.
"""

import time
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from drtool.sources.postgresql.client import Failure, Session
from drtool.sources.postgresql.looking import Table, shown, tables

_BATCH = 50
_LOCKED = "55P03"
_LATE_MS = 200
_BEGIN = "BEGIN TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY"
_CLOSED = (
    "SELECT count(*) FROM pg_catalog.pg_largeobject_metadata WHERE current_setting('lo_compat_privileges') = 'off' "
    "AND NOT pg_catalog.pg_has_role(lomowner, 'USAGE') AND NOT EXISTS (SELECT 1 FROM pg_catalog.aclexplode(lomacl) a "
    "WHERE a.privilege_type = 'SELECT' AND (a.grantee = 0 OR pg_catalog.pg_has_role(a.grantee, 'USAGE')))"
)


class Reach(NamedTuple):
    dumped: list[Table]
    without: dict[Table, str]
    """Tables that are left out, and why."""
    without_rows: dict[Table, str]
    """Tables of which only the definition is dumped, and why."""
    closed_objects: int
    """Large objects that this user may not read. pg_dump fails at one, so none is dumped if there are any."""

    def options(self) -> list[str]:
        """Options of pg_dump."""
        found = [f"--exclude-table={table.pattern}" for table in self.without]
        found += [f"--exclude-table-data={table.pattern}" for table in self.without_rows]
        return found + (["--no-blobs"] if self.closed_objects else [])

    def reasons(self) -> list[str]:
        """What is missing, in words."""
        left = [f"{shown(table.name)} is left out: {why}" for table, why in self.without.items()]
        left += [f"the rows of {shown(table.name)} are left out: {why}" for table, why in self.without_rows.items()]
        if self.closed_objects:
            left.append(
                f"all large objects are left out: this user may not read {self.closed_objects} of them, "
                "and needs GRANT SELECT ON LARGE OBJECT for each, or to be their owner or a superuser"
            )
        return left

    def narrowed(self, objects: Mapping[str, Mapping[str, str]]) -> dict[str, dict[str, str]]:
        """Return the objects that a dump without these tables has to define."""
        left = {table.plain for table in self.without}
        return {
            kind: {name: what for name, what in names.items() if name not in left and not _is_of(kind, name, left)}
            for kind, names in objects.items()
        }


def _is_of(kind: str, name: str, left: set[str]) -> bool:
    """Whether an object, such as a trigger, belongs to one of the tables."""
    end = "_" if kind in ("INDEX", "SEQUENCE") else " "
    return any(name.startswith(f"{table}{end}") for table in left)


def begin(session: Session, lock_timeout_s: int) -> None:
    """Begin the transaction whose moment is dumped."""
    session.ask(f"SET lock_timeout = {lock_timeout_s * 1000}")
    session.ask(_BEGIN)


def reach(session: Session, lock_timeout_s: int) -> Reach:
    """Find out which tables can be dumped; waits for locks as long as that in all."""
    without: dict[Table, str] = {}
    without_rows: dict[Table, str] = {}
    left = []
    for table in tables(session):
        if not table.readable:
            without[table] = (
                f"this user may not read it: GRANT SELECT ON {shown(table.name)}, or the role pg_read_all_data"
            )
        else:
            left.append(table)
            if table.hides_rows:
                without_rows[table] = "row security hides rows from this user, which needs BYPASSRLS"
    without |= _locked([table for table in left if table.is_table], session, lock_timeout_s)
    ((closed,),) = session.ask(_CLOSED)
    return Reach([table for table in left if table not in without], without, without_rows, int(closed))


def _locked(candidates: Sequence[Table], session: Session, lock_timeout_s: int) -> dict[Table, str]:
    ends_at = time.monotonic() + lock_timeout_s
    found = {}
    for at in range(0, len(candidates), _BATCH):
        batch = candidates[at : at + _BATCH]
        if not _is_locked(batch, session, ends_at):
            continue
        for table in batch:
            if _is_locked([table], session, ends_at):
                found[table] = f"it stayed locked for {lock_timeout_s} s"
    session.ask(f"SET LOCAL lock_timeout = {lock_timeout_s * 1000}")
    return found


def _is_locked(batch: Sequence[Table], session: Session, ends_at: float) -> bool:
    left_ms = max(_LATE_MS, int((ends_at - time.monotonic()) * 1000))
    session.ask(f"SET LOCAL lock_timeout = {left_ms}")
    done = session.attempt(f"LOCK TABLE ONLY {', ONLY '.join(table.name for table in batch)} IN ACCESS SHARE MODE")
    return isinstance(done, Failure) and done.state == _LOCKED
