"""Removal of surplus copies, under the only mover session.

Invariants
    A copy is removed only after every desired place returned the object whole, read while the session was open. No
    other run removes copies meanwhile, so those places still have it when the copy is removed.
    The session is checked before each batch of deletions, and again if the last check is more than a second old or the
    machine stood still. It may have expired meanwhile, or have been closed before the machine was restored from a
    snapshot.
    The ring may change while copies are removed. The rest is then planned again, since other copies are surplus now.
"""

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from itertools import count
from typing import TYPE_CHECKING, Literal, TypeAlias

from msgspec import Struct

from drtool.errors import Rejected
from drtool.events import Emit, Warned
from drtool.repository.copying import Amount, Outcome, is_whole, remove
from drtool.repository.ending import SHORT_ID, open_mover
from drtool.repository.findings import Copy
from drtool.repository.processes import ClockWatch
from drtool.repository.session import NOT_OPEN
from drtool.repository.writing import Writer
from drtool.ring import Ring

if TYPE_CHECKING:
    from drtool.repository.repository import Repository
    from drtool.repository.session import WriterSession

BATCH_OBJECTS = 16
BATCH_BYTES = 128 * 1024**2

Stopped: TypeAlias = Literal["", "mover-open", "ring-changed", "expired"]


class Taken(Struct, frozen=True):
    """The removed copies, and why some remain: for people in `why`, with the way out in `hint`.

    `mover-open`: another mover's session is open. `ring-changed`: the rest must be planned again. `expired`: this
    session was ended from outside.
    """

    removed: Amount = Amount()
    stopped: Stopped = ""
    why: str = ""
    hint: str = ""


class Surplus:
    """Removes the surplus of jobs that were planned for `ring`."""

    def __init__(self, repository: "Repository", ring: Ring, workers: int, emit: Emit) -> None:
        self._repository, self._ring, self._workers, self._emit = repository, ring, workers, emit
        self._watch = ClockWatch()
        self._removed = Amount()
        self._unanswered: set[Copy] = set()
        """Deletions that were begun without a known outcome, so they may still take effect."""

    def take(self, outcomes: Iterable[Outcome]) -> Taken:
        """Delete the removable copies of `outcomes`, as far as the others are whole."""
        due = [outcome for outcome in outcomes if outcome.removable]
        if not due:
            return Taken()
        with closing(self._repository.writer()) as writer:
            session = self._begin(writer)
            if session is None:
                return self._turned_away()
            self._removed = Amount()
            try:
                stopped = self._take(due, session)
            finally:
                self._end(session)
        if stopped == "expired":
            return Taken(self._removed, stopped, _EXPIRED.format(session.id.hex()[:SHORT_ID]), _EXPIRED_HINT)
        return Taken(self._removed, stopped, _RING_CHANGED if stopped else "", _AGAIN if stopped else "")

    def _begin(self, writer: Writer) -> "WriterSession | None":
        """Return the mover session, or None while another mover has it. The second attempt detects whether it died."""
        for _ in range(2):
            try:
                return self._repository.begin(writer, "", "mover")
            except Rejected as error:
                if error.reason != "mover-open":
                    raise
                self._repository.adopt(self._repository.manifest.read())
        return None

    def _turned_away(self) -> Taken:
        mover = open_mover(self._repository)
        if mover is None:
            return Taken(Amount(), "mover-open", f"{_STAY}, since movers keep coming", _AGAIN)
        return Taken(Amount(), "mover-open", f"{_STAY}: {mover.text}", mover.hint)

    def _end(self, session: "WriterSession") -> None:
        """Close the session, unless a deletion may still take effect: it could hit a copy that the next ring promises.

        Such a session ends when a later run on this host finds that its process has ended.
        """
        if not self._unanswered:
            session.abandon()
            return
        where = ", ".join(sorted({target for target, _ in self._unanswered}))
        self._emit(
            Warned(message=f"{where} did not confirm a deletion, so no copies are removed until the next run checks")
        )

    def _take(self, due: Sequence[Outcome], session: "WriterSession") -> Stopped:
        for batch in _batches(due):
            whole = self._whole(batch)
            stopped = self._standing(session)
            if stopped:
                return stopped
            stopped = self._delete(whole, session)
            if stopped:
                return stopped
        return ""

    def _whole(self, batch: Sequence[Outcome]) -> list[Outcome]:
        """Return the objects that every desired place returns whole. Damaged copies are recorded for `repair`."""
        copies = [(name, outcome.job.expected.name) for outcome in batch for name in outcome.job.expected.desired]
        targets = self._repository.targets
        threads = ThreadPoolExecutor(self._workers, "read")
        try:
            states = list(threads.map(lambda copy: is_whole(targets, *copy), copies))
        finally:
            threads.shutdown(cancel_futures=True)
        damaged = [copy for copy, whole in zip(copies, states, strict=True) if whole is False]
        if damaged:
            self._repository.findings.update(damaged, ())
        without = {name for (_, name), whole in zip(copies, states, strict=True) if not whole}
        return [outcome for outcome in batch if outcome.job.expected.name not in without]

    def _delete(self, batch: Iterable[Outcome], session: "WriterSession") -> Stopped:
        for outcome in batch:
            for target in outcome.removable:
                stopped = self._delete_patiently((target, outcome.job.expected.name), outcome, session)
                if stopped:
                    return stopped
        return ""

    def _delete_patiently(self, copy: Copy, outcome: Outcome, session: "WriterSession") -> Stopped:
        """Delete a copy. After a wait for its server, the session is checked again before anything is sent."""
        for attempt in count():
            stopped = self._standing(session) if attempt or self._watch.stood_still() else ""
            if stopped:
                return stopped
            self._delete_one(copy, outcome.job.expected.size_bytes)
            if not self._repository.targets.wait_to_write([copy[0]], attempt):
                return ""
        raise AssertionError("unreachable")

    def _delete_one(self, copy: Copy, size_bytes: int) -> None:
        self._unanswered.add(copy)  # before it begins, since Ctrl-C may leave it in flight
        gone = remove(self._repository.targets, *copy)
        if gone is not None:
            self._unanswered.discard(copy)
        if gone:
            self._removed += Amount(1, size_bytes)

    def _standing(self, session: "WriterSession") -> Stopped:
        """Check whether the session is still open, and the ring is still the planned one."""
        self._watch = ClockWatch()  # before the check, so that a pause during it counts
        try:
            session.renew()
        except Rejected as error:
            if error.reason != NOT_OPEN:
                raise
            return "expired"
        state = self._repository.manifest.read().state
        if state.session(session.id) is None:
            return "expired"
        return "" if state.ring == self._ring else "ring-changed"


_STAY = "surplus copies remain"
_AGAIN = "run it again"
_RING_CHANGED = f"{_STAY}, since the ring changed meanwhile"
_EXPIRED = f"{_STAY}: session {{}} of this run expired while it removed copies, so it stopped"
_EXPIRED_HINT = "find out why it ended, and whether a copy of this machine runs, then run it again"


def _batches(outcomes: Iterable[Outcome]) -> Iterator[list[Outcome]]:
    batch: list[Outcome] = []
    size_bytes = 0
    for outcome in outcomes:
        batch.append(outcome)
        size_bytes += outcome.job.expected.size_bytes
        if len(batch) >= BATCH_OBJECTS or size_bytes >= BATCH_BYTES:
            yield batch
            batch, size_bytes = [], 0
    if batch:
        yield batch
