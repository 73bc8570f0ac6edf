"""The faults in force on this host at present, and stores that apply them.

Invariants
    The directory is read at most once every `LOOK_S`, by the next call. So a process that opened its stores before a
    fault, or slept through its end, still observes both. Without the directory this costs one failing system call.
    The expiry of an overlay is checked with the clock since boot, at every call.
"""

import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TypeAlias

from drtool.model import TargetName
from drtool.repository.overlays.files import OverlayFiles, Swept
from drtool.repository.overlays.record import OverlayRecord, canonical
from drtool.repository.processes import boot_time_s
from drtool.repository.spec import TargetSpec
from drtool.stores import Medium, VoterStore
from drtool.stores.overlay import OverlaidMedium, OverlaidStore, Overlay, refuse

LOOK_S = 0.2

_Known: TypeAlias = tuple[tuple[tuple[str, int, int], ...], tuple[OverlayRecord, ...]]
"""The signature of the directory, and its overlays at that time."""


class Overlays:
    """The overlays of one state directory, shared by all stores of this process. None: no directory."""

    def __init__(self, state_dir: Path | None, *, clock: Callable[[], float] = boot_time_s) -> None:
        self.files = None if state_dir is None else OverlayFiles(state_dir)
        self._clock = clock
        self._look_again_at = 0.0
        self._wanted, self._looked = 0, 0
        self._known: _Known = ((), ())
        self._live: tuple[OverlayRecord, ...] = ()

    def in_force(self) -> tuple[OverlayRecord, ...]:
        """Return every overlay that is in force now."""
        if self.files is None:
            return ()
        if time.monotonic() >= self._look_again_at or self._looked != self._wanted:
            self._look(self.files)
        if not self._live:
            return ()
        now_s = self._clock()
        return tuple(record for record in self._live if now_s < record.boot_deadline_s)

    def _look(self, files: OverlayFiles) -> None:
        # no lock, since processes fork: several threads may look at once, and each waits only for its own look
        wanted = self._wanted
        signature, (before, known) = files.signature(), self._known
        if signature != before:
            known = files.read().records
            self._known = (signature, known)
        self._live = self._of_those(files, known)
        self._looked, self._look_again_at = wanted, time.monotonic() + LOOK_S

    def _of_those(self, files: OverlayFiles, known: Sequence[OverlayRecord]) -> tuple[OverlayRecord, ...]:
        """Return those that are in force."""
        if not known:
            return ()
        now_s, stopped = self._clock(), files.stopped()
        return tuple(record for record in known if record.state(now_s, stopped=stopped) == "in force")

    def refresh(self) -> None:
        """Make the next call read the directory."""
        self._wanted += 1

    def opened(self, spec: TargetSpec, opener: Callable[[TargetSpec], VoterStore]) -> VoterStore:
        """Return a target's store that applies the faults in force. One that a drill keeps offline is not even opened."""
        if self.files is None:
            return opener(spec)
        return OverlaidStore(opener(spec), self._reached(spec))

    def opened_place(self, spec: TargetSpec, opener: Callable[[TargetSpec], Medium]) -> Medium:
        """Return the same for a place that is inspected from outside."""
        if self.files is None:
            return opener(spec)
        return OverlaidMedium(opener(spec), self._reached(spec))

    def _reached(self, spec: TargetSpec) -> "AtPlace":
        place = AtPlace(self, spec.name, canonical(spec.url))
        for overlay in place.now():
            if overlay.kind == "offline":
                refuse(overlay, spec.url)
        return place

    def sweep(self) -> Swept:
        """Remove ended faults from the directory."""
        swept = Swept() if self.files is None else self.files.sweep()
        self.refresh()
        return swept

    def problems(self) -> list[str]:
        """Return the faults in force, in sentences."""
        return [sentence(record, self._clock()) for record in self.in_force()]


class AtPlace:
    """The faults in force at one place."""

    def __init__(self, overlays: Overlays, target: TargetName, url: str) -> None:
        self._overlays, self._target, self._url = overlays, target, url

    def now(self) -> Sequence[Overlay]:
        found = self._overlays.in_force()
        return [record for record in found if record.at(self._target, self._url)] if found else ()

    def replaced(self, overlay: Overlay, name: str) -> None:
        if self._overlays.files is not None:
            self._overlays.files.end_object(overlay.id, name)
        self._overlays.refresh()


NO_OVERLAYS = Overlays(None)

_IS = {"offline": "offline", "slow": "slow", "read-only": "read-only", "full": "full"}


def sentence(record: OverlayRecord, boot_now_s: float) -> str:
    """Return `target paris/nas is offline by a drill's fault until 2026-11-23T14:05:00Z (run R, step S)`."""
    left_s = max(0.0, record.boot_deadline_s - boot_now_s)
    until = (datetime.now(UTC) + timedelta(seconds=left_s)).strftime("%Y-%m-%dT%H:%M:%SZ")
    what = _IS.get(record.kind) or f"returning {len(record.objects)} corrupted objects"
    return f"target {record.target} is {what} by a drill's fault until {until} (run {record.run}, step {record.step})"


def warnings(swept: Swept) -> list[str]:
    """Return the report of a sweep, one line per kind, or an empty list."""
    lines = []
    if swept.dropped:
        words = ", ".join(
            f"{row.record.kind} at {row.record.target} (run {row.record.run}: {_WHY[row.state]})"
            for row in swept.dropped
        )
        lines.append(f"ended faults of a drill were removed: {words}")
    if swept.left:
        words = ", ".join(f"{row.name} ({row.reason})" for row in swept.left)
        lines.append(
            f"faults of a drill have ended, but their files cannot be removed: {words} (they have no effect any more)"
        )
    if swept.bad:
        words = ", ".join(f"{row.name} ({row.reason})" for row in swept.bad)
        lines.append(f"ignored in the directory of faults: {words}; drtool fault clear removes them")
    return lines


_WHY = {"expired": "its time was up", "owner gone": "its process is gone", "stopped": "the kill switch is on"}
