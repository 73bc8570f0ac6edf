"""`site list`, `add`, `replace` and `remove`: the sites, and their votes on the catalogue."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated

import typer

from drtool.cli.options import DryRun, ManifestFrom, sites
from drtool.cli.stale_config import tell_stale
from drtool.cli.text import Document, count, document_of
from drtool.cli.view import Cell, Line, Table, View, line, table, view
from drtool.config.schema import check_name, place_at
from drtool.config.urls import Access
from drtool.errors import UsageError

if TYPE_CHECKING:
    from drtool.cli.call import Call
    from drtool.operations.sites import Change
    from drtool.repository import Repository, TargetSpec

Planned = tuple["Change", "TargetSpec | None"]
SiteArgument = Annotated[str, typer.Argument(metavar="SITE", help="A site of the repository.")]


def site_list(context: typer.Context, manifest_from: ManifestFrom = None) -> None:
    """List the sites: votes, targets, reachability, and how many may be lost.

    Examples:
        drtool site list
        drtool site list --json | jq '.sites[] | select(.votes) | .name'
    """
    from drtool.operations.sites import sites as list_sites

    call: Call = context.obj
    with call.open_anyhow(sites(manifest_from)) as repository:
        document = document_of(list_sites(repository))
    call.show(document, sites_view(document), exit_code=repository.uncertain.exit_code if repository.uncertain else 0)


def site_add(
    context: typer.Context,
    site: SiteArgument,
    arbiter: Annotated[
        str | None, typer.Option(metavar="URL", help="Create a new site that only votes, in this empty directory.")
    ] = None,
    dry_run: DryRun = False,
) -> None:
    """Give a vote to a site that only stores data, or restore the vote of a site that lost its register.

    With --arbiter, create a new site that votes and holds no copies. With two sites, it is the third vote, so that
    any one may be lost.

    Examples:
        drtool site add attic
        drtool site add judge --arbiter /mnt/router/drtool --dry-run
    """
    from drtool.model import SiteName, TargetName
    from drtool.operations.sites import plan_addition, plan_arbiter
    from drtool.repository import TargetSpec

    call: Call = context.obj
    if arbiter is None:
        _change(call, lambda repository: (plan_addition(repository, SiteName(site), dry_run=dry_run), None))
        return
    url, access = place_at(arbiter, call.settings.directory)
    name = TargetName(f"{check_name(site, 'site')}/main")
    target = TargetSpec(name=name, url=url, access=access, vote="only")
    _change(call, lambda repository: (plan_arbiter(repository, target, dry_run=dry_run), target))


def site_remove(context: typer.Context, site: SiteArgument, dry_run: DryRun = False) -> None:
    """Take a site's vote away. It keeps its data and still receives new copies.

    The command refuses if the remaining voters could not decide anything.

    Examples:
        drtool site remove attic --dry-run
    """
    from drtool.model import SiteName
    from drtool.operations.sites import plan_removal

    _change(context.obj, lambda repository: (plan_removal(repository, SiteName(site), dry_run=dry_run), None))


def site_replace(
    context: typer.Context,
    old: Annotated[str, typer.Argument(metavar="OLD", help="Replace this site, which is gone or will go.")],
    new: Annotated[str, typer.Argument(metavar="NEW[/NAME]=URL", help="Use this new place; it may keep the old name.")],
    gone: Annotated[
        bool,
        typer.Option(
            "--gone", help="Give up data that only the old site has or may have, because it is gone for good."
        ),
    ] = False,
    dry_run: DryRun = False,
) -> None:
    """Replace a site with an empty directory, which takes over its vote and its weight.

    The targets of the old site are lost from then on. The new place is an empty directory, or one that does not exist
    yet. Use the command too if a site's disk came back empty: `site replace attic attic=URL`. Copies on the old site
    are missing until `drtool repair` makes them.

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
        _show(call, repository, change)


def _place(call: "Call", word: str) -> tuple[str, str | None, tuple[str, Access]]:
    """Parse `NEW[/NAME]=URL`."""
    name, equals, url = word.partition("=")
    if not equals:
        raise UsageError(f"{word!r} has no URL", hint="write drtool site replace OLD NEW=/mnt/new/drtool")
    site, slash, target = name.partition("/")
    place = place_at(url, call.settings.directory)
    return check_name(site, "site"), check_name(target, "target") if slash else None, place


def _change(call: "Call", plan: "Callable[[Repository], Planned]") -> None:
    from drtool.operations.sites import carry_out

    with call.open_repository() as repository:
        change, target = plan(repository)
        if not change.dry_run:
            carry_out(repository, change, target, call.emit)
        _show(call, repository, change)


def _show(call: "Call", repository: "Repository", change: "Change") -> None:
    document = document_of(change)
    document["changed"] = not (change.dry_run or change.changes_nothing)
    document["sequence"] = repository.view.sequence
    document["configuration"] = tell_stale(call, repository) if document["changed"] else None
    call.show(document, change_view(document, nothing=change.changes_nothing))


def sites_view(document: Document) -> View:
    rows = [
        (
            Cell(row["name"], "strong"),
            _vote(row),
            Cell("yes", "good") if row["reachable"] else Cell("no", "bad"),
            ", ".join(row["targets"]) or "-",
            Cell(row["problem"] or "", "warn"),
        )
        for row in document["sites"]
    ]
    voters = sum(row["votes"] for row in document["sites"])
    parts: list[Line | Table] = [
        table("SITE VOTES REACHED TARGETS PROBLEM", rows),
        line(f"{count(voters, 'voter')}, {document['needed']} needed: {_tolerance(document)}"),
    ]
    return view(*parts, *_advice(document))


def _vote(row: Document) -> Cell:
    if not row["votes"]:
        return Cell("no", "dim")
    return Cell("yes") if row["stores"] else Cell("only")


def _tolerance(document: Document) -> str:
    lost = document["tolerates"]
    return f"writing continues with {lost or 'none'} of them lost"


def _advice(document: Document) -> list[Line]:
    return [line(Cell(document["advice"], "warn"))] if document["advice"] else []


def change_view(document: Document, *, nothing: bool) -> View:
    site, dry = document["site"], document["dry_run"]
    if nothing:
        done = (
            f"{document['url']} has already replaced it"
            if document["url"]
            else "it already votes, and its register is sound"
        )
        return view(line(f"nothing to do for {site}: {done}"))
    would, done = _VERBS[document["verb"]]
    parts = [line(Cell(f"would {would} " if dry else f"{done} ", "warn" if dry else "good"), _what(document))]
    parts.append(line(f"voters: {', '.join(document['voters'])} ({document['needed']} needed; {_tolerance(document)})"))
    if document["lost"]:
        parts.append(line(f"lost from now on: {', '.join(document['lost'])}; `drtool repair` makes the missing copies"))
    if document["stays"]:
        parts.append(
            line(f"{', '.join(document['stays'])} still stores data: its copies stay, and it receives new ones")
        )
    return view(*parts, *_advice(document))


_VERBS = {
    "add": ("give a vote to", "gave a vote to"),
    "remove": ("take the vote of", "took the vote of"),
    "replace": ("replace", "replaced"),
}


def _what(document: Document) -> str:
    if document["verb"] != "replace":
        return f"{document['site']}{' at ' + document['url'] if document['url'] else ''}"
    return f"{document['site']} by {document['new_target']} at {document['url']}, weight {document['weight']}"
