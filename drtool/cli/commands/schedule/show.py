"""`schedule show`: show the scheduled jobs."""

import os
from datetime import UTC, datetime, tzinfo
from pathlib import Path
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import typer

from drtool.cli.commands.schedule.timers import (
    Cron,
    Directory,
    Systemd,
    TimerChoice,
    User,
    changes_of,
    configured_jobs,
    named_place,
    place_of,
    place_words,
    timer_choice,
)
from drtool.cli.core.text import Document, local, utc
from drtool.cli.core.view import Cell, Line, View, line, table, view

if TYPE_CHECKING:
    from drtool.cli.core.call import Call
    from drtool.operations.scheduling import Change, Job, Place


def schedule_show(
    context: typer.Context,
    systemd: Systemd = False,
    cron: Cron = False,
    user: User = False,
    directory: Directory = None,
) -> None:
    """Show the scheduled jobs.

    The list shows their differences from the configuration, and the next run of each. Without `schedule:` in the
    configuration, the defaults are shown. Nothing is changed, and the repository is not opened. A job is active if
    systemd has loaded its timer, or if a cron daemon runs.

    Examples:
        drtool schedule show
        drtool schedule show --json | jq -r '.jobs[] | [.name, .next, .state] | @tsv'
    """
    call: Call = context.obj
    choice = timer_choice(systemd=systemd, cron=cron, user=user, directory=directory)
    jobs = configured_jobs(call)
    place = named_place(choice, jobs, place_of(call, user=choice.user), call.settings.config.repository)
    changes = changes_of(choice, jobs, place)
    document = {
        "kind": choice.starter,
        "where": place_words(choice),
        "jobs": [_row(job, choice, place, changes) for job in jobs],
        "left_over": [str(change.path) for change in changes if change.verb == "remove"],
        "others": _others(choice, place.config),
    }
    call.show(document, _show_view(document))


def _others(choice: TimerChoice, config: Path) -> list[str]:
    """Return the other configurations that have timers in the same place."""
    from drtool.operations.scheduling.files import configurations
    from drtool.operations.scheduling.systemd import owner

    return [name for name in configurations(choice.directory) if name != owner(config)]


def _state(job: "Job", place: "Place", changes: "list[Change]") -> str:
    """Return `installed`, `differs` or `not installed`."""
    unit = f"{place.prefix}-{job.name}"
    mine = [change for change in changes if change.path is None or change.path.stem in (unit, "drtool")]
    if not all(change.installed for change in mine):
        return "not installed"
    return "installed" if all(change.verb == "keep" for change in mine) else "differs"


def _is_active(job: "Job", choice: TimerChoice, place: "Place") -> bool | None:
    """Return whether something will start the job, or None if that is unknown: files in a directory, or no answer."""
    from drtool.operations.scheduling.daemons import is_timer_active, runs

    if choice.given:
        return None
    if not choice.systemd or not runs("systemd"):
        return runs(choice.starter)
    return is_timer_active(f"{place.prefix}-{job.name}.timer", user=choice.user)


def _host_zone() -> tzinfo:
    """Return this host's time zone. If its name is unknown here, return the current offset."""
    from drtool.cli.core.settings import host_timezone

    try:
        return ZoneInfo(host_timezone(os.environ))
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return datetime.now(UTC).astimezone().tzinfo or UTC


def _row(job: "Job", choice: TimerChoice, place: "Place", changes: "list[Change]") -> Document:
    from drtool.operations.scheduling.jobs import next_start

    state = _state(job, place, changes)
    soonest = next_start(job, place, choice.starter, datetime.now(UTC), _host_zone())
    return {
        "name": job.name,
        "command": " ".join(("drtool", *job.words)),
        "cron": job.when.text,
        "timezone": job.zone or None if choice.systemd else None,
        "jitter_seconds": job.jitter_s,
        "next": None if soonest is None else utc(int(soonest.timestamp()) * 10**9),
        "state": state,
        "active": False if state == "not installed" and not choice.given else _is_active(job, choice, place),
    }


def _show_view(document: Document) -> View:
    rows = [
        (
            Cell(row["name"], "strong"),
            row["cron"],
            local(row["next"]) if row["next"] else "never",
            _state_cell(row),
            row["command"],
        )
        for row in document["jobs"]
    ]
    parts: list[Line] = [
        line(Cell(f"{path}: installed, but no longer needed", "warn")) for path in document["left_over"]
    ]
    parts += [line(Cell(f"{path} has timers of its own here", "dim")) for path in document["others"]]
    head = line(Cell(f"{document['kind']}, {document['where']}", "dim"))
    return view(head, table("JOB CRON NEXT STATE COMMAND", rows), *parts)


def _state_cell(row: Document) -> Cell:
    dead = row["state"] != "not installed" and row["active"] is False
    text = f"{row['state']}, not active" if dead else row["state"]
    return Cell(text, "good" if text == "installed" else "warn")
