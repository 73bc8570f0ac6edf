"""Lost lists of prune: if no site has a whole copy of a list of objects, the change that named it is taken back.

Such a list names the objects that are condemned or being deleted. While it is lost, a writer cannot determine which
packs it may reference, so nothing is stored until the change is taken back.

Invariants
    Objects that were only condemned count again, since snapshots may need them.
    Objects that were being removed are named by no index, and no earlier session is open. So their removal is declared
    complete, and any remaining copies at the targets are waste, which the next prune finds.
    A list counts as lost only if every voter answered and none has it. If it turns up later, that does no harm.
"""

from collections.abc import Iterator
from contextlib import closing
from typing import TYPE_CHECKING

from drtool.errors import NoQuorum, ObjectMissing, Rejected
from drtool.events import Emit, Warned
from drtool.manifest.ops import Removed, Withdraw
from drtool.manifest.records import Condemned, ObjectList, Removal
from drtool.model import counted

if TYPE_CHECKING:
    from drtool.manifest.facade import View
    from drtool.model import SessionId
    from drtool.repository.repository import Repository


def lost_lists(repository: "Repository", view: "View") -> Iterator[Condemned | Removal]:
    """Yield the condemned and removed rows whose list is lost."""
    state = view.state
    for row in (*([state.condemned] if state.condemned else ()), *state.removing):
        if _is_lost(repository, row.objects):
            yield row


def _is_lost(repository: "Repository", objects: ObjectList) -> bool:
    """Return whether no voter has the list. A site that no longer votes and does not answer is not waited for."""
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
    """Take back, in the open prune session, every change whose list is lost. Return the view after that."""
    for row in list(lost_lists(repository, view)):
        lost = f"the list of {counted(row.objects.count, 'object')} that prune was about to remove is lost"
        if isinstance(row, Condemned):
            emit(Warned(message=f"{lost}: none of them was removed, and they count again"))
            view = repository.manifest.commit(Withdraw(row.sequence, session)).view
        else:
            emit(Warned(message=f"{lost}: the next prune finds their remaining copies as waste"))
            view = repository.manifest.commit(Removed(row.sequence, row.pending, session)).view
    return view


def take_back_lost_lists(repository: "Repository", emit: Emit) -> bool:
    """Take them back in a separate prune session, and return whether there were any. A running prune does so itself."""
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
