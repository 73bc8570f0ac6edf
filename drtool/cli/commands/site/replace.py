"""`site replace`: replace a lost site."""

from typing import TYPE_CHECKING, Annotated

import typer

from drtool.cli.commands.site.change import show_change
from drtool.cli.core.options import DryRun
from drtool.config.schema import check_name, place_at
from drtool.config.urls import Access
from drtool.errors import UsageError

if TYPE_CHECKING:
    from drtool.cli.core.call import Call


def site_replace(
    context: typer.Context,
    old: Annotated[str, typer.Argument(metavar="OLD", help="Replace this site, which is gone or will go.")],
    new: Annotated[str, typer.Argument(metavar="NEW[/NAME]=URL", help="Use this new place. It may keep the old name.")],
    gone: Annotated[
        bool,
        typer.Option(
            "--gone", help="Give up data that only the old site has or may have, because it is gone for good."
        ),
    ] = False,
    dry_run: DryRun = False,
) -> None:
    """Replace a site with an empty directory.

    The new place takes over the vote and the weight of the old site. The targets of the old site are lost from then
    on. The new place is an empty directory, or one that does not exist yet. Use the command too if a site's disk came
    back empty: `site replace attic attic=URL`. Copies on the old site are missing until `drtool repair` makes them.

    The command refuses (exit 11) if the old site has or may have the only good copy of something, unless --gone is
    given. While the old place still answers, `repair` and `restore` read it. Wipe it only after `repair`.

    Examples:
        drtool site replace attic garage=/mnt/garage/drtool
        drtool site replace attic attic=/mnt/attic/drtool --gone --dry-run
    """
    from drtool.model import SiteName
    from drtool.operations.sites import place_for, replace_site

    call: Call = context.obj
    site, name, (url, access) = _place(call, new)

    with call.open_repository() as repository:
        target = place_for(repository, SiteName(old), SiteName(site), name, url, access)
        change = replace_site(repository, SiteName(old), target, gone_for_good=gone, dry_run=dry_run, emit=call.emit)
        show_change(call, repository, change)


def _place(call: "Call", word: str) -> tuple[str, str | None, tuple[str, Access]]:
    """Parse `NEW[/NAME]=URL`."""
    name, equals, url = word.partition("=")
    if not equals:
        raise UsageError(f"{word!r} has no URL", hint="write drtool site replace OLD NEW=/mnt/new/drtool")
    site, slash, target = name.partition("/")
    place = place_at(url, call.settings.directory)
    return check_name(site, "site"), check_name(target, "target") if slash else None, place
