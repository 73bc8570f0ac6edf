"""The commit of a change of the targets, based on the newest ring.

Invariants
    A concurrent change of the ring is not overwritten: this change is computed again on its result.
    While a mover removes copies, no target with copies is removed. A mover whose process is provably dead is ended
    first.
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
    """Commit the result of `rows_after` on the newest state, and return whether it changes anything.

    `session`: this process's own mover session, which ends with the change. `Rejected` if a mover is in the way for
    long. The adopted view is that of the change.
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
    """Commit the change together with the end of movers whose processes are dead."""
    gone = expiries(repository, (row for row in repository.view.state.sessions if row.kind == "mover"))
    return repository.manifest.commit([*gone, change]).view
