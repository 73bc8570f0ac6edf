"""At which ring everything was last where it belonged: a row of evidence in the manifest."""

import time

from drtool.errors import DrtoolError
from drtool.events import Emit, Warned
from drtool.manifest.ops import Record
from drtool.manifest.records import Evidence
from drtool.manifest.state import State
from drtool.model import SnapshotId
from drtool.repository import Repository

KIND = "rebalance"
FIRST_EPOCH = 1


def settled_epoch(state: State) -> int:
    """The ring epoch that a rebalance last brought everything to; the first, if none ever did."""
    for row in state.evidence:
        if row.kind == KIND and row.detail.isdecimal():
            return min(int(row.detail), state.ring_epoch)
    return min(FIRST_EPOCH, state.ring_epoch)


def settle_epoch(repository: Repository, epoch: int, emit: Emit) -> None:
    """Writes down that all is where the ring of that epoch wants it."""
    if settled_epoch(repository.view.state) == epoch:
        return
    row = Evidence("", KIND, SnapshotId(b""), time.time_ns(), str(epoch))
    try:
        repository.adopt(repository.manifest.commit(Record(evidence=(row,))).view)
    except DrtoolError as error:  # everything is in place; that nobody wrote it down costs a figure in the next preview
        emit(Warned(message=f"that everything is in place could not be recorded: {error.message}"))
