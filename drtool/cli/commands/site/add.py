"""`site add`: give a vote to a site."""

from typing import TYPE_CHECKING, Annotated

import typer

from drtool.cli.commands.site.change import SiteArgument, change_site
from drtool.cli.core.options import DryRun
from drtool.config.schema import check_name, place_at

if TYPE_CHECKING:
    from drtool.cli.core.call import Call


def site_add(
    context: typer.Context,
    site: SiteArgument,
    arbiter: Annotated[
        str | None, typer.Option(metavar="URL", help="Create a new site that only votes, in this empty directory.")
    ] = None,
    dry_run: DryRun = False,
) -> None:
    """Give a vote to a site.

    The site so far only stores data, or has lost its register. With --arbiter, create a new site that votes and holds
    no copies. With two sites, it is the third vote, so that any one may be lost.

    Examples:
        drtool site add attic
        drtool site add judge --arbiter /mnt/router/drtool --dry-run
    """
    from drtool.model import SiteName, TargetName
    from drtool.operations.sites import plan_addition, plan_arbiter
    from drtool.repository import TargetSpec

    call: Call = context.obj
    if arbiter is None:
        change_site(
            call, lambda repository: (plan_addition(repository, SiteName(site), dry_run=dry_run, emit=call.emit), None)
        )
        return
    url, access = place_at(arbiter, call.settings.directory)
    name = TargetName(f"{check_name(site, 'site')}/main")
    target = TargetSpec(name=name, url=url, access=access, vote="only")
    change_site(call, lambda repository: (plan_arbiter(repository, target, dry_run=dry_run, emit=call.emit), target))
