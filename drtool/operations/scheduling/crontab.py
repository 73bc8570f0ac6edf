"""Jobs as lines of cron: a file in /etc/cron.d, or a marked block in a user's crontab.

Invariants
    Only the text between the marks is ever replaced or removed, and only in the block of this configuration.
    cron reads `%` as the end of a line, so it is escaped. Words are quoted for the shell that cron starts.
"""

import shlex

from drtool.errors import ConfigError
from drtool.operations.scheduling.jobs import Job, Place
from drtool.operations.scheduling.systemd import mark, owner_of

BEGIN, END = "# BEGIN drtool schedule", "# END drtool schedule"
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_HEAD = f"SHELL=/bin/sh\nPATH={_PATH}\n"


def block(jobs: list[Job], place: Place) -> str:
    """Return the lines between marks. Jobs run with `-q`, so that mail is sent only when something is wrong."""
    lines = [BEGIN, mark(place.config)]
    for job in jobs:
        if job.zone:
            lines.append(f"# {job.name}: the plan says {job.zone}; cron runs it in this host's time zone.")
        lines.append(_line(job, place))
    return "\n".join([*lines, END]) + "\n"


def _line(job: Job, place: Place) -> str:
    words = (f"DRTOOL_CONFIG={shlex.quote(str(place.config))}", *map(shlex.quote, (*place.program, "-q", *job.words)))
    if place.user:  # a line `PATH=…` would also apply to the user's own lines below it
        words = (f"PATH={_PATH}", *words)
    wait_s = place.offset_s(job)
    command = (f"sleep {wait_s}; " if wait_s else "") + " ".join(words)
    if any(letter < " " or letter == "\x7f" for letter in command):
        raise ConfigError(
            "cron cannot run a name that contains a line break or another control character",
            hint="rename it, or take --systemd",
        )
    user = "" if place.user else "root "
    return f"{job.when.text} {user}{command.replace('%', chr(92) + '%')}"


def with_file_block(text: str, ours: str, config: str | None) -> str | None:
    """Return the file in /etc/cron.d with `ours` in place of the block of `config`, or None if no block is left."""
    found = with_block(text or _HEAD, ours, config)
    return found if BEGIN in found else None


def with_block(table: str, ours: str, config: str | None) -> str:
    """Return a crontab with `ours` in place of the block of `config`, or at the end. An empty `ours` removes that
    block.

    `config` is in the form of `owner_of`, and None means every configuration. Raises ConfigError if the marks are
    damaged.
    """
    parts = _parts(table)
    own = [number for number, part in enumerate(parts) if _is_block_of(part, config)]
    if not own:
        gap = "" if not table or table.endswith("\n") or not ours else "\n"
        return table + gap + ours
    return "".join(ours if number == own[0] else "" if number in own else part for number, part in enumerate(parts))


def block_of(table: str, config: str) -> str:
    """Return the block of a configuration, or an empty string."""
    return "".join(part for part in _parts(table) if _is_block_of(part, config))


def owners(table: str) -> list[str]:
    """Return the configurations that have a block."""
    return [owner_of(part) for part in _parts(table) if part.startswith(BEGIN)]


def _is_block_of(part: str, config: str | None) -> bool:
    return part.startswith(BEGIN) and (config is None or owner_of(part) == config)


def _parts(table: str) -> list[str]:
    """Return the table split into drtool's blocks, each from mark to mark, and the text between them."""
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
    return ConfigError("the marks of drtool's block in the crontab are damaged", hint="repair them: crontab -e")
