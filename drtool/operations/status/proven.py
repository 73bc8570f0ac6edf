"""Which snapshots are proven: all that they need was read whole after they were taken.

With c copies of everything on n sites, any n - c + 1 sites hold at least one of each: so many must have been read whole.
"""

from collections.abc import Iterable, Sequence

from msgspec import Struct

from drtool.manifest.records import Coverage, Snapshot
from drtool.manifest.state import State
from drtool.model import SiteName, site_of
from drtool.operations.objectives import Proven


class Reading(Struct, frozen=True):
    """Everything up to change `sequence` was read whole, and that was complete at `time_ns`."""

    sequence: int
    time_ns: int


def last_verified(state: State, snapshot: Snapshot, copies: int | None) -> int | None:
    """Since when all that this snapshot needs was read after it was taken."""
    return _complete_ns(_read_whole(state), _needed(state, copies), snapshot.sequence)


def newest_reading(state: State, copies: int | None) -> Reading | None:
    """The reading that proves most."""
    rows, needed = _read_whole(state), _needed(state, copies)
    sequences = sorted((row.sequence for row in rows), reverse=True)
    if len(sequences) < needed:
        return None
    sequence = sequences[needed - 1]
    complete_ns = _complete_ns(rows, needed, sequence)
    return None if complete_ns is None else Reading(sequence, complete_ns)


def newest_proven(rows: Iterable[Snapshot], reading: Reading | None) -> Snapshot | None:
    """The newest of these snapshots that `reading` proves."""
    proven = [row for row in rows if reading is not None and row.sequence <= reading.sequence]
    return max(proven, key=lambda row: (row.time_ns, row.sequence), default=None)


def proven_of(state: State, rows: Sequence[Snapshot], reading: Reading | None, now_ns: int) -> Proven:
    """How old the newest proven snapshot of a source is; or for how long nothing of the source was proven.

    Snapshots that were forgotten waited as well: where the oldest that is left had a parent, the wait began with the last
    reading, or with the repository.
    """
    newest = newest_proven(rows, reading)
    if newest is not None:
        return Proven(age_s=_age_s(newest.time_ns, now_ns), ever=True)
    oldest = min(rows, key=lambda row: row.sequence)
    if oldest.parent is None:
        return Proven(age_s=_age_s(oldest.time_ns, now_ns), ever=False)
    begun_ns = reading.time_ns if reading else min((slot.time_ns for slot in state.keys.slots), default=oldest.time_ns)
    return Proven(age_s=_age_s(begun_ns, now_ns), ever=False)


def _storing(state: State) -> set[SiteName]:
    return {site_of(row.name) for row in state.targets if not row.votes_only and row.state != "lost"}


def _needed(state: State, copies: int | None) -> int:
    return max(1, len(_storing(state)) - (copies or 0) + 1)


def _read_whole(state: State) -> list[Coverage]:
    """What says that a site that stores was read whole."""
    storing = _storing(state)
    return [row for row in state.coverage if row.level == "full" and row.site in storing]


def _complete_ns(rows: Iterable[Coverage], needed: int, sequence: int) -> int | None:
    """When so many sites had been read after change `sequence`; None: they have not."""
    times = sorted((row.time_ns for row in rows if row.sequence >= sequence), reverse=True)
    return times[needed - 1] if len(times) >= needed else None


def _age_s(time_ns: int, now_ns: int) -> float:
    return max(0, now_ns - time_ns) / 1e9
