"""`schedule show|install|remove`: timers for the jobs of the configuration and the plans."""

import os
import shutil
import sys
from datetime import UTC, datetime, tzinfo
from pathlib import Path
from typing import TYPE_CHECKING, Annotated
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import typer
from msgspec import Struct
from msgspec.structs import replace

from drtool.cli.options import DryRun
from drtool.cli.text import Document, local, utc
from drtool.cli.trust import check_config, trust_of
from drtool.cli.view import Cell, Line, View, line, table, view
from drtool.errors import ConfigError, DrtoolError, UsageError
from drtool.events import Warned

if TYPE_CHECKING:
    from drtool.cli.call import Call
    from drtool.operations.scheduling import Change, Job, Place
    from drtool.operations.scheduling.daemons import Starter
    from drtool.plans.language import Plan

Systemd = Annotated[bool, typer.Option("--systemd", help="Use systemd timers; the default where systemd runs.")]
Cron = Annotated[bool, typer.Option("--cron", help="Use /etc/cron.d/drtool, or a block in the user's crontab.")]
User = Annotated[
    bool, typer.Option("--user", help="Use the timers of this user instead of the system; the default without root.")
]
Directory = Annotated[
    str | None, typer.Option(metavar="DIR", help="Write the files there, without notifying systemd or cron.")
]
Everything = Annotated[
    bool, typer.Option("--all", help="Select the timers of every configuration, not only of this one.")
]
_SYSTEMCTL_S = 60.0
_UNSTARTED = {
    "systemd": "systemd does not run on this host, so nothing starts these jobs: use --cron",
    "cron": "neither cron nor systemd runs on this host, so nothing starts these jobs: start a cron daemon",
}


class Wish(Struct, frozen=True, kw_only=True):
    """The timers that the options select."""

    systemd: bool
    user: bool
    directory: Path | None
    """None for the user's crontab."""
    given: bool
    """Whether the directory was named on the command line."""

    @property
    def starter(self) -> "Starter":
        return "systemd" if self.systemd else "cron"


def schedule_show(
    context: typer.Context,
    systemd: Systemd = False,
    cron: Cron = False,
    user: User = False,
    directory: Directory = None,
) -> None:
    """Show the scheduled jobs, their differences from the configuration, and the next run of each.

    Without `schedule:` in the configuration, the defaults are shown. Nothing is changed, and the repository is not
    opened. A job is active if systemd has loaded its timer, or if a cron daemon runs.

    Examples:
        drtool schedule show
        drtool schedule show --json | jq -r '.jobs[] | [.name, .next, .state] | @tsv'
    """
    call: Call = context.obj
    wish = _wish(systemd=systemd, cron=cron, user=user, directory=directory)
    jobs = _jobs(call)
    place = _named(wish, jobs, _place(call, user=wish.user), call.settings.config.repository)
    changes = _changes(wish, jobs, place)
    document = {
        "kind": wish.starter,
        "where": _where(wish),
        "jobs": [_row(job, wish, place, changes) for job in jobs],
        "left_over": [str(change.path) for change in changes if change.verb == "remove"],
        "others": _others(wish, place.config),
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
    """Install timers for backup, prune, verify, status, and plans with a schedule.

    The times come from `schedule:` in the configuration, or are daily and weekly defaults. Running the command again
    updates the installed timers. It never touches files that it did not write (exit 11) or the timers of another
    configuration. Exit 1 if neither systemd nor cron runs here to start the jobs. --dry-run prints exactly what would
    be written.

    Examples:
        drtool schedule install --dry-run
        sudo drtool schedule install
        drtool schedule install --cron --user
        drtool schedule install --systemd --directory ./units
    """
    call: Call = context.obj
    wish = _wish(systemd=systemd, cron=cron, user=user, directory=directory)
    jobs = _jobs(call)
    place = _named(wish, jobs, _place(call, user=wish.user), call.settings.config.repository)
    if place.password_file is None and not call.settings.config.password_command:
        call.emit(
            Warned(
                message="the configuration names neither password_file nor password_command: without one, every "
                "job exits with 2"
            )
        )
    _warn_of_owner(call, place.config)
    timers = [f"{place.prefix}-{job.name}.timer" for job in jobs]
    _carry_out(call, wish, _changes(wish, jobs, place), timers, dry_run=dry_run)


def _warn_of_owner(call: "Call", config: Path) -> None:
    """Warn if another user could change what the jobs do. The configuration was named, so it is used all the same."""
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
    everything: Everything = False,
    dry_run: DryRun = False,
) -> None:
    """Remove the timers that `schedule install` installed for this configuration, and nothing else.

    The configuration need not exist any more: name it with --config.

    Examples:
        drtool schedule remove --dry-run
        sudo drtool schedule remove
        sudo drtool --config /etc/drtool/old.yaml schedule remove
    """
    call: Call = context.obj
    wish = _wish(systemd=systemd, cron=cron, user=user, directory=directory)
    config = None if everything else _whose(call, wish)
    _carry_out(call, wish, _removals(wish, config), [], dry_run=dry_run)


def _whose(call: "Call", wish: Wish) -> str | None:
    """Return the configuration of the timers to remove, as their marks name it, or None to remove all timers."""
    from drtool.cli.settings import find_config, named_config
    from drtool.operations.scheduling.files import configurations
    from drtool.operations.scheduling.systemd import owner

    here = Path.cwd()
    path = named_config(call.options, os.environ, here) or find_config(call.options, os.environ, here)
    if path is not None:
        return owner(path.absolute())
    found = configurations(wish.directory)
    if len(found) > 1:
        raise UsageError(
            f"several configurations have timers here: {', '.join(found)}",
            hint="name one with --config FILE, or remove the timers of all with --all",
        )
    return None


def _wish(*, systemd: bool, cron: bool, user: bool, directory: str | None) -> Wish:
    if systemd and cron:
        raise UsageError("--systemd and --cron exclude each other", hint="leave one of them out")
    from drtool.operations.scheduling.daemons import runs

    with_systemd = systemd or (not cron and runs("systemd"))
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


def _named(wish: Wish, jobs: "list[Job]", place: "Place", repository: str) -> "Place":
    """Return the place with the prefix of its units, which separates them from those of other configurations."""
    if not wish.systemd or wish.directory is None:
        return place
    from drtool.operations.scheduling.files import prefix_for
    from drtool.operations.scheduling.systemd import units

    return replace(place, prefix=prefix_for(wish.directory, units(jobs, place), place.config, repository))


def _others(wish: Wish, config: Path) -> list[str]:
    """Return the other configurations that have timers in the same place."""
    from drtool.operations.scheduling.files import configurations
    from drtool.operations.scheduling.systemd import owner

    return [name for name in configurations(wish.directory) if name != owner(config)]


def _program() -> tuple[str, ...]:
    """Return the command that starts this program from anywhere."""
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
    """Return a variable that must be given on the command line, or "" if there is none."""
    return next((name for name, var in plan.vars.items() if var.required and var.default is None), "")


def _plan_jobs(call: "Call") -> "list[Job]":
    """Return the jobs of the plans in the configured directory that have a schedule."""
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
            call.emit(Warned(message=f"a plan is invalid and is not scheduled: {listed.error}"))
        elif plan.schedule is not None and (lacks := _unanswered(plan)):
            call.emit(
                Warned(
                    message=f"plan {plan.id} is not scheduled: variable {lacks} has no value in a scheduled run; "
                    "set a default"
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


def _changes(wish: Wish, jobs: "list[Job]", place: "Place") -> "list[Change]":
    from drtool.operations.scheduling.crontab import block
    from drtool.operations.scheduling.files import cron_file_change, crontab_change, unit_changes
    from drtool.operations.scheduling.systemd import owner, units

    config = owner(place.config)
    if wish.directory is None:
        return [crontab_change(block(jobs, place), config)]
    if wish.systemd:
        return unit_changes(wish.directory, units(jobs, place), config)
    return cron_file_change(wish.directory, block(jobs, place), config)


def _removals(wish: Wish, config: str | None) -> "list[Change]":
    """Return the changes that remove a configuration's timers, or all timers for None. In a directory: units and cron's
    file.
    """
    from drtool.operations.scheduling.files import cron_file_change, crontab_change, unit_changes

    if wish.directory is None:
        return [crontab_change("", config)]
    return [*unit_changes(wish.directory, {}, config), *cron_file_change(wish.directory, "", config)]


def _carry_out(call: "Call", wish: Wish, changes: "list[Change]", timers: list[str], *, dry_run: bool) -> None:
    from drtool.operations.scheduling import apply
    from drtool.operations.scheduling.daemons import runs

    going = [c.path.name for c in changes if c.path is not None and c.verb == "remove" and c.path.suffix == ".timer"]
    commands = [] if wish.given or not wish.systemd else _telling(timers, going, user=wish.user)
    if not dry_run:
        try:
            for change in changes:
                apply(change)
        except OSError as error:
            raise DrtoolError(
                f"{error.filename} cannot be written: {error.strerror}", hint="run it as root, or with --user"
            ) from None
        if commands and runs("systemd"):
            for command in commands:
                _tell(command)
            commands = []
    starts = wish.given or not timers or runs(wish.starter)
    document = {
        "dry_run": dry_run,
        "where": _where(wish),
        "changes": [
            {"path": None if change.path is None else str(change.path), "verb": change.verb, "text": change.after}
            for change in changes
        ],
        "next": [" ".join(command) for command in commands],
        "starts": starts,
    }
    if not starts:
        call.emit(Warned(message=_UNSTARTED[wish.starter]))
    call.show(document, _done_view(document), exit_code=0 if starts else 1)


def _telling(timers: list[str], going: list[str], *, user: bool) -> list[list[str]]:
    """Return the systemctl commands that activate the change."""
    control = ["systemctl", "--user"] if user else ["systemctl"]
    commands = [[*control, "disable", "--now", *going]] if going else []
    commands.append([*control, "daemon-reload"])
    if timers:
        commands.append([*control, "enable", "--now", *timers])
    return commands


def _tell(command: list[str]) -> None:
    import subprocess

    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=False, timeout=_SYSTEMCTL_S)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise DrtoolError(f"{' '.join(command)} could not be run: {error}") from None
    if done.returncode:
        said = done.stderr.decode("utf-8", "replace").strip()
        raise DrtoolError(f"{' '.join(command)} failed: {said}", hint="the files are written; run it by hand")


def _where(wish: Wish) -> str:
    return str(wish.directory) if wish.directory is not None else "this user's crontab"


def _state(job: "Job", place: "Place", changes: "list[Change]") -> str:
    """Return `installed`, `differs` or `not installed`."""
    unit = f"{place.prefix}-{job.name}"
    mine = [change for change in changes if change.path is None or change.path.stem in (unit, "drtool")]
    if not all(change.installed for change in mine):
        return "not installed"
    return "installed" if all(change.verb == "keep" for change in mine) else "differs"


def _is_active(job: "Job", wish: Wish, place: "Place") -> bool | None:
    """Return whether something will start the job, or None if that is unknown: files in a directory, or no answer."""
    from drtool.operations.scheduling.daemons import is_timer_active, runs

    if wish.given:
        return None
    if not wish.systemd or not runs("systemd"):
        return runs(wish.starter)
    return is_timer_active(f"{place.prefix}-{job.name}.timer", user=wish.user)


def _host_zone() -> tzinfo:
    """Return this host's time zone. If its name is unknown here, return the current offset."""
    from drtool.cli.settings import host_timezone

    try:
        return ZoneInfo(host_timezone(os.environ))
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return datetime.now(UTC).astimezone().tzinfo or UTC


def _row(job: "Job", wish: Wish, place: "Place", changes: "list[Change]") -> Document:
    from drtool.operations.scheduling.jobs import next_start

    state = _state(job, place, changes)
    soonest = next_start(job, place, wish.starter, datetime.now(UTC), _host_zone())
    return {
        "name": job.name,
        "command": " ".join(("drtool", *job.words)),
        "cron": job.when.text,
        "timezone": job.zone or None if wish.systemd else None,
        "jitter_seconds": job.jitter_s,
        "next": None if soonest is None else utc(int(soonest.timestamp()) * 10**9),
        "state": state,
        "active": False if state == "not installed" and not wish.given else _is_active(job, wish, place),
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
