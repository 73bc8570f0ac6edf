"""What a process that runs as root may not see after all: units, containers and sandboxes take rights away from it."""

import os
from pathlib import Path

_STATUS = Path("/proc/self/status")
_CAP_DAC_READ_SEARCH = 2
_CAP_SYS_ADMIN = 21


def unseen(status: str) -> list[str]:
    """Return what stays hidden from root with the rights that /proc/PID/status lists, in words. PURE."""
    lines = dict(line.split(":", 1) for line in status.splitlines() if ":" in line)
    try:
        effective = int(lines["CapEff"], 16)
    except (KeyError, ValueError):
        return []
    hidden = []
    if not effective >> _CAP_SYS_ADMIN & 1:
        hidden.append("attributes whose names begin with trusted. are left out: they show only with CAP_SYS_ADMIN")
    if not effective >> _CAP_DAC_READ_SEARCH & 1:
        hidden.append("other users' private files may be left out: they show only with CAP_DAC_READ_SEARCH")
    return hidden


def hidden_from_us() -> list[str]:
    """Return what this process does not see although it is root's. Others are expected to see less, and are told nothing."""
    if os.geteuid() != 0:
        return []
    try:
        return unseen(_STATUS.read_text("utf-8", "replace"))
    except OSError:
        return []  # no /proc: a rescue system, which takes no rights away
