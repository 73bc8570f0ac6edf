"""How a change of the targets comes into force: one commit, on the newest ring that there is.

Invariants
    Who changes the ring at the same moment is followed, not overruled: what is to be done is decided anew on what they left.
    While somebody takes copies away, the ring stays as it is; a mover whose process is provably gone stops nobody.
"""

import time
from collections.abc import Callable, Iterable

from drtool.errors import Rejected
from drtool.manifest.ops import ExpireSession, SetRing
from drtool.manifest.records import Session
from drtool.manifest.state import State
from drtool.repository import Repository
from drtool.repository.identity import gone, identify
from drtool.repository.membership import Rows

PATIENCE_S = 20.0
POLL_S = 0.5
_AGAIN = ("ring-changed", "session-not-open", "mover-open")


def set_rows(repository: Repository, rows_after: Callable[[State], Rows]) -> bool:
    """Puts what `rows_after` makes of the newest state into force; False if that changes nothing.

    `Rejected` if somebody keeps taking copies away. The view that is adopted is the one of the change.
    """
    deadline_s = time.monotonic() + PATIENCE_S
    while True:
        state = repository.view.state
        rows = rows_after(state)
        if set(rows) == set(state.targets):
            return False
        movers = _dead(repository, [row for row in state.sessions if row.kind == "mover"])
        try:
            committed = repository.manifest.commit([*movers, SetRing(state.ring_epoch + 1, rows)])
        except Rejected as error:
            if error.reason not in _AGAIN or time.monotonic() > deadline_s:
                raise _explained(error, repository.view.state) from None
            if error.reason == "mover-open":
                time.sleep(POLL_S)
            repository.adopt(repository.manifest.read())
        else:
            repository.adopt(committed.view)
            return True


def end_dead_sessions(repository: Repository) -> None:
    """Ends the sessions of this host whose processes are gone; what those had sent is settled first."""
    while dead := _dead(repository, repository.view.state.sessions):
        repository.manifest.settle()
        try:
            repository.adopt(repository.manifest.commit(dead).view)
        except Rejected as error:
            if error.reason != "session-not-open":
                raise
            repository.adopt(repository.manifest.read())


def _dead(repository: Repository, sessions: Iterable[Session]) -> list[ExpireSession]:
    ids = gone(sessions, identify(repository.spec.state_dir))
    return [ExpireSession(expired=session) for session in ids]


def _explained(error: Rejected, state: State) -> Rejected:
    mover = next((row for row in state.sessions if row.kind == "mover"), None)
    if error.reason != "mover-open" or mover is None:
        return error
    return Rejected(
        error.reason,
        f"the ring cannot change while process {mover.pid} on {mover.host} takes copies away",
        hint="wait until its rebalance or repair is done; if it is gone for good: "
        f"drtool session expire {mover.id.hex()[:8]}",
    )
