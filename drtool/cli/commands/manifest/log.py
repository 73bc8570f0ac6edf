"""`manifest log`: list the changes of the catalogue."""

from typing import TYPE_CHECKING, Annotated

import typer

from drtool.cli.core.options import ManifestFrom, sites
from drtool.cli.core.text import Document, document_of, local
from drtool.cli.core.view import Cell, View, table, view

if TYPE_CHECKING:
    from drtool.cli.core.call import Call


def manifest_log(
    context: typer.Context,
    limit: Annotated[int | None, typer.Option(metavar="N", min=1, help="Show only the newest N changes.")] = None,
    manifest_from: ManifestFrom = None,
) -> None:
    """List the changes of the catalogue, newest first.

    Examples:
        drtool manifest log --limit 20
        drtool manifest log --manifest-from any
    """
    call: Call = context.obj
    with call.open_repository(sites(manifest_from)) as repository:
        entries = repository.manifest.log(repository.view, limit)
    document = document_of({"entries": entries})
    call.show(document, log_view(document))


def log_view(document: Document) -> View:
    rows = [
        (Cell(str(row["sequence"]), "strong"), local(row["time"]), row["host"], row["kind"], row["summary"])
        for row in document["entries"]
    ]
    return view(table("CHANGE> TIME HOST KIND SUMMARY", rows))
