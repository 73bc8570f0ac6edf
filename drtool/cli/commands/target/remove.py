"""`target remove`: remove a target from the repository."""

from typing import TYPE_CHECKING, Annotated

import typer

from drtool.cli.commands.target.change import TargetArgument, change_target
from drtool.cli.core.options import DryRun, target_name

if TYPE_CHECKING:
    from drtool.cli.core.call import Call


def target_remove(
    context: typer.Context,
    target: TargetArgument,
    gone: Annotated[
        bool, typer.Option("--gone", help="Remove it even though it is unreachable and will not come back.")
    ] = False,
    dry_run: DryRun = False,
) -> None:
    """Remove a target from the repository.

    Its stored objects are left in place. The command refuses while the target has the only good copy of anything,
    holds the register of a voting site, or may still receive data from an open session. Exit 5 if some data has fewer
    copies than configured without it.

    Examples:
        drtool target drain paris/nas && drtool rebalance && drtool target remove paris/nas
        drtool target remove paris/burnt --gone && drtool repair
    """
    from drtool.operations.placing import remove_target

    call: Call = context.obj
    name = target_name(target)
    change_target(
        call,
        lambda repository: remove_target(repository, name, gone_for_good=gone, dry_run=dry_run, emit=call.emit),
    )
