"""`site remove`: take a site's vote away."""

import typer

from drtool.cli.commands.site.change import SiteArgument, change_site
from drtool.cli.core.options import DryRun


def site_remove(context: typer.Context, site: SiteArgument, dry_run: DryRun = False) -> None:
    """Take a site's vote away.

    The site keeps its data and still receives new copies. The command refuses if the remaining voters could not
    decide anything.

    Examples:
        drtool site remove attic --dry-run
    """
    from drtool.model import SiteName
    from drtool.operations.sites import plan_removal

    change_site(context.obj, lambda repository: (plan_removal(repository, SiteName(site), dry_run=dry_run), None))
