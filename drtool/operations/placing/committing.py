"""How a change of the targets comes into force: one commit, on the newest ring that there is.

Invariants
    Who changes the ring at the same moment is followed, not overruled: what is to be done is decided anew on what they left.
    While a mover takes copies away, no target with copies goes; a mover whose process is provably gone is ended first.
"""

import time
from collections.abc import Callable

from drtool.errors import Rejected
from drtool.manifest.facade import View
from drtool.manifest.ops import SetRing
from drtool.manifest.state import State
from drtool.repository import Repository, movers
from drtool.repository.ending import expiries
from drtool.repository.membership import Rows
from drtool.repository.movers import explained
from drtool.repository.session import WriterSession

_AGAIN = ("ring-changed", "session-not-open", "mover-open")


def set_rows(repository: Repository, rows_after: Callable[[State], Rows], session: WriterSession | None = None) -> bool:
    """Put what `rows_after` makes of the newest state into force, and return whether that changes anything.

    `session` is this process's own mover session: it ends with the change. `Rejected` if a mover is in the way for long. The
    view that is adopted is the one of the change.
    """
    deadline_s = time.monotonic() + movers.PATIENCE_S
    while True:
        state = repository.view.state
        rows = rows_after(state)
        if set(rows) == set(state.targets):
            return False
        change = SetRing(state.ring_epoch + 1, rows)
        try:
            view = session.close_with([change]) if session is not None else _commit(repository, change)
        except Rejected as error:
            if error.reason not in _AGAIN or time.monotonic() > deadline_s:
                raise explained(error, repository) from None
            if error.reason == "mover-open":
                time.sleep(movers.POLL_S)
            repository.adopt(repository.manifest.read())
        else:
            repository.adopt(view)
            return True


def _commit(repository: Repository, change: SetRing) -> View:
    """With the end of movers whose processes are gone."""
    gone = expiries(repository, (row for row in repository.view.state.sessions if row.kind == "mover"))
    return repository.manifest.commit([*gone, change]).view
