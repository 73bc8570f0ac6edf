"""`target drain`: store no new data on a target."""

from typing import TYPE_CHECKING

import typer

from drtool.cli.commands.target.change import TargetArgument, change_target
from drtool.cli.core.options import DryRun, target_name

if TYPE_CHECKING:
    from drtool.cli.core.call import Call


def target_drain(context: typer.Context, target: TargetArgument, dry_run: DryRun = False) -> None:
    """Store no new data on a target.

    `rebalance` can then empty it. Its data stays readable. The command refuses if the remaining sites could not hold
    all copies.

    Examples:
        drtool target drain paris/nas && drtool rebalance && drtool target remove paris/nas
    """
    from drtool.operations.placing import drain_target

    call: Call = context.obj
    name = target_name(target)
    change_target(call, lambda repository: drain_target(repository, name, dry_run=dry_run, emit=call.emit))
