"""The ring epoch at which all copies were last in place, as a row of evidence in the manifest."""

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
    """Return the ring epoch that a rebalance last completed, or the first one if none did."""
    for row in state.evidence:
        if row.kind == KIND and row.detail.isdecimal():
            return min(int(row.detail), state.ring_epoch)
    return min(FIRST_EPOCH, state.ring_epoch)


def settle_epoch(repository: Repository, epoch: int, emit: Emit) -> None:
    """Record that all copies are where the ring of that epoch places them."""
    if settled_epoch(repository.view.state) == epoch:
        return
    row = Evidence("", KIND, SnapshotId(b""), time.time_ns(), str(epoch))
    try:
        repository.adopt(repository.manifest.commit(Record(evidence=(row,))).view)
    except DrtoolError as error:  # without the record, only a figure in the next preview is missing
        emit(Warned(message=f"the completed rebalance could not be recorded: {error.message}"))
