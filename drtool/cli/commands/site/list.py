"""`site list`: list the sites and their votes."""

from typing import TYPE_CHECKING

import typer

from drtool.cli.commands.site.change import advice_lines, tolerance_words
from drtool.cli.core.options import ManifestFrom, sites
from drtool.cli.core.text import Document, count, document_of
from drtool.cli.core.view import Cell, Line, Table, View, line, table, view

if TYPE_CHECKING:
    from drtool.cli.core.call import Call


def site_list(context: typer.Context, manifest_from: ManifestFrom = None) -> None:
    """List the sites and their votes.

    The list shows votes, targets and reachability, and how many sites may be lost.

    Examples:
        drtool site list
        drtool site list --json | jq '.sites[] | select(.votes) | .name'
    """
    from drtool.operations.sites import sites as list_sites

    call: Call = context.obj
    with call.open_for_report(sites(manifest_from)) as repository:
        document = document_of(list_sites(repository))
    call.show(document, sites_view(document), exit_code=repository.uncertain.exit_code if repository.uncertain else 0)


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
        line(f"{count(voters, 'voter')}, {document['needed']} needed: {tolerance_words(document)}"),
    ]
    return view(*parts, *advice_lines(document))


def _vote(row: Document) -> Cell:
    if not row["votes"]:
        return Cell("no", "dim")
    return Cell("yes") if row["stores"] else Cell("only")
