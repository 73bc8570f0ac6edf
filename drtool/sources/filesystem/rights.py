"""What a process that runs as root may not see after all: units, containers and sandboxes take rights away from it."""

import os
from pathlib import Path

from drtool.sources.filesystem.attributes import may_read_flags
from drtool.sources.filesystem.sight import FLAGS, TRUSTED, UNREADABLE

_STATUS = Path("/proc/self/status")
_USER_IDS = Path("/proc/self/uid_map")
_ALL_USERS = ["0", "0", "4294967295"]
_CAP_DAC_READ_SEARCH = 2
_CAP_SYS_ADMIN = 21


def unseen(status: str) -> list[str]:
    """Return what stays hidden from root with the rights that /proc/PID/status lists, in words. PURE."""
    effective = _effective(status)
    if effective is None:
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


def hidden_kinds() -> tuple[str, ...]:
    """Return the kinds of attributes that a snapshot of this process lacks, for its record (see `sight`)."""
    try:
        hidden = kinds(_STATUS.read_text("utf-8", "replace"), _USER_IDS.read_text("utf-8", "replace"))
    except OSError:
        hidden = () if os.geteuid() == 0 else (TRUSTED, UNREADABLE)
    return hidden if may_read_flags() else (*hidden, FLAGS)


def kinds(status: str, user_ids: str) -> tuple[str, ...]:
    """The same of the texts of /proc/PID/status and /proc/PID/uid_map. PURE.

    In a user namespace of its own a process has its rights over that namespace only, and sees no `trusted.*` attributes.
    """
    effective = _effective(status) or 0
    is_initial = user_ids.split() == _ALL_USERS
    sees = {TRUSTED: is_initial and effective >> _CAP_SYS_ADMIN & 1, UNREADABLE: effective >> _CAP_DAC_READ_SEARCH & 1}
    return tuple(kind for kind, seen in sees.items() if not seen)


def _effective(status: str) -> int | None:
    lines = dict(line.split(":", 1) for line in status.splitlines() if ":" in line)
    try:
        return int(lines["CapEff"], 16)
    except (KeyError, ValueError):
        return None
