"""How a change of the targets comes into force: one commit, on the newest ring that there is.

Invariants
    Who changes the ring at the same moment is followed, not overruled: what is to be done is decided anew on what they left.
    While somebody takes copies away, the ring stays as it is; a mover whose process is provably gone stops nobody.
"""

import time
from collections.abc import Callable

from drtool.errors import Rejected
from drtool.manifest.ops import SetRing
from drtool.manifest.state import State
from drtool.repository import Repository
from drtool.repository.ending import expiries
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
        movers = expiries(repository, (row for row in state.sessions if row.kind == "mover"))
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
