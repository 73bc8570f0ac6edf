"""The schedule of a configuration as a list of jobs.

Pure: nothing is read here. Two calls with the same configuration give the same jobs.
"""

import hashlib
import os
from collections.abc import Sequence
from datetime import datetime, timedelta, tzinfo
from pathlib import Path
from zoneinfo import ZoneInfo

from msgspec import Struct
from msgspec.structs import replace

from drtool.config import Config
from drtool.config.cron import Cron, next_time
from drtool.config.life import Schedule
from drtool.config.schema import Retention
from drtool.config.urls import scheme_of
from drtool.operations.scheduling.daemons import Starter

_DESCRIPTIONS = {
    "backup": "Back up with drtool",
    "prune": "Free the space of old drtool snapshots",
    "verify": "Read, check and repair the data that drtool stored",
    "repair": "Bring every object back to its promised copies with drtool",
    "status": "Check that drtool's objectives are met",
}


class Job(Struct, frozen=True, kw_only=True):
    """One command and when it runs. `zone` is empty for this host's own time zone."""

    name: str
    told: str
    words: tuple[str, ...]
    when: Cron
    jitter_s: int
    zone: str = ""
    sandboxed: bool = True
    """Whether it only needs to read everything and to write to the targets."""
    stored_anyway: bool = False
    """Whether exit codes 3 and 5 mean that the snapshot was stored."""


class Place(Struct, frozen=True, kw_only=True):
    """The environment of jobs: the command that runs drtool, and the paths that it needs."""

    program: tuple[str, ...]
    config: Path
    host: str
    password_file: Path | None
    writable: tuple[Path, ...]
    user: bool
    """Whether the jobs belong to one user rather than to the system."""
    prefix: str = "drtool"
    """The prefix of unit names."""

    def offset_s(self, job: Job) -> int:
        """Return this host's fixed offset within the jitter. It is the same in every call."""
        if not job.jitter_s:
            return 0
        return int.from_bytes(hashlib.sha256(f"{self.host}\0{job.name}".encode()).digest()[:8]) % job.jitter_s


def own_prefix(repository: str, config: Path) -> str:
    """Return a prefix unique to this configuration: the label, and four digits of a hash of the path."""
    label = "".join(letter if letter.isascii() and letter.isalnum() else "-" for letter in repository.lower())[:24]
    short = hashlib.sha256(os.fsencode(config)).hexdigest()[:4]
    return "-".join(filter(None, ("drtool", label.strip("-"), short)))


def next_start(job: Job, place: Place, starter: Starter, now: datetime, here: tzinfo) -> datetime | None:
    """Return when a job starts next after `now`. `here` is this host's time zone.

    cron uses that zone for all its lines, and each line includes this host's offset. systemd adds up to `jitter_s`.
    """
    if starter == "systemd":
        return next_time(job.when, now, ZoneInfo(job.zone) if job.zone else here)
    wait = timedelta(seconds=place.offset_s(job))
    soonest = next_time(job.when, now - wait, here)
    return None if soonest is None else soonest + wait


def jobs_of(config: Config, plans: Sequence[Job] = ()) -> list[Job]:
    """Return the jobs of a configuration and those of its plans."""
    schedule = config.schedule or Schedule()
    found = [
        Job(
            name=name,
            told=_DESCRIPTIONS[name],
            words=_words(name, config, schedule),
            when=when,
            jitter_s=schedule.jitter,
            sandboxed=not _runs_programs(config),
            stored_anyway=name == "backup",
        )
        for name, when in schedule.times().items()
    ]
    return found + (list(plans) if schedule.plans else [])


def _words(name: str, config: Config, schedule: Schedule) -> tuple[str, ...]:
    if name == "backup":
        return ("backup", "--skip-if-running")  # two concurrent first backups would both store everything
    if name == "verify":
        return ("verify", "--budget", schedule.verify_budget, "--repair")
    if name == "prune":
        return ("forget", "--prune") if _retains(config) else ("prune",)
    return (name,)


def _retains(config: Config) -> bool:
    """Return whether the configuration sets retention rules for `forget`."""
    return replace(config.retention, timezone=None) != Retention()


def _runs_programs(config: Config) -> bool:
    """Return whether the configuration runs programs (hooks, dumps, password commands), which may need any access."""
    hooks = config.hooks
    listed = (getattr(hooks, field) for field in hooks.__struct_fields__ if field != "timeout")
    commands = any(not word[0].startswith(("https://", "http://")) for each in listed for word in each)
    return (
        commands or any(source.kind != "paths" for source in config.sources.values()) or bool(config.password_command)
    )


def writable_places(config: Config, base: Path) -> tuple[Path, ...]:
    """Return the local paths that jobs write to, besides state and cache."""
    urls = (target.place(base)[0] for targets in config.sites.values() for target in targets.values())
    places = [Path(url.removeprefix("file://")) for url in urls if scheme_of(url) == "file"]
    if config.metrics_file is not None:
        places.append((base / config.metrics_file).parent)
    return tuple(sorted(set(places)))
