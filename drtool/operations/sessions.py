"""The open sessions in the manifest, and the expiry of a session whose writer will not come back.

Expiring a live session never loses data. A backup opens another session, checks its references again and goes on. A
mover stops before its next deletions.
"""

import time
from collections.abc import Iterable
from datetime import datetime

from msgspec import Struct

from drtool.errors import DrtoolError, Refused, UsageError
from drtool.manifest.ops import ExpireSession
from drtool.manifest.records import Session
from drtool.repository import Repository
from drtool.repository.identity import Process, identify, process_of

SHORT_ID = 8


class OpenSession(Struct, frozen=True, kw_only=True):
    """One row of `session list`. Times are from the writers' clocks. `…_sequence` is the number of the change."""

    id: str
    kind: str
    source: str
    host: str
    pid: int
    process: Process
    opened_ns: int | None
    opened_age_seconds: float | None
    opened_sequence: int
    renewed_ns: int
    renewed_age_seconds: float
    renewed_sequence: int


class Sessions(Struct, frozen=True, kw_only=True):
    sessions: list[OpenSession]


class Expiry(Struct, frozen=True, kw_only=True):
    """The session that `session expire` ends, or would end."""

    expired: OpenSession
    dry_run: bool


def sessions(repository: Repository) -> Sessions:
    """Return the open sessions, oldest first."""
    return Sessions(sessions=_described(repository, repository.view.state.sessions))


def plan_expiry(repository: Repository, prefix: str, *, force: bool, dry_run: bool) -> Expiry:
    """Return the session that `prefix` names. `Refused` if its process is alive on this host, unless forced."""
    (row,) = _described(repository, [_by_prefix(repository.view.state.sessions, prefix)])
    if row.process == "alive" and not force:
        raise Refused(
            f"session {row.id[:SHORT_ID]} is at work: process {row.pid} on this host, a {row.kind} since change "
            f"{row.opened_sequence}",
            hint="wait for it, or stop that process; --force ends the session all the same, and a backup then begins another",
        )
    if row.kind == "mover" and row.process != "gone" and not force:
        raise Refused(
            f"session {row.id[:SHORT_ID]} moves copies on {row.host}, and its process may still be at work",
            hint="make sure that it has ended, and that no copy of its machine runs; then: "
            f"drtool session expire {row.id[:SHORT_ID]} --force",
        )
    return Expiry(expired=row, dry_run=dry_run)


def expire(repository: Repository, expiry: Expiry) -> None:
    """End the session, in a change of its own."""
    (row,) = (row for row in repository.view.state.sessions if row.id.hex() == expiry.expired.id)
    repository.adopt(repository.manifest.commit(ExpireSession(expired=row.id)).view)


def _by_prefix(rows: Iterable[Session], prefix: str) -> Session:
    if not prefix:
        raise UsageError("the session is missing", hint="write the beginning of its id; drtool session list shows them")
    found = [row for row in rows if row.id.hex().startswith(prefix.lower())]
    if len(found) == 1:
        return found[0]
    if not found:
        raise DrtoolError(
            f"no open session's id begins with {prefix!r}", hint="drtool session list shows those that are open"
        )
    ids = ", ".join(row.id.hex()[: len(prefix) + 4] for row in found[:5])
    raise DrtoolError(f"{len(found)} sessions' ids begin with {prefix!r}: {ids}", hint="give more characters of the id")


def _described(repository: Repository, rows: Iterable[Session]) -> list[OpenSession]:
    rows = sorted(rows, key=lambda row: row.opened)
    opened = _times(repository, rows)
    me, now_ns = identify(repository), time.time_ns()
    return [_row(row, process_of(row, me), opened.get(row.opened), now_ns) for row in rows]


def _row(row: Session, process: Process, opened_ns: int | None, now_ns: int) -> OpenSession:
    return OpenSession(
        id=row.id.hex(),
        kind=row.kind,
        source=row.source,
        host=row.host,
        pid=row.pid,
        process=process,
        opened_ns=opened_ns,
        opened_age_seconds=None if opened_ns is None else _age_s(opened_ns, now_ns),
        opened_sequence=row.opened,
        renewed_ns=row.time_ns,
        renewed_age_seconds=_age_s(row.time_ns, now_ns),
        renewed_sequence=row.renewed,
    )


def _age_s(then_ns: int, now_ns: int) -> float:
    return round(max(0, now_ns - then_ns) / 1e9, 3)


def _times(repository: Repository, rows: Iterable[Session]) -> dict[int, int]:
    """Return when each session was opened, from the log. Unreadable ones are absent."""
    never_renewed = {row.opened: row.time_ns for row in rows if row.opened == row.renewed}
    others = {row.opened for row in rows} - never_renewed.keys()
    if not others:
        return never_renewed
    try:
        entries = repository.manifest.log(repository.view, repository.view.sequence - min(others) + 1)
    except DrtoolError:
        return never_renewed
    return never_renewed | {entry.sequence: _ns(entry.time) for entry in entries if entry.sequence in others}


def _ns(text: str) -> int:
    """Return the log's time, exact to the microsecond."""
    return int(datetime.fromisoformat(text).timestamp() * 1e6) * 1000
