"""A process of this machine, named so that no other can be taken for it: boot, pid namespace, pid, start time.

Invariants
    Gone is only said with proof: the same machine, and another boot, or the same pid namespace without that pid and start time.
    Nothing here depends on the wall clock. Time is counted since the boot, sleep included.
"""

import os
import time
from pathlib import Path
from typing import Literal, TypeAlias

from msgspec import Struct

Standing: TypeAlias = Literal["alive", "gone", "elsewhere", "unknown"]
"""alive, gone: proven, on this machine; elsewhere: another machine's; unknown: in a container that we cannot look into."""


class ProcessMark(Struct, frozen=True, kw_only=True):
    """One process, as a file can name it. Empty ids: the system does not tell them."""

    machine_id: str
    boot_id: str
    pid_namespace: str
    pid: int
    start_time: int
    """Clock ticks since boot."""

    def standing(self) -> Standing:
        """What this process can tell of that one."""
        if self.machine_id != machine_id():
            return "elsewhere"
        if not self.boot_id or not boot_id():
            return "unknown"
        if self.boot_id != boot_id():
            return "gone"
        if not self.pid_namespace or self.pid_namespace != pid_namespace():
            return "unknown"
        return "alive" if start_time(self.pid) == self.start_time else "gone"


def this_process() -> ProcessMark:
    """The process that calls."""
    pid = os.getpid()
    return ProcessMark(
        machine_id=machine_id(),
        boot_id=boot_id(),
        pid_namespace=pid_namespace(),
        pid=pid,
        start_time=start_time(pid) or 0,
    )


def boot_time_s() -> float:
    """Seconds since this machine was started, also those in which it slept; nobody can set it."""
    clock = getattr(time, "CLOCK_BOOTTIME", None)
    return time.monotonic() if clock is None else time.clock_gettime(clock)


def machine_id() -> str:
    return _line("/etc/machine-id")


def boot_id() -> str:
    return _line("/proc/sys/kernel/random/boot_id")


def pid_namespace() -> str:
    """Which numbering of processes this one is in; empty where that cannot be learnt."""
    try:
        return os.readlink("/proc/self/ns/pid")
    except OSError:
        return ""


def start_time(pid: int) -> int | None:
    """Clock ticks since boot at which a process started; None if there is no such process, or it is a zombie."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
    except OSError:
        return None
    return None if fields[0] in (b"Z", b"X") else int(fields[19])


def _line(path: str) -> str:
    try:
        return Path(path).read_text().strip()
    except OSError:
        return ""
