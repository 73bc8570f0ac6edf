"""The end of sessions whose processes are provably gone on this host, and descriptions of the others that are in the
way.
"""

import time
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec import Struct
from msgspec.structs import replace

from drtool.errors import Rejected
from drtool.manifest.ops import ExpireSession
from drtool.manifest.records import Session
from drtool.repository.identity import gone, identify, process_of
from drtool.repository.processes import Standing

if TYPE_CHECKING:
    from drtool.repository.repository import Repository

SHORT_ID = 8
_WORK = {"mover": "a repair or rebalance", "prune": "a prune", "backup": "a backup", "admin": "a change"}
SILENT_S = 3600.0
"""A mover at work renews its session every ten minutes."""
_UNITS = ((86400, "d"), (3600, "h"), (60, "min"), (0, "s"))


def expiries(repository: "Repository", sessions: Iterable[Session]) -> list[ExpireSession]:
    """Return the ops that end those of `sessions` that were this host's and whose processes are gone."""
    ids = gone(sessions, identify(repository))
    return [ExpireSession(expired=session) for session in ids]


def end_dead_sessions(repository: "Repository") -> None:
    """End every such session. Changes that its process sent are settled first, so that they come before the end."""
    while dead := expiries(repository, repository.view.state.sessions):
        repository.manifest.settle()
        try:
            repository.adopt(repository.manifest.commit(dead).view)
        except Rejected as error:
            if error.reason != "session-not-open":
                raise
            repository.adopt(repository.manifest.read())


def blocking_mover(repository: "Repository") -> Session | None:
    """Return the mover with an open session, if there is one. No other mover removes copies meanwhile."""
    return next((row for row in repository.view.state.sessions if row.kind == "mover"), None)


def described(row: Session) -> str:
    """Return one line on a session: its kind, its host, and its last sign of life (by its own clock)."""
    who = f"{_WORK[row.kind]} on {row.host} (process {row.pid})"
    return f"session {row.id.hex()[:SHORT_ID]}, {who}, last heard of {_age(_silent_s(row))} ago"


def way_out(row: Session, process: Standing) -> str:
    """Return what to do about a session that is in the way, with the exact command."""
    command = f"drtool session expire {row.id.hex()[:SHORT_ID]}"
    if process == "alive":
        return "wait until it is done"
    if process == "gone":
        return f"its process has ended, so the next repair or rebalance on that host ends it, or run: {command}"
    if row.kind != "mover":
        return f"wait until it is done, or if its process has ended for good: {command}"
    return f"wait until it is done, or if its process has ended for good and no copy of its machine runs: {command} --force"


class OpenMover(Struct, frozen=True, kw_only=True):
    """The mover with an open session, in words. `stuck`: it shows no sign of life, so a person has to check."""

    text: str
    hint: str
    stuck: bool


def open_mover(repository: "Repository", lifelines: Path | None = None) -> OpenMover | None:
    """Return the mover with an open session, or None. `lifelines`: their directory if the state directory is a copy."""
    row = blocking_mover(repository)
    if row is None:
        return None
    me = identify(repository)
    process = process_of(row, me if lifelines is None else replace(me, lifelines=lifelines))
    stuck = process not in ("alive", "gone") and _silent_s(row) > SILENT_S
    return OpenMover(text=f"{described(row)}, is removing copies", hint=way_out(row, process), stuck=stuck)


def _silent_s(row: Session) -> float:
    return max(0.0, (time.time_ns() - row.time_ns) / 1e9)


def _age(seconds: float) -> str:
    size_s, unit = next((size_s, unit) for size_s, unit in _UNITS if seconds >= 2 * size_s)
    return f"{int(seconds / (size_s or 1))} {unit}"
