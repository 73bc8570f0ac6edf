"""Jobs as systemd units: a service and a timer each.

Invariants
    The same jobs at the same place give the same bytes. A name with characters that systemd interprets is quoted.
    A job missed while the machine was off runs at the next start, and each host starts at its own offset.
"""

from pathlib import Path

from drtool.config.cron import Cron
from drtool.operations.scheduling.jobs import Job, Place

_MARK, _MARK_END = "# Made by `drtool schedule install` from ", "; `drtool schedule remove` takes it away."
_DAYS = ("Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat")


def units(jobs: list[Job], place: Place) -> dict[str, str]:
    """Return the text of each unit file by file name."""
    files = {}
    for job in jobs:
        files[f"{place.prefix}-{job.name}.service"] = _service(job, place)
        files[f"{place.prefix}-{job.name}.timer"] = _timer(job, place)
    return files


def mark(config: Path) -> str:
    """Return the line that records which configuration a unit or a cron block belongs to."""
    return f"{_MARK}{_plain(config)}{_MARK_END}"


def owner_of(text: str) -> str:
    """Return the configuration that a file or block was made from, as `mark` writes it, or an empty string."""
    rest = text[:8192].partition(_MARK)[2]
    return rest.partition(_MARK_END)[0] if _MARK_END in rest.partition("\n")[0] else ""


def owner(config: Path) -> str:
    """Return a configuration's path as marks record it."""
    return _plain(config)


def _service(job: Job, place: Place) -> str:
    lines = [
        mark(place.config),
        "[Unit]",
        f"Description={_escaped(job.told)}",
        "Documentation=man:drtool(1)",
        *([] if place.user else ["Wants=network-online.target", "After=network-online.target"]),
        "",
        "[Service]",
        "Type=oneshot",
        f"ExecStart={' '.join(_quoted(word, expands=True) for word in (*place.program, *job.words))}",
        f"Environment={_quoted(f'DRTOOL_CONFIG={place.config}')}",
    ]
    if job.stored_anyway:
        lines += ["# 3: some files could not be read; 5: a site was away. Both are stored; drtool status reports them."]
        lines += ["SuccessExitStatus=3 5"]
    lines += [] if place.user else _of_the_system(job, place)
    lines += ["Nice=10", "IOSchedulingClass=idle", "TimeoutStartSec=infinity"]
    return "\n".join(lines) + "\n"


def _of_the_system(job: Job, place: Place) -> list[str]:
    """Return the lines of a system service: its own directories, the password as a credential, minimal rights."""
    lines = []
    if place.password_file is not None:
        lines += [f"LoadCredential=password:{str(place.password_file).replace('%', '%%')}"]
        lines += ["Environment=DRTOOL_PASSWORD_FILE=%d/password"]
    lines += [
        "StateDirectory=drtool",
        "StateDirectoryMode=0700",
        "CacheDirectory=drtool",
        "CacheDirectoryMode=0700",
        "Environment=DRTOOL_STATE_DIR=%S/drtool DRTOOL_CACHE_DIR=%C/drtool",
    ]
    if not job.sandboxed:
        return [*lines, "# Not sandboxed: it runs programs of the configuration or of a plan, which may need more."]
    return [
        *lines,
        "# It reads everything, and writes to its own directories and the targets.",
        "ProtectSystem=strict",
        "ProtectHome=read-only",
        *(f"ReadWritePaths={_quoted(f'-{path}')}" for path in place.writable),
        *(_SEES_EVERYTHING if job.name == "backup" else _SEES_ITS_OWN),
        "ProtectKernelTunables=true",
        "ProtectControlGroups=true",
        "NoNewPrivileges=true",
        "RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK",
        "LockPersonality=true",
    ]


_SEES_EVERYTHING = (
    "# PrivateTmp, PrivateDevices and ProtectKernelModules would hide /tmp, /dev and /usr/lib/modules, and without CAP_SYS_ADMIN",
    "# attributes whose names begin with trusted. would not show. CAP_FOWNER leaves access times alone.",
    "DevicePolicy=closed",
    "CapabilityBoundingSet=CAP_DAC_READ_SEARCH CAP_DAC_OVERRIDE CAP_FOWNER CAP_SYS_ADMIN",
)
_SEES_ITS_OWN = (
    "PrivateDevices=true",
    "ProtectKernelModules=true",
    "CapabilityBoundingSet=CAP_DAC_READ_SEARCH CAP_DAC_OVERRIDE",
)


def _timer(job: Job, place: Place) -> str:
    lines = [mark(place.config), "[Unit]", f"Description=When {place.prefix}-{job.name}.service runs", "", "[Timer]"]
    lines += [f"OnCalendar={moment}{f' {job.zone}' if job.zone else ''}" for moment in calendar(job.when)]
    if job.jitter_s:
        lines += [f"RandomizedDelaySec={job.jitter_s}", "FixedRandomDelay=true"]
    return "\n".join([*lines, "Persistent=true", "", "[Install]", "WantedBy=timers.target"]) + "\n"


def calendar(when: Cron) -> list[str]:
    """Return Cron's fields as `OnCalendar=` values. There are two where cron matches either day field."""
    clock = f"{_listed(when.hours, 24)}:{_listed(when.minutes, 60)}:00"
    months = _listed(when.months, 12)
    every = len(when.weekdays) == len(_DAYS)
    week = "" if every else ",".join(_DAYS[day] for day in sorted(when.weekdays)) + " "
    dates = f"{months}-{_listed(when.days, 31)}"
    if when.any_day or when.any_weekday:
        return [f"{week}*-{dates} {clock}"]
    return [f"*-{dates} {clock}", f"{week}*-{months}-* {clock}"]


def _listed(numbers: frozenset[int], every: int) -> str:
    return "*" if len(numbers) == every else ",".join(f"{number:02}" for number in sorted(numbers))


def _plain(path: Path) -> str:
    """Return a path for a comment: on one line, with any other characters escaped."""
    return str(path).encode("unicode_escape").decode("ascii")


def _escaped(text: str) -> str:
    return " ".join(text.split()).replace("%", "%%")


def _quoted(word: str, *, expands: bool = False) -> str:
    """Return a word quoted for systemd: not split at blanks, specifiers (and in commands variables) not expanded."""
    safe = word.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%")
    safe = safe.replace("$", "$$") if expands else safe
    safe = "".join(f"\\x{ord(letter):02x}" if letter < " " or letter == "\x7f" else letter for letter in safe)
    plain = all(letter.isalnum() or letter in "/._-=:,+@" for letter in word)
    return safe if plain else f'"{safe}"'
