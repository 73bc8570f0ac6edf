"""Exclusion of movers while a change is judged that removes a target with copies from the ring.

A mover removes a copy because it has read the others. So no target may go between an inspection of the copies and the
decision based on it, unless the mover session is held meanwhile.
"""

import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING

from drtool.errors import Rejected
from drtool.repository.ending import open_mover

if TYPE_CHECKING:
    from drtool.repository.repository import Repository
    from drtool.repository.session import WriterSession
    from drtool.repository.writing import Writer

PATIENCE_S = 20.0
POLL_S = 0.5


@contextmanager
def movers_away(repository: "Repository") -> Iterator["WriterSession"]:
    """Hold the mover session. `Rejected`, with its owner and the way out, if another mover keeps it for long.

    If the caller leaves without the change that it is held for, the session ends here.
    """
    with closing(repository.writer()) as writer:
        session = _begin(repository, writer)
        try:
            yield session
        finally:
            session.abandon()


def _begin(repository: "Repository", writer: "Writer") -> "WriterSession":
    deadline_s = time.monotonic() + PATIENCE_S
    while True:
        try:
            return repository.begin(writer, "", "mover")
        except Rejected as error:
            if error.reason != "mover-open" or time.monotonic() > deadline_s:
                raise explained(error, repository) from None
            time.sleep(POLL_S)
            repository.adopt(repository.manifest.read())


def explained(error: Rejected, repository: "Repository") -> Rejected:
    """Return the error with the mover that is in the way, if there is one, and what to do about it."""
    mover = open_mover(repository)
    if error.reason != "mover-open" or mover is None:
        return error
    return Rejected(error.reason, f"{error.message}: {mover.text}", hint=mover.hint)
