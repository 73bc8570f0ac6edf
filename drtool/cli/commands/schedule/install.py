"""`schedule install`: install timers for the jobs."""

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from drtool.cli.commands.schedule.timers import (
    Cron,
    Directory,
    Systemd,
    User,
    carry_out,
    changes_of,
    configured_jobs,
    named_place,
    place_of,
    timer_choice,
)
from drtool.cli.core.options import DryRun
from drtool.cli.core.trust import check_config, trust_of
from drtool.errors import ConfigError
from drtool.events import Warned

if TYPE_CHECKING:
    from drtool.cli.core.call import Call


def schedule_install(
    context: typer.Context,
    systemd: Systemd = False,
    cron: Cron = False,
    user: User = False,
    directory: Directory = None,
    dry_run: DryRun = False,
) -> None:
    """Install timers for the jobs of this host.

    The jobs are backup, prune, verify, status, and plans with a schedule. The times come from `schedule:` in the
    configuration, or are daily and weekly defaults. Running the command again updates the installed timers. It never
    touches files that it did not write (exit 11) or the timers of another configuration. Exit 1 if neither systemd
    nor cron runs here to start the jobs. --dry-run prints exactly what would be written.

    Examples:
        drtool schedule install --dry-run
        sudo drtool schedule install
        drtool schedule install --cron --user
        drtool schedule install --systemd --directory ./units
    """
    call: Call = context.obj
    choice = timer_choice(systemd=systemd, cron=cron, user=user, directory=directory)
    jobs = configured_jobs(call)
    place = named_place(choice, jobs, place_of(call, user=choice.user), call.settings.config.repository)
    if place.password_file is None and not call.settings.config.password_command:
        call.emit(
            Warned(
                message="the configuration names neither password_file nor password_command: without one, every "
                "job exits with 2"
            )
        )
    _warn_of_owner(call, place.config)
    timers = [f"{place.prefix}-{job.name}.timer" for job in jobs]
    carry_out(call, choice, changes_of(choice, jobs, place), timers, dry_run=dry_run)


def _warn_of_owner(call: "Call", config: Path) -> None:
    """Warn if another user could change what the jobs do. The configuration was named, so it is used all the same."""
    try:
        check_config(config, trust_of(named=False))
    except ConfigError as error:
        reason = error.message.removeprefix(f"the configuration {config} is not used: ")
        call.emit(Warned(message=f"another user can change what these jobs run: {reason}"))
