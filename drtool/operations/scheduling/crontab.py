"""Jobs as lines of cron: a file in /etc/cron.d, or a marked block in a user's crontab.

Invariants
    Only what stands between the marks is ever replaced or removed.
    cron reads `%` as the end of a line, so it is escaped; words are quoted for the shell that cron starts.
"""

import shlex
from pathlib import Path

from drtool.errors import ConfigError
from drtool.operations.scheduling.jobs import Job, Place
from drtool.operations.scheduling.systemd import MARK

BEGIN, END = "# BEGIN drtool schedule", "# END drtool schedule"


def block(jobs: list[Job], place: Place) -> str:
    """The lines, between marks. `-q`: mail comes only when something is wrong."""
    said = str(place.config).encode("unicode_escape").decode("ascii")
    lines = [BEGIN, f"{MARK}{said}; `drtool schedule remove` takes it away."]
    for job in jobs:
        if job.zone:
            lines.append(f"# {job.name}: the plan says {job.zone}; cron runs it in this host's time zone.")
        lines.append(_line(job, place))
    return "\n".join([*lines, END]) + "\n"


def _line(job: Job, place: Place) -> str:
    words = (f"DRTOOL_CONFIG={shlex.quote(str(place.config))}", *map(shlex.quote, (*place.program, "-q", *job.words)))
    wait_s = place.offset_s(job)
    command = (f"sleep {wait_s}; " if wait_s else "") + " ".join(words)
    if any(letter < " " or letter == "\x7f" for letter in command):
        raise ConfigError(
            "cron cannot run what has a line break or another control character in its name",
            hint="rename it, or take --systemd",
        )
    user = "" if place.user else "root "
    return f"{job.when.text} {user}{command.replace('%', chr(92) + '%')}"


def file_text(jobs: list[Job], place: Place) -> str:
    """The whole file for /etc/cron.d."""
    return "SHELL=/bin/sh\nPATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\n" + block(jobs, place)


def with_block(table: str, ours: str) -> str:
    """A crontab whose block is `ours`, where it stood or at the end; empty: without one. Raises ConfigError."""
    lines = table.splitlines(keepends=True)
    begins = [i for i, line in enumerate(lines) if line.rstrip("\n") == BEGIN]
    ends = [i for i, line in enumerate(lines) if line.rstrip("\n") == END]
    if not begins and not ends:
        gap = "" if not table or table.endswith("\n") or not ours else "\n"
        return table + gap + ours
    if len(begins) != 1 or len(ends) != 1 or ends[0] < begins[0]:
        raise ConfigError("the marks of drtool's block in the crontab are damaged", hint="mend them: crontab -e")
    return "".join((*lines[: begins[0]], ours, *lines[ends[0] + 1 :]))


def is_ours(path: Path) -> bool:
    """Whether `schedule install` wrote this file."""
    return MARK in path.read_text(encoding="utf-8", errors="replace")[:4096]
