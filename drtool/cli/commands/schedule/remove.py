"""`schedule remove`: remove the timers of a configuration."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from drtool.cli.commands.schedule.timers import Cron, Directory, Systemd, TimerChoice, User, carry_out, timer_choice
from drtool.cli.core.options import DryRun
from drtool.errors import UsageError

if TYPE_CHECKING:
    from drtool.cli.core.call import Call
    from drtool.operations.scheduling import Change

Everything = Annotated[
    bool, typer.Option("--all", help="Select the timers of every configuration, not only of this one.")
]


def schedule_remove(
    context: typer.Context,
    systemd: Systemd = False,
    cron: Cron = False,
    user: User = False,
    directory: Directory = None,
    everything: Everything = False,
    dry_run: DryRun = False,
) -> None:
    """Remove the timers of this configuration.

    Only timers that `schedule install` installed are removed. The configuration need not exist any more: name it with
    --config.

    Examples:
        drtool schedule remove --dry-run
        sudo drtool schedule remove
        sudo drtool --config /etc/drtool/old.yaml schedule remove
    """
    call: Call = context.obj
    choice = timer_choice(systemd=systemd, cron=cron, user=user, directory=directory)
    config = None if everything else _whose(call, choice)
    carry_out(call, choice, _removals(choice, config), [], dry_run=dry_run)


def _whose(call: "Call", choice: TimerChoice) -> str | None:
    """Return the configuration of the timers to remove, as their marks name it, or None to remove all timers."""
    from drtool.cli.core.settings import find_config, named_config
    from drtool.config.identity import spellings
    from drtool.operations.scheduling.files import configurations
    from drtool.operations.scheduling.systemd import owner

    here = Path.cwd()
    path = named_config(call.options, os.environ, here) or find_config(call.options, os.environ, here)
    found = configurations(choice.directory)
    if path is not None:
        names = [owner(each) for each in spellings(path)]
        return next((name for name in names if name in found), names[0])
    if len(found) > 1:
        raise UsageError(
            f"several configurations have timers here: {', '.join(found)}",
            hint="name one with --config FILE, or remove the timers of all with --all",
        )
    return None


def _removals(choice: TimerChoice, config: str | None) -> "list[Change]":
    """Return the changes that remove a configuration's timers, or all timers for None.

    In a directory: units and cron's file.
    """
    from drtool.operations.scheduling.files import cron_file_change, crontab_change, unit_changes

    if choice.directory is None:
        return [crontab_change("", config)]
    return [*unit_changes(choice.directory, {}, config), *cron_file_change(choice.directory, "", config)]
