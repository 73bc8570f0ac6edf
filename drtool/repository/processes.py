"""A process of this machine, identified by boot, pid namespace, pid and start time, so that no other is mistaken for
it.

Invariants
    A process is reported gone only with proof: the same machine, and another boot, or the same pid namespace without
    that pid and start time. A process that is hidden from this user (`hidepid`) is not reported gone.
    Nothing depends on the wall clock. Time is counted since the boot, including sleep.
"""

import os
import time
from pathlib import Path
from typing import Literal, TypeAlias

from msgspec import Struct

Standing: TypeAlias = Literal["alive", "gone", "elsewhere", "unknown"]
"""alive, gone: proven, on this machine. elsewhere: on another machine. unknown: cannot be determined from here."""

STILL_S = 1.0
"""A longer pause counts as standing still. No other process takes over in less."""
_JITTER_S = 0.5
_DEAD = (b"Z", b"X")
_FIRST_TIME_NAMESPACE = "time:[4026531834]"
"""The kernel gives its first time namespace this number (PROC_TIME_INIT_INO)."""


class ProcessMark(Struct, frozen=True, kw_only=True):
    """One process as recorded in a file. Empty ids: the system does not provide them."""

    machine_id: str
    boot_id: str
    pid_namespace: str
    pid: int
    start_time: int
    """Clock ticks since boot."""

    def standing(self) -> Standing:
        """Return what is certain about that process, as seen from this one."""
        if self.machine_id != machine_id():
            return "elsewhere"
        if not self.boot_id or not boot_id():
            return "unknown"
        if self.boot_id != boot_id():
            return "gone"
        if not self.pid_namespace or self.pid_namespace != pid_namespace():
            return "unknown"
        return life_of(self.pid, self.start_time)


def this_process() -> ProcessMark:
    """Return the calling process."""
    pid = os.getpid()
    return ProcessMark(
        machine_id=machine_id(),
        boot_id=boot_id(),
        pid_namespace=pid_namespace(),
        pid=pid,
        start_time=start_time(pid) or 0,
    )


def boot_time_s() -> float:
    """Return the seconds since this machine was started, including sleep. This clock cannot be set."""
    clock = getattr(time, "CLOCK_BOOTTIME", None)
    return time.monotonic() if clock is None else time.clock_gettime(clock)


def machine_id() -> str:
    return _line("/etc/machine-id")


def boot_id() -> str:
    return _line("/proc/sys/kernel/random/boot_id")


def pid_namespace() -> str:
    """Return the pid namespace of this process, or an empty string if it cannot be determined.

    In a separate time namespace, start times are counted from another moment, so its id is part of the answer.
    """
    try:
        name, clock = os.readlink("/proc/self/ns/pid"), _time_namespace()
    except OSError:
        return ""
    return name if clock == _FIRST_TIME_NAMESPACE else f"{name} {clock}"


def _time_namespace() -> str:
    try:
        return os.readlink("/proc/self/ns/time")
    except FileNotFoundError:  # kernels before 5.6 have only one
        return _FIRST_TIME_NAMESPACE


def start_time(pid: int) -> int | None:
    """Return the start of a process in clock ticks since boot, or None for a zombie or an invisible process."""
    fields = _stat(pid)
    return None if fields is None or fields[0] in _DEAD else int(fields[19])


def life_of(pid: int, started: int) -> Literal["alive", "gone", "unknown"]:
    """Return what is certain about the process `pid` of this pid namespace that started at `started`."""
    if pid <= 0:
        return "unknown"
    fields = _stat(pid)
    if fields is None:
        return _life_unseen(pid)
    if fields[0] in _DEAD:
        return "gone"
    if not started:
        return "unknown"
    return "alive" if int(fields[19]) == started else "gone"


def _life_unseen(pid: int) -> Literal["gone", "unknown"]:
    """Return whether a process without an entry in /proc is gone. The entry may only be hidden from this user."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return "gone"
    except (PermissionError, OverflowError):
        return "unknown"
    return "unknown"


def _stat(pid: int) -> list[bytes] | None:
    """Return the fields of /proc/PID/stat after the command's name."""
    try:
        return Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
    except OSError:
        return None


class ClockWatch:
    """Detects whether this process or its machine stood still since the last look: SIGSTOP, suspend, a restored VM
    snapshot.

    A process cannot see that it was stopped, but the clocks disagree afterwards: the boot clock went on while this
    process did nothing, it counted a sleep that the monotonic clock left out, or the wall clock was corrected after a
    restore.
    """

    def __init__(self) -> None:
        self._before = _clocks()

    def stood_still(self) -> bool:
        """Return whether the time since the last look is unaccounted for, and begin the next interval."""
        before, self._before = self._before, _clocks()
        elapsed, slept, corrected = (now - then for now, then in zip(self._before, before, strict=True))
        return not 0 <= elapsed <= STILL_S or abs(slept) > _JITTER_S or abs(corrected) > STILL_S


def _clocks() -> tuple[float, float, float]:
    """Return the boot clock, the sleep that it counted, and how far the wall clock is ahead of it."""
    boot_s = boot_time_s()
    return boot_s, boot_s - time.monotonic(), time.time() - boot_s


def _line(path: str) -> str:
    try:
        return Path(path).read_text().strip()
    except OSError:
        return ""
