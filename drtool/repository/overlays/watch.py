"""What is in force on this host at the moment, and stores that heed it.

Invariants
    The directory is looked at no more often than every `LOOK_S`, by whichever call comes then; a process that opened its stores
    before a fault, or sleeps through its end, still sees both. Without the directory that is one failing call.
    Whether an overlay has expired is asked of the clock since boot, at every call.
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
"""What was read, and the signature that the directory had then."""


class Overlays:
    """The overlays of one state directory, as this process knows them; None: there is none. Shared by all its stores."""

    def __init__(self, state_dir: Path | None, *, clock: Callable[[], float] = boot_time_s) -> None:
        self.files = None if state_dir is None else OverlayFiles(state_dir)
        self._clock = clock
        self._look_again_at = 0.0
        self._wanted, self._looked = 0, 0
        self._known: _Known = ((), ())
        self._live: tuple[OverlayRecord, ...] = ()

    def in_force(self) -> tuple[OverlayRecord, ...]:
        """Every overlay that is in force now."""
        if self.files is None:
            return ()
        if time.monotonic() >= self._look_again_at or self._looked != self._wanted:
            self._look(self.files)
        if not self._live:
            return ()
        now_s = self._clock()
        return tuple(record for record in self._live if now_s < record.boot_deadline_s)

    def _look(self, files: OverlayFiles) -> None:
        # without a lock, since processes fork: several threads may look at once, and none goes on before it has looked
        wanted = self._wanted
        signature, (before, known) = files.signature(), self._known
        if signature != before:
            known = files.read().records
            self._known = (signature, known)
        self._live = self._of_those(files, known)
        self._looked, self._look_again_at = wanted, time.monotonic() + LOOK_S

    def _of_those(self, files: OverlayFiles, known: Sequence[OverlayRecord]) -> tuple[OverlayRecord, ...]:
        """Those that are in force."""
        if not known:
            return ()
        now_s, stopped = self._clock(), files.stopped()
        return tuple(record for record in known if record.state(now_s, stopped=stopped) == "in force")

    def refresh(self) -> None:
        """The next call looks at the directory."""
        self._wanted += 1

    def opened(self, spec: TargetSpec, opener: Callable[[TargetSpec], VoterStore]) -> VoterStore:
        """A target's store under whatever is in force there; what a drill keeps offline is not even opened."""
        if self.files is None:
            return opener(spec)
        return OverlaidStore(opener(spec), self._reached(spec))

    def opened_place(self, spec: TargetSpec, opener: Callable[[TargetSpec], Medium]) -> Medium:
        """The same for a place that is looked at from outside."""
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
        """Removes what is over from the directory."""
        swept = Swept() if self.files is None else self.files.sweep()
        self.refresh()
        return swept

    def problems(self) -> list[str]:
        """What is in force, in sentences."""
        return [sentence(record, self._clock()) for record in self.in_force()]


class AtPlace:
    """What is in force at one place."""

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
    """`target paris/nas is offline by a drill's fault until 2026-11-23T14:05:00Z (run R, step S)`."""
    left_s = max(0.0, record.boot_deadline_s - boot_now_s)
    until = (datetime.now(UTC) + timedelta(seconds=left_s)).strftime("%Y-%m-%dT%H:%M:%SZ")
    what = _IS.get(record.kind) or f"giving {len(record.objects)} objects back corrupted"
    return f"target {record.target} is {what} by a drill's fault until {until} (run {record.run}, step {record.step})"


def warnings(swept: Swept) -> list[str]:
    """What a sweep has to tell, one line a kind; empty if it found nothing."""
    lines = []
    if swept.dropped:
        words = ", ".join(
            f"{row.record.kind} at {row.record.target} (run {row.record.run}: {_WHY[row.state]})"
            for row in swept.dropped
        )
        lines.append(f"faults of a drill that were over are removed: {words}")
    if swept.left:
        words = ", ".join(f"{row.name} ({row.reason})" for row in swept.left)
        lines.append(
            f"faults of a drill are over, but their files cannot be removed: {words}; they do nothing any more"
        )
    if swept.bad:
        words = ", ".join(f"{row.name} ({row.reason})" for row in swept.bad)
        lines.append(f"ignored in the directory of faults: {words}; drtool fault clear removes them")
    return lines


_WHY = {"expired": "its time was up", "owner gone": "its process is gone", "stopped": "the kill switch is on"}
