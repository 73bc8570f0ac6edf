"""The end of sessions whose processes are gone, as far as this host can prove it."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from drtool.errors import Rejected
from drtool.manifest.ops import ExpireSession
from drtool.manifest.records import Session
from drtool.repository.identity import gone, identify

if TYPE_CHECKING:
    from drtool.repository.repository import Repository


def expiries(repository: "Repository", sessions: Iterable[Session]) -> list[ExpireSession]:
    """The ops that end those of `sessions` that were this host's and have nobody behind them any more."""
    ids = gone(sessions, identify(repository.spec.state_dir))
    return [ExpireSession(expired=session) for session in ids]


def end_dead_sessions(repository: "Repository") -> None:
    """Ends every such session; what its process had sent is settled first, so that it comes before the end."""
    while dead := expiries(repository, repository.view.state.sessions):
        repository.manifest.settle()
        try:
            repository.adopt(repository.manifest.commit(dead).view)
        except Rejected as error:
            if error.reason != "session-not-open":
                raise
            repository.adopt(repository.manifest.read())
