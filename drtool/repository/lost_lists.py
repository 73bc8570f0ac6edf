"""Lists of what prune takes away, of which no site has a whole copy any more: the changes that named them are taken back.

Such a list says which objects are condemned, or are being deleted. While it is lost, no writer can tell which packs it may refer
to, so nothing is stored until the change is taken back.

Invariants
    What was only condemned counts again: snapshots may need it.
    What was being removed is named by no index any more, and no session from before is open. So its removal is declared over, and
    what is left of it at the targets is waste like any other, which the next prune finds.
    A list counts as lost only if every voter answered and none has it. Nothing is harmed if it turns up later.
"""

from collections.abc import Iterator
from contextlib import closing
from typing import TYPE_CHECKING

from drtool.errors import NoQuorum, ObjectMissing, Rejected
from drtool.events import Emit, Warned
from drtool.manifest.ops import Removed, Withdraw
from drtool.manifest.records import Condemned, ObjectList, Removal

if TYPE_CHECKING:
    from drtool.manifest.facade import View
    from drtool.model import SessionId
    from drtool.repository.repository import Repository


def lost_lists(repository: "Repository", view: "View") -> Iterator[Condemned | Removal]:
    """Yield what was condemned or is being removed, where the list of it is lost."""
    state = view.state
    for row in (*([state.condemned] if state.condemned else ()), *state.removing):
        if _is_lost(repository, row.objects):
            yield row


def _is_lost(repository: "Repository", objects: ObjectList) -> bool:
    """Return whether no voter has the list. A site that votes no more and does not answer is not waited for."""
    for sites in ((), [voter.site for voter in repository.view.config.voters]):
        try:
            repository.manifest.names_in(objects, sites)
        except ObjectMissing:
            return True
        except NoQuorum:
            continue
        return False
    return False


def take_back(repository: "Repository", view: "View", session: "SessionId", emit: Emit) -> "View":
    """Take back, in the open prune session, every change whose list is lost; return the view after that."""
    for row in list(lost_lists(repository, view)):
        lost = f"the list of {row.objects.count} objects that prune was about to remove is lost"
        if isinstance(row, Condemned):
            emit(Warned(message=f"{lost}: none of them was removed, and they count again"))
            view = repository.manifest.commit(Withdraw(row.sequence, session)).view
        else:
            emit(Warned(message=f"{lost}: what is left of them is found as waste by the next prune"))
            view = repository.manifest.commit(Removed(row.sequence, row.pending, session)).view
    return view


def take_back_lost_lists(repository: "Repository", emit: Emit) -> bool:
    """Take them back in a prune session of its own; return whether there were any. A prune at work does so itself."""
    if not any(lost_lists(repository, repository.view)):
        return False
    with closing(repository.writer()) as writer:
        try:
            session = repository.begin(writer, "", "prune")
        except Rejected as error:
            if error.reason != "prune-open":
                raise
            return False
        try:
            repository.adopt(take_back(repository, session.view, session.id, emit))
        finally:
            session.abandon()
    return True
