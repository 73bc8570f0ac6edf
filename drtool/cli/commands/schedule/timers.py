"""The timers of this host: the options that select them, their jobs and files, and changing them."""

import os
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from msgspec import Struct
from msgspec.structs import replace

from drtool.cli.core.text import Document
from drtool.cli.core.view import Cell, Line, View, line, view
from drtool.config.identity import one_spelling
from drtool.errors import DrtoolError, UsageError
from drtool.events import Warned

if TYPE_CHECKING:
    from drtool.cli.core.call import Call
    from drtool.operations.scheduling import Change, Job, Place
    from drtool.operations.scheduling.daemons import Starter
    from drtool.plans.language import Plan

Systemd = Annotated[bool, typer.Option("--systemd", help="Use systemd timers, the default where systemd runs.")]
Cron = Annotated[bool, typer.Option("--cron", help="Use /etc/cron.d/drtool, or a block in the user's crontab.")]
User = Annotated[
    bool, typer.Option("--user", help="Use the timers of this user instead of the system, the default without root.")
]
Directory = Annotated[
    str | None, typer.Option(metavar="DIR", help="Write the files there, without notifying systemd or cron.")
]
_SYSTEMCTL_S = 60.0
_UNSTARTED = {
    "systemd": "systemd does not run on this host, so nothing starts these jobs: use --cron",
    "cron": "neither cron nor systemd runs on this host, so nothing starts these jobs: start a cron daemon",
}


class TimerChoice(Struct, frozen=True, kw_only=True):
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


def timer_choice(*, systemd: bool, cron: bool, user: bool, directory: str | None) -> TimerChoice:
    if systemd and cron:
        raise UsageError("--systemd and --cron exclude each other", hint="leave one of them out")
    from drtool.operations.scheduling.daemons import runs

    with_systemd = systemd or (not cron and runs("systemd"))
    mine = user or os.getuid() != 0
    if directory is not None:
        return TimerChoice(systemd=with_systemd, user=mine, directory=Path(directory).absolute(), given=True)
    if with_systemd:
        base = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config")
        place: Path | None = base / "systemd/user" if mine else Path("/etc/systemd/system")
    else:
        place = None if mine else Path("/etc/cron.d")
    return TimerChoice(systemd=with_systemd, user=mine, directory=place, given=False)


def place_of(call: "Call", *, user: bool) -> "Place":
    from drtool.operations.scheduling import Place
    from drtool.operations.scheduling.jobs import writable_places

    config = call.settings.config
    path = one_spelling(call.check_configured().absolute(), config)
    return Place(
        program=_program(),
        config=path,
        host=call.settings.host,
        password_file=path.parent / config.password_file if config.password_file else None,
        writable=writable_places(config, path.parent),
        user=user,
    )


def named_place(choice: TimerChoice, jobs: "list[Job]", place: "Place", repository: str) -> "Place":
    """Return the place with the prefix of its units, which separates them from those of other configurations."""
    if not choice.systemd or choice.directory is None:
        return place
    from drtool.operations.scheduling.files import prefix_for
    from drtool.operations.scheduling.systemd import units

    return replace(place, prefix=prefix_for(choice.directory, units(jobs, place), place.config, repository))


def _program() -> tuple[str, ...]:
    """Return the command that starts this program from anywhere."""
    own = Path(sys.argv[0])
    if own.name == "drtool":
        found = own if "/" in sys.argv[0] else shutil.which("drtool")
        if found:
            return (str(Path(found).absolute()),)
    return sys.executable, "-m", "drtool"


def configured_jobs(call: "Call") -> "list[Job]":
    from drtool.operations.scheduling import jobs_of

    return jobs_of(call.settings.config, _plan_jobs(call))


def _unanswered(plan: "Plan") -> str:
    """Return a variable that must be given on the command line, or "" if there is none."""
    return next((name for name, var in plan.vars.items() if var.required and var.default is None), "")


def _plan_jobs(call: "Call") -> "list[Job]":
    """Return the jobs of the plans in the configured directory that have a schedule."""
    from drtool.cli.core.plan_files import plans_directory

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


def changes_of(choice: TimerChoice, jobs: "list[Job]", place: "Place") -> "list[Change]":
    from drtool.operations.scheduling.crontab import block
    from drtool.operations.scheduling.files import cron_file_change, crontab_change, unit_changes
    from drtool.operations.scheduling.systemd import owner, units

    config = owner(place.config)
    if choice.directory is None:
        return [crontab_change(block(jobs, place), config)]
    if choice.systemd:
        return unit_changes(choice.directory, units(jobs, place), config)
    return cron_file_change(choice.directory, block(jobs, place), config)


def carry_out(call: "Call", choice: TimerChoice, changes: "list[Change]", timers: list[str], *, dry_run: bool) -> None:
    from drtool.operations.scheduling import apply
    from drtool.operations.scheduling.daemons import runs

    going = [c.path.name for c in changes if c.path is not None and c.verb == "remove" and c.path.suffix == ".timer"]
    commands = [] if choice.given or not choice.systemd else _telling(timers, going, user=choice.user)
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
    starts = choice.given or not timers or runs(choice.starter)
    document = {
        "dry_run": dry_run,
        "where": place_words(choice),
        "changes": [
            {"path": None if change.path is None else str(change.path), "verb": change.verb, "text": change.after}
            for change in changes
        ],
        "next": [" ".join(command) for command in commands],
        "starts": starts,
    }
    if not starts:
        call.emit(Warned(message=_UNSTARTED[choice.starter]))
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


def place_words(choice: TimerChoice) -> str:
    return str(choice.directory) if choice.directory is not None else "this user's crontab"


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
