"""Detection of the program that starts jobs on this host: systemd or a cron daemon."""

import subprocess
from pathlib import Path
from typing import Literal, TypeAlias

Starter: TypeAlias = Literal["systemd", "cron"]

SYSTEMD = Path("/run/systemd/system")
"""Exists while systemd is the service manager (sd_booted(3))."""
_SYSTEMCTL_S = 30.0
_PROCESSES = Path("/proc")
_DAEMONS = frozenset({"cron", "crond", "fcron", "cronie", "dcron", "bcron-start"})
_PID_FILES = ("/run/crond.pid", "/run/cron.pid", "/run/fcron.pid", "/var/run/crond.pid", "/var/run/cron.pid")
_GENERATORS = (
    "/lib/systemd/system-generators/systemd-crontab-generator",
    "/usr/lib/systemd/system-generators/systemd-crontab-generator",
)


def runs(starter: Starter) -> bool:
    """Return whether it runs on this host. If processes cannot be listed, cron is assumed to run."""
    if starter == "systemd":
        return SYSTEMD.is_dir()
    if any(Path(path).exists() for path in _PID_FILES):
        return True
    if SYSTEMD.is_dir() and any(Path(path).exists() for path in _GENERATORS):
        return True
    return not _PROCESSES.is_dir() or any(_is_cron(path) for path in _PROCESSES.glob("[0-9]*"))


def is_timer_active(timer: str, *, user: bool) -> bool | None:
    """Return whether systemd has the timer loaded and waiting, or None if it does not answer."""
    command = ["systemctl", *(["--user"] if user else []), "is-active", "--quiet", "--", timer]
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=False, timeout=_SYSTEMCTL_S)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.returncode == 0


def _is_cron(process: Path) -> bool:
    try:
        words = (process / "cmdline").read_bytes().split(b"\0")
    except OSError:
        return False
    names = [word.rpartition(b"/")[2].decode("ascii", "replace") for word in words[:2]]
    return names[0] in _DAEMONS or names[:2] == ["busybox", "crond"]
