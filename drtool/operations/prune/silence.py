"""Expiry of other hosts' sessions that have not been renewed for long, based on this host's own observations.

Invariants
    No clock of another host is read. This host notes when it first saw a session's latest renewal. When that is longer
    ago than the grace by its own clock, the session is expired. Expiring a live session makes its writer check again,
    and loses no data.
    Losing the notes, or a clock that jumps, only changes when a session expires.
"""

from pathlib import Path

import msgspec

from drtool.errors import Rejected
from drtool.events import Emit, Warned
from drtool.manifest.ops import ExpireSession
from drtool.manifest.records import Session
from drtool.operations.prune.request import PruneRequest
from drtool.repository import Repository
from drtool.repository.cache import write_atomically

NOTES = "sessions-seen"


class Seen(msgspec.Struct, frozen=True, array_like=True):
    """A session's last renewal, as a sequence, and when this host first saw it (ns since 1970, own clock)."""

    renewed: int
    since_ns: int


def silent(
    sessions: tuple[Session, ...], seen: dict[str, Seen], now_ns: int, grace_s: float
) -> tuple[list[Session], dict[str, Seen]]:
    """Return the sessions that were silent for longer than the grace, and the notes to keep. Pure."""
    notes: dict[str, Seen] = {}
    for row in sessions:
        known = seen.get(row.id.hex())
        kept = known is not None and known.renewed == row.renewed and known.since_ns <= now_ns
        notes[row.id.hex()] = known if kept and known is not None else Seen(row.renewed, now_ns)
    late = [row for row in sessions if now_ns - notes[row.id.hex()].since_ns > grace_s * 1e9]
    return late, notes


def expire_silent(repository: Repository, request: PruneRequest, emit: Emit) -> None:
    """Expire backup and prune sessions that this host has seen silent for the grace. A mover never expires this way."""
    path = repository.spec.state_dir / "repositories" / repository.id.hex() / NOTES
    sessions = tuple(row for row in repository.view.state.sessions if row.kind in ("backup", "prune"))
    late, notes = silent(sessions, _read(path), request.now_ns, request.session_grace_s)
    write_atomically(path, msgspec.msgpack.encode(notes))
    for row in late:
        try:
            repository.adopt(repository.manifest.commit(ExpireSession(row.id)).view)
        except Rejected as error:
            if error.reason != "session-not-open":
                raise
        else:
            what = f"session {row.id.hex()[:8]} of {row.host} was silent for {request.session_grace_s / 60:.0f} minutes"
            emit(Warned(message=f"{what} and was expired (if it is alive, it checks its references again)"))


def _read(path: Path) -> dict[str, Seen]:
    try:
        return msgspec.msgpack.decode(path.read_bytes(), type=dict[str, Seen])
    except (OSError, msgspec.MsgspecError):
        return {}
