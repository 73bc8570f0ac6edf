"""`schedule show|install|remove`: timers for what the configuration and the plans say."""

import os
import shutil
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated
from zoneinfo import ZoneInfo

import typer
from msgspec import Struct

from drtool.cli.options import DryRun
from drtool.cli.text import Document, local, utc
from drtool.cli.trust import check_config, trust_of
from drtool.cli.view import Cell, Line, View, line, table, view
from drtool.errors import ConfigError, DrtoolError, UsageError
from drtool.events import Warned

if TYPE_CHECKING:
    from drtool.cli.call import Call
    from drtool.operations.scheduling import Change, Job, Place
    from drtool.plans.language import Plan

Systemd = Annotated[bool, typer.Option("--systemd", help="systemd timers; the default where systemd runs.")]
Cron = Annotated[bool, typer.Option("--cron", help="/etc/cron.d/drtool, or a block in the user's crontab.")]
User = Annotated[bool, typer.Option("--user", help="This user's, not the system's; the default without root.")]
Directory = Annotated[
    str | None, typer.Option(metavar="DIR", help="Files there; nothing is told to systemd or to cron.")
]
_RUNNING = Path("/run/systemd/system")


class Wish(Struct, frozen=True, kw_only=True):
    """Which timers are meant."""

    systemd: bool
    user: bool
    directory: Path | None
    """None: the user's crontab."""
    given: bool
    """Whether the directory was named on the command line."""


def schedule_show(
    context: typer.Context,
    systemd: Systemd = False,
    cron: Cron = False,
    user: User = False,
    directory: Directory = None,
) -> None:
    """Show what is scheduled, what differs from the configuration, and when each job runs next.

    Without `schedule:` in the configuration the defaults are shown. Nothing is changed, and the repository is not opened.

    Examples:
        drtool schedule show
        drtool schedule show --json | jq -r '.jobs[] | [.name, .next, .state] | @tsv'
    """
    call: Call = context.obj
    wish = _wish(systemd=systemd, cron=cron, user=user, directory=directory)
    place, jobs = _place(call, user=wish.user), _jobs(call)
    changes = _changes(wish, jobs, place)
    document = {
        "kind": "systemd" if wish.systemd else "cron",
        "where": _where(wish),
        "jobs": [_row(job, _state(job, changes)) for job in jobs],
        "left_over": [str(change.path) for change in changes if change.verb == "remove"],
    }
    call.show(document, _show_view(document))


def schedule_install(
    context: typer.Context,
    systemd: Systemd = False,
    cron: Cron = False,
    user: User = False,
    directory: Directory = None,
    dry_run: DryRun = False,
) -> None:
    """Install timers for backup, prune, verify, status and the plans that say when they run.

    When: `schedule:` of the configuration, else daily and weekly defaults. Running it again brings what is installed up to date;
    files that it did not write are never touched (exit 11). --dry-run prints exactly what would be written.

    Examples:
        drtool schedule install --dry-run
        sudo drtool schedule install
        drtool schedule install --cron --user
        drtool schedule install --systemd --directory ./units
    """
    call: Call = context.obj
    wish = _wish(systemd=systemd, cron=cron, user=user, directory=directory)
    place, jobs = _place(call, user=wish.user), _jobs(call)
    if place.password_file is None and not call.settings.config.password_command:
        call.emit(
            Warned(
                message="the configuration names no password_file or password_command: without it every job ends with 2"
            )
        )
    _warn_of_owner(call, place.config)
    _carry_out(call, wish, _changes(wish, jobs, place), jobs, dry_run=dry_run)


def _warn_of_owner(call: "Call", config: Path) -> None:
    """Warn if another user could change what the jobs do; the configuration was named, so it is used all the same."""
    try:
        check_config(config, trust_of(named=False))
    except ConfigError as error:
        reason = error.message.removeprefix(f"the configuration {config} is not used: ")
        call.emit(Warned(message=f"another user can change what these jobs run: {reason}"))


def schedule_remove(
    context: typer.Context,
    systemd: Systemd = False,
    cron: Cron = False,
    user: User = False,
    directory: Directory = None,
    dry_run: DryRun = False,
) -> None:
    """Take away what `schedule install` installed, and nothing else.

    Examples:
        drtool schedule remove --dry-run
        sudo drtool schedule remove
    """
    call: Call = context.obj
    wish = _wish(systemd=systemd, cron=cron, user=user, directory=directory)
    _carry_out(call, wish, _changes(wish, [], None), [], dry_run=dry_run)


def _wish(*, systemd: bool, cron: bool, user: bool, directory: str | None) -> Wish:
    if systemd and cron:
        raise UsageError("--systemd and --cron exclude each other", hint="leave one of them out")
    with_systemd = systemd or (not cron and _RUNNING.is_dir())
    mine = user or os.getuid() != 0
    if directory is not None:
        return Wish(systemd=with_systemd, user=mine, directory=Path(directory).absolute(), given=True)
    if with_systemd:
        base = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config")
        place: Path | None = base / "systemd/user" if mine else Path("/etc/systemd/system")
    else:
        place = None if mine else Path("/etc/cron.d")
    return Wish(systemd=with_systemd, user=mine, directory=place, given=False)


def _place(call: "Call", *, user: bool) -> "Place":
    from drtool.operations.scheduling import Place
    from drtool.operations.scheduling.jobs import writable_places

    config, path = call.settings.config, call.check_configured().absolute()
    return Place(
        program=_program(),
        config=path,
        host=call.settings.host,
        password_file=path.parent / config.password_file if config.password_file else None,
        writable=writable_places(config, path.parent),
        user=user,
    )


def _program() -> tuple[str, ...]:
    """How this very program is called from anywhere."""
    own = Path(sys.argv[0])
    if own.name == "drtool":
        found = own if "/" in sys.argv[0] else shutil.which("drtool")
        if found:
            return (str(Path(found).absolute()),)
    return sys.executable, "-m", "drtool"


def _jobs(call: "Call") -> "list[Job]":
    from drtool.operations.scheduling import jobs_of

    return jobs_of(call.settings.config, _plan_jobs(call))


def _unanswered(plan: "Plan") -> str:
    """A variable that has to be given on the command line; empty if there is none."""
    return next((name for name, var in plan.vars.items() if var.required and var.default is None), "")


def _plan_jobs(call: "Call") -> "list[Job]":
    """The plans of the configured directory that say when they run."""
    from drtool.cli.plans import plans_directory

    directory = plans_directory(call)
    if directory is None:
        return []
    from drtool.operations.scheduling import Job
    from drtool.plans.library import list_plans

    found = []
    for listed in list_plans(directory.absolute(), call.settings.trust):
        plan = listed.plan
        if plan is None:
            call.emit(Warned(message=f"a plan cannot be understood and is not scheduled: {listed.error}"))
        elif plan.schedule is not None and (lacks := _unanswered(plan)):
            call.emit(
                Warned(
                    message=f"plan {plan.id} is not scheduled: nobody would give its variable {lacks}; set a default"
                )
            )
        elif plan.schedule is not None:
            live = ("--live",) if plan.scope == "live" else ()
            found.append(
                Job(
                    name=f"plan-{plan.id}",
                    told=f"Run the plan {plan.id} with drtool",
                    words=("plan", "run", str(listed.file), *live),
                    when=plan.schedule.cron,
                    jitter_s=int(plan.schedule.jitter_s),
                    zone=str(plan.schedule.timezone),
                    sandboxed=False,
                )
            )
    return found


def _changes(wish: Wish, jobs: "list[Job]", place: "Place | None") -> "list[Change]":
    from drtool.operations.scheduling.crontab import block, file_text
    from drtool.operations.scheduling.files import changes, crontab_change
    from drtool.operations.scheduling.systemd import units

    if wish.directory is None:
        return [crontab_change(block(jobs, place) if place else "")]
    if place is None:
        return changes(wish.directory, {})
    return changes(wish.directory, units(jobs, place) if wish.systemd else {"drtool": file_text(jobs, place)})


def _carry_out(call: "Call", wish: Wish, changes: "list[Change]", jobs: "list[Job]", *, dry_run: bool) -> None:
    from drtool.operations.scheduling import apply

    going = [c.path.name for c in changes if c.path is not None and c.verb == "remove" and c.path.suffix == ".timer"]
    commands = [] if wish.given or not wish.systemd else _telling(jobs, going, user=wish.user)
    if not dry_run:
        try:
            for change in changes:
                apply(change)
        except OSError as error:
            raise DrtoolError(
                f"{error.filename} cannot be written: {error.strerror}", hint="run it as root, or with --user"
            ) from None
        if commands and _RUNNING.is_dir():
            for command in commands:
                _tell(command)
            commands = []
    document = {
        "dry_run": dry_run,
        "where": _where(wish),
        "changes": [
            {"path": None if change.path is None else str(change.path), "verb": change.verb, "text": change.after}
            for change in changes
        ],
        "next": [" ".join(command) for command in commands],
    }
    call.show(document, _done_view(document))


def _telling(jobs: "list[Job]", going: list[str], *, user: bool) -> list[list[str]]:
    """What systemd has to be told."""
    control = ["systemctl", "--user"] if user else ["systemctl"]
    commands = [[*control, "disable", "--now", *going]] if going else []
    commands.append([*control, "daemon-reload"])
    if jobs:
        commands.append([*control, "enable", "--now", *(f"drtool-{job.name}.timer" for job in jobs)])
    return commands


def _tell(command: list[str]) -> None:
    import subprocess

    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=False, timeout=60)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise DrtoolError(f"{' '.join(command)} could not be run: {error}") from None
    if done.returncode:
        said = done.stderr.decode("utf-8", "replace").strip()
        raise DrtoolError(f"{' '.join(command)} failed: {said}", hint="the files are written; run it by hand")


def _where(wish: Wish) -> str:
    return str(wish.directory) if wish.directory is not None else "this user's crontab"


def _state(job: "Job", changes: "list[Change]") -> str:
    """`installed`, `differs` or `not installed`."""
    mine = [c for c in changes if c.path is None or c.path.stem == f"drtool-{job.name}" or c.path.name == "drtool"]
    absent = [c for c in mine if c.before is None or (c.path is None and "drtool schedule" not in c.before)]
    if absent:
        return "not installed"
    return "installed" if all(c.verb == "keep" for c in mine) else "differs"


def _row(job: "Job", state: str) -> Document:
    from drtool.config.cron import next_time

    zone = ZoneInfo(job.zone) if job.zone else datetime.now(UTC).astimezone().tzinfo
    if zone is None:
        raise ConfigError("this host has no time zone")
    soonest = next_time(job.when, datetime.fromtimestamp(time.time(), UTC), zone)
    return {
        "name": job.name,
        "command": " ".join(("drtool", *job.words)),
        "cron": job.when.text,
        "timezone": job.zone or None,
        "jitter_seconds": job.jitter_s,
        "next": None if soonest is None else utc(int(soonest.timestamp()) * 10**9),
        "state": state,
    }


def _show_view(document: Document) -> View:
    rows = [
        (
            Cell(row["name"], "strong"),
            row["cron"],
            local(row["next"]) if row["next"] else "never",
            Cell(row["state"], "good" if row["state"] == "installed" else "warn"),
            row["command"],
        )
        for row in document["jobs"]
    ]
    parts: list[Line] = [
        line(Cell(f"{path}: installed, and nothing asks for it any more", "warn")) for path in document["left_over"]
    ]
    head = line(Cell(f"{document['kind']}, {document['where']}", "dim"))
    return view(head, table("JOB CRON NEXT STATE COMMAND", rows), *parts)


def _done_view(document: Document) -> View:
    would = "would " if document["dry_run"] else ""
    parts: list[Line] = []
    for change in document["changes"]:
        parts.append(line(Cell(f"{would}{change['verb']} ", "strong"), change["path"] or document["where"]))
        if document["dry_run"] and change["verb"] in ("write", "change"):
            parts += [line(f"    {row}") for row in change["text"].splitlines()]
    if not document["changes"]:
        parts.append(line("nothing is installed"))
    parts += [line(Cell("then run: ", "dim"), command) for command in document["next"]]
    return view(*parts)
