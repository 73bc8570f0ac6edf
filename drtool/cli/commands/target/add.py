"""`target add`: add a target."""

from typing import TYPE_CHECKING, Annotated

import typer

from drtool.cli.commands.target.change import change_target
from drtool.cli.core.options import DryRun, target_name, whole_weight
from drtool.config.schema import place_at

if TYPE_CHECKING:
    from drtool.cli.core.call import Call


def target_add(
    context: typer.Context,
    target: Annotated[str, typer.Argument(metavar="SITE[/NAME]", help="Name the new target. NAME is main by default.")],
    url: Annotated[str, typer.Argument(metavar="URL", help="Use this empty or new directory, or another empty place.")],
    weight: Annotated[
        str | None,
        typer.Option(
            "--weight", metavar="N", help="Set its share of the copies, relative to the other targets' weights."
        ),
    ] = None,
    dry_run: DryRun = False,
) -> None:
    """Add a target.

    New backups use the target at once, and `rebalance` moves existing packs to it. A new site stores data but does
    not vote until `site add`. The configuration is not edited. The command prints the line to add, which other hosts
    need too.

    Examples:
        drtool target add oslo /mnt/oslo/drtool && drtool rebalance
        drtool target add paris/nas2 file:///mnt/nas2/drtool --weight 4
    """
    from drtool.operations.placing import add_target
    from drtool.repository import TargetSpec

    call: Call = context.obj
    place, access = place_at(url, call.settings.directory)
    spec = TargetSpec(name=target_name(target), url=place, access=access)
    wanted = None if weight is None else whole_weight(weight, "--weight")
    change_target(call, lambda repository: add_target(repository, spec, wanted, dry_run=dry_run, emit=call.emit))
