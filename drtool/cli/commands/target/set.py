"""`target set`: change a target's weight or address, or use it again."""

from typing import TYPE_CHECKING, Annotated

import typer

from drtool.cli.commands.target.change import TargetArgument, change_target
from drtool.cli.core.options import DryRun, target_name, whole_weight
from drtool.config.schema import place_at
from drtool.config.urls import NO_ACCESS
from drtool.errors import UsageError

if TYPE_CHECKING:
    from drtool.cli.core.call import Call


def target_set(
    context: typer.Context,
    target: TargetArgument,
    weight: Annotated[
        str | None, typer.Option("--weight", metavar="N", help="Set its share of the copies from now on.")
    ] = None,
    url: Annotated[
        str | None,
        typer.Option(
            "--url", metavar="URL", help="Record this new place of the target, if its directory was moved as it is."
        ),
    ] = None,
    gone: Annotated[
        bool,
        typer.Option("--gone", help="With --url, give up the copy at the old address even though it still answers."),
    ] = False,
    active: Annotated[bool, typer.Option("--active", help="Use it again after a drain.")] = False,
    dry_run: DryRun = False,
) -> None:
    """Change a target, or use it again after a drain.

    A target that was moved is used at the place that the configuration names. --url records the place for other
    hosts. If the directory was copied and both copies answer, every command refuses (exit 11) until one copy is moved
    away or given up with --gone.

    Examples:
        drtool target set paris/nas --weight 8 && drtool rebalance
        drtool target set paris/nas --url /mnt/new-mount-point/drtool
        drtool target set paris/nas --url /mnt/new-disk/drtool --gone
        drtool target set paris/nas --active
    """
    from drtool.operations.placing import set_target

    call: Call = context.obj
    if weight is None and url is None and not active:
        raise UsageError("nothing to change", hint="give --weight N, --url URL or --active")
    if gone and url is None:
        raise UsageError(
            "--gone gives up an old address, so it needs a new one", hint="give the new address with --url URL"
        )
    name = target_name(target)
    number = None if weight is None else whole_weight(weight, "--weight")
    place, access = (None, NO_ACCESS) if url is None else place_at(url, call.settings.directory)
    change_target(
        call,
        lambda repository: set_target(
            repository,
            name,
            weight=number,
            url=place,
            access=access,
            gone=gone,
            active=active,
            dry_run=dry_run,
            emit=call.emit,
        ),
        declares=place is not None,
    )
