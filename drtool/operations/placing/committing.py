"""How a change of the targets comes into force: one commit, on the newest ring that there is.

Invariants
    Who changes the ring at the same moment is followed, not overruled: what is to be done is decided anew on what they left.
    While a mover takes copies away, no target with copies goes; a mover whose process is provably gone is ended first.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager

from drtool.errors import Rejected
from drtool.manifest.facade import View
from drtool.manifest.ops import SetRing
from drtool.manifest.state import State
from drtool.repository import Repository
from drtool.repository.ending import expiries, open_mover
from drtool.repository.membership import Rows
from drtool.repository.session import WriterSession
from drtool.repository.writing import Writer

PATIENCE_S = 20.0
POLL_S = 0.5
_AGAIN = ("ring-changed", "session-not-open", "mover-open")


@contextmanager
def movers_away(repository: Repository) -> Iterator[WriterSession]:
    """Hold the mover session, so that no copy is taken away between a look at the copies and what is decided by it.

    `Rejected` if another mover keeps it. Left without `set_rows`, the session ends here.
    """
    with closing(repository.writer()) as writer:
        session = _begin(repository, writer)
        try:
            yield session
        finally:
            session.abandon()


def _begin(repository: Repository, writer: Writer) -> WriterSession:
    deadline_s = time.monotonic() + PATIENCE_S
    while True:
        try:
            return repository.begin(writer, "", "mover")
        except Rejected as error:
            if error.reason != "mover-open" or time.monotonic() > deadline_s:
                raise _explained(error, repository) from None
            time.sleep(POLL_S)
            repository.adopt(repository.manifest.read())


def set_rows(repository: Repository, rows_after: Callable[[State], Rows], session: WriterSession | None = None) -> bool:
    """Put what `rows_after` makes of the newest state into force, and return whether that changes anything.

    `session` is this process's own mover session: it ends with the change. `Rejected` if a mover is in the way for long. The
    view that is adopted is the one of the change.
    """
    deadline_s = time.monotonic() + PATIENCE_S
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
                raise _explained(error, repository) from None
            if error.reason == "mover-open":
                time.sleep(POLL_S)
            repository.adopt(repository.manifest.read())
        else:
            repository.adopt(view)
            return True


def _commit(repository: Repository, change: SetRing) -> View:
    """With the end of movers whose processes are gone."""
    movers = expiries(repository, (row for row in repository.view.state.sessions if row.kind == "mover"))
    return repository.manifest.commit([*movers, change]).view


def _explained(error: Rejected, repository: Repository) -> Rejected:
    mover = open_mover(repository)
    if error.reason != "mover-open" or mover is None:
        return error
    return Rejected(error.reason, f"{error.message}: {mover.text}", hint=mover.hint)
