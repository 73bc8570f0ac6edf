"""Proven snapshots: all their data was read whole after they were taken.

With c copies of everything on n sites, any n - c + 1 sites hold at least one copy of each object, so that many must
have been read whole.
"""

from collections.abc import Iterable, Sequence

from msgspec import Struct

from drtool.manifest.records import Coverage, Snapshot
from drtool.manifest.state import State
from drtool.model import SiteName, site_of
from drtool.operations.objectives import Proven


class Reading(Struct, frozen=True):
    """Everything up to change `sequence` was read whole, completed at `time_ns`."""

    sequence: int
    time_ns: int


def last_verified(state: State, snapshot: Snapshot, copies: int | None) -> int | None:
    """Return when the reading of all of this snapshot's data, after it was taken, was complete. None: not yet."""
    return _complete_ns(_read_whole(state), _needed(state, copies), snapshot.sequence)


def newest_reading(state: State, copies: int | None) -> Reading | None:
    """Return the reading that proves most."""
    rows, needed = _read_whole(state), _needed(state, copies)
    sequences = sorted((row.sequence for row in rows), reverse=True)
    if len(sequences) < needed:
        return None
    sequence = sequences[needed - 1]
    complete_ns = _complete_ns(rows, needed, sequence)
    return None if complete_ns is None else Reading(sequence, complete_ns)


def newest_proven(rows: Iterable[Snapshot], reading: Reading | None) -> Snapshot | None:
    """Return the newest of these snapshots that `reading` proves."""
    proven = [row for row in rows if reading is not None and row.sequence <= reading.sequence]
    return max(proven, key=lambda row: (row.time_ns, row.sequence), default=None)


def proven_of(state: State, rows: Sequence[Snapshot], reading: Reading | None, now_ns: int) -> Proven:
    """Return the age of a source's newest proven snapshot, or how long the source has had none.

    Forgotten snapshots waited as well: if the oldest remaining one had a parent, the wait began with the last reading,
    or with the repository.
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
    """Return the records of storing sites that were read whole."""
    storing = _storing(state)
    return [row for row in state.coverage if row.level == "full" and row.site in storing]


def _complete_ns(rows: Iterable[Coverage], needed: int, sequence: int) -> int | None:
    """Return when the needed number of sites had been read after change `sequence`, or None if they have not."""
    times = sorted((row.time_ns for row in rows if row.sequence >= sequence), reverse=True)
    return times[needed - 1] if len(times) >= needed else None


def _age_s(time_ns: int, now_ns: int) -> float:
    return max(0, now_ns - time_ns) / 1e9
