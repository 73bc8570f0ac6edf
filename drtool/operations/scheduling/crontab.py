"""Jobs as lines of cron: a file in /etc/cron.d, or a marked block in a user's crontab.

Invariants
    Only what stands between the marks is ever replaced or removed, and of several blocks only that of this configuration.
    cron reads `%` as the end of a line, so it is escaped; words are quoted for the shell that cron starts.
"""

import shlex

from drtool.errors import ConfigError
from drtool.operations.scheduling.jobs import Job, Place
from drtool.operations.scheduling.systemd import mark, owner_of

BEGIN, END = "# BEGIN drtool schedule", "# END drtool schedule"
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_HEAD = f"SHELL=/bin/sh\nPATH={_PATH}\n"


def block(jobs: list[Job], place: Place) -> str:
    """The lines, between marks. `-q`: mail comes only when something is wrong."""
    lines = [BEGIN, mark(place.config)]
    for job in jobs:
        if job.zone:
            lines.append(f"# {job.name}: the plan says {job.zone}; cron runs it in this host's time zone.")
        lines.append(_line(job, place))
    return "\n".join([*lines, END]) + "\n"


def _line(job: Job, place: Place) -> str:
    words = (f"DRTOOL_CONFIG={shlex.quote(str(place.config))}", *map(shlex.quote, (*place.program, "-q", *job.words)))
    if place.user:  # a line `PATH=…` would hold for the user's own lines below, too
        words = (f"PATH={_PATH}", *words)
    wait_s = place.offset_s(job)
    command = (f"sleep {wait_s}; " if wait_s else "") + " ".join(words)
    if any(letter < " " or letter == "\x7f" for letter in command):
        raise ConfigError(
            "cron cannot run what has a line break or another control character in its name",
            hint="rename it, or take --systemd",
        )
    user = "" if place.user else "root "
    return f"{job.when.text} {user}{command.replace('%', chr(92) + '%')}"


def with_file_block(text: str, ours: str, config: str | None) -> str | None:
    """Return the file of /etc/cron.d with `ours` in place of the block of `config`; None if no block is left."""
    found = with_block(text or _HEAD, ours, config)
    return found if BEGIN in found else None


def with_block(table: str, ours: str, config: str | None) -> str:
    """Return a crontab in which `ours` stands where the block of `config` stood, or at the end; empty: without that block.

    `config`: as `owner_of` gives it; None is every configuration. Raises ConfigError where the marks are damaged.
    """
    parts = _parts(table)
    own = [number for number, part in enumerate(parts) if _is_block_of(part, config)]
    if not own:
        gap = "" if not table or table.endswith("\n") or not ours else "\n"
        return table + gap + ours
    return "".join(ours if number == own[0] else "" if number in own else part for number, part in enumerate(parts))


def block_of(table: str, config: str) -> str:
    """Return the block of a configuration; empty if there is none."""
    return "".join(part for part in _parts(table) if _is_block_of(part, config))


def owners(table: str) -> list[str]:
    """Return the configurations that have a block."""
    return [owner_of(part) for part in _parts(table) if part.startswith(BEGIN)]


def _is_block_of(part: str, config: str | None) -> bool:
    return part.startswith(BEGIN) and (config is None or owner_of(part) == config)


def _parts(table: str) -> list[str]:
    """Return the table cut into blocks of ours, each from mark to mark, and what is between them."""
    parts, inside = [""], False
    for line in table.splitlines(keepends=True):
        word = line.rstrip("\n")
        if word in (BEGIN, END) and inside != (word == END):
            raise _damaged()
        if word == BEGIN:
            parts.append("")
            inside = True
        parts[-1] += line
        if word == END:
            parts.append("")
            inside = False
    if inside or any(part.startswith(BEGIN) and not owner_of(part) for part in parts):
        raise _damaged()
    return parts


def _damaged() -> ConfigError:
    return ConfigError("the marks of drtool's block in the crontab are damaged", hint="mend them: crontab -e")
