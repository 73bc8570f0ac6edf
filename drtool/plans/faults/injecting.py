"""Injection of a fault: overlays are written, proven to be active, held, and always removed.

    with inject(overlays, injection) as fault:       # active, proven
        why = fault.hold(lambda: dependents_have_ended())
    fault.removed, fault.ended_at                     # the proof of undo

Invariants
    A target must answer before the fault, because otherwise its silence under the fault would prove nothing.
    No probe writes to a target: below the overlay is a read-only store.
    After the block the files are gone, or listed in `left`. The files of a killed process are removed by the next command,
    which sees that their owner is gone.
"""

import os
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal, TypeAlias

from msgspec import Struct

from drtool.errors import Refused, UsageError
from drtool.model import FaultKind, TargetName
from drtool.plans.faults.proving import Opener, check_answers, prove
from drtool.plans.interrupts import uninterrupted
from drtool.repository.overlays import LONGEST_S, OverlayFiles, OverlayRecord, Overlays, canonical
from drtool.repository.places import open_store
from drtool.repository.processes import boot_id, boot_time_s, this_process
from drtool.repository.spec import TargetSpec

LOOK_S = 0.2

Ending: TypeAlias = Literal["released", "expired", "stopped", "cleared"]
"""Why a fault ended: its dependents ended, its time was up, the kill switch, or a person cleared it."""


class Sufferer(Struct, frozen=True, kw_only=True):
    """A target for the fault, and for `corrupt` the objects there."""

    spec: TargetSpec
    objects: tuple[str, ...] = ()


class Injection(Struct, frozen=True, kw_only=True):
    """A fault to inject, which the guards have allowed."""

    run: str
    step: str
    kind: FaultKind
    sufferers: tuple[Sufferer, ...]
    duration_s: float
    seed: str = ""
    latency_s: float = 0.0
    bytes_per_second: int | None = None
    flip_bytes: int = 1
    kill_switch: str = ""
    """A file whose existence ends the fault, besides the one in the state directory."""


@dataclass
class Fault:
    """A fault while it is active, and afterwards the proof of its end. Times are RFC 3339, by the wall clock."""

    injection: Injection
    overlays: Overlays
    records: tuple[OverlayRecord, ...] = ()
    injected_at: str = ""
    ended_at: str = ""
    ended_by: Ending | None = None
    removed: bool = False
    left: list[Path] = field(default_factory=list)
    """Files that could not be removed."""

    @property
    def objects(self) -> tuple[str, ...]:
        """Every object that was corrupted, by its name at the target, sorted."""
        return tuple(sorted({name for record in self.records for name in record.objects}))

    @property
    def targets(self) -> tuple[TargetName, ...]:
        return tuple(record.target for record in self.records)

    @property
    def latest_end_s(self) -> float:
        """The remaining time until it ends without intervention."""
        return max((record.boot_deadline_s for record in self.records), default=0.0) - boot_time_s()

    def over(self) -> Ending | None:
        """Return why the fault is over, or None while it is fully active."""
        files = _files(self.overlays)
        if _switch(files, self.injection):
            return "stopped"
        if self.latest_end_s <= 0:
            return "expired"
        there = {record.id for record in files.read().records}
        return None if {record.id for record in self.records} <= there else "cleared"

    def hold(self, until: Callable[[], bool], look_s: float = LOOK_S) -> Ending:
        """Wait until `until()` is true or the fault is over, and return which. The kill switch and `fault clear` end it."""
        while not until():
            self.ended_by = self.over()
            if self.ended_by is not None:
                return self.ended_by
            time.sleep(min(look_s, max(0.0, self.latest_end_s)))
        self.ended_by = self.over() or "released"
        return self.ended_by


@contextmanager
def inject(overlays: Overlays, injection: Injection, opener: Opener = open_store) -> Iterator[Fault]:
    """Inject a fault and prove that it is active. Raises Refused if the kill switch is on or a target does not answer."""
    files = _files(overlays)
    _check(files, injection)
    for sufferer in injection.sufferers:
        check_answers(overlays, sufferer.spec, sufferer.objects, opener)
    fault = Fault(injection, overlays, tuple(_record(injection, sufferer) for sufferer in injection.sufferers))
    owner = os.getpid()
    try:
        _write(files, fault)
        for sufferer, record in zip(injection.sufferers, fault.records, strict=True):
            prove(overlays, sufferer.spec, record, opener)
        yield fault
    finally:
        if os.getpid() == owner:  # a forked child that leaves the block ends nothing
            with uninterrupted():
                _undo(files, fault)


def _check(files: OverlayFiles, injection: Injection) -> None:
    if not 0 < injection.duration_s <= LONGEST_S:
        raise UsageError(
            f"a fault must last more than 0 s and at most {LONGEST_S:.0f} s, not {injection.duration_s:g} s"
        )
    if injection.kind == "corrupt" and not all(sufferer.objects for sufferer in injection.sufferers):
        raise UsageError("a corrupt fault needs the objects to corrupt")
    if injection.kind == "slow" and injection.latency_s <= 0 and injection.bytes_per_second is None:
        raise UsageError("a slow fault needs a latency, a rate, or both")
    if not boot_id():
        raise Refused("this system has no boot id, so a fault might outlive its end; drills with faults need Linux")
    switch = _switch(files, injection)
    if switch:
        raise Refused(
            f"the kill switch {switch} is on, so nothing is injected", hint=f"remove {switch} to allow faults again"
        )


def _switch(files: OverlayFiles, injection: Injection) -> str:
    """Return the kill switch that is on, or an empty string."""
    paths = (str(files.stop_path), injection.kill_switch)
    return next((path for path in paths if path and os.path.lexists(path)), "")


def _write(files: OverlayFiles, fault: Fault) -> None:
    for record in fault.records:
        with uninterrupted():
            files.write(record)
    fault.injected_at = _now()
    fault.overlays.refresh()


def _undo(files: OverlayFiles, fault: Fault) -> None:
    if fault.ended_by is None and fault.injected_at:
        fault.ended_by = fault.over() or "released"
    for record in fault.records:
        try:
            files.remove(record.id)
        except OSError:
            fault.left.append(files.directory / f"{record.id}.json")
    fault.overlays.refresh()
    fault.removed = not fault.left
    fault.ended_at = _now()


def _record(injection: Injection, sufferer: Sufferer) -> OverlayRecord:
    return OverlayRecord(
        id=secrets.token_hex(8),
        run=injection.run,
        step=injection.step,
        kind=injection.kind,
        objects=tuple(sorted(set(sufferer.objects))),
        seed=injection.seed,
        flip_bytes=injection.flip_bytes,
        latency_s=injection.latency_s,
        bytes_per_second=injection.bytes_per_second,
        target=sufferer.spec.name,
        url=canonical(sufferer.spec.url),
        owner=this_process(),
        boot_deadline_s=boot_time_s() + injection.duration_s,
        injected_at=_now(),
        kill_switch=injection.kill_switch,
    )


def _files(overlays: Overlays) -> OverlayFiles:
    if overlays.files is None:
        raise UsageError("faults need a state directory")
    return overlays.files


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
