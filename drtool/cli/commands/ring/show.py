"""`ring show`: show the ring."""

from typing import TYPE_CHECKING

import typer

from drtool.cli.core.options import ManifestFrom, sites
from drtool.cli.core.text import Document, count, document_of, share_percent
from drtool.cli.core.view import Cell, View, line, table, view

if TYPE_CHECKING:
    from drtool.cli.core.call import Call


def ring_show(context: typer.Context, manifest_from: ManifestFrom = None) -> None:
    """Show the ring and each target's share of the packs.

    Examples:
        drtool ring show
    """
    from drtool.operations.targets import ring

    call: Call = context.obj
    with call.open_repository(sites(manifest_from)) as repository:
        document = document_of(ring(repository))
    call.show(document, ring_view(document))


def ring_view(document: Document) -> View:
    rows = [
        (
            Cell(row["name"], "strong"),
            row["state"],
            str(row["weight"]),
            share_percent(row["share"]),
            share_percent(row["expected_share"]),
        )
        for row in document["targets"]
    ]
    head = line(
        Cell(f"ring epoch {document['epoch']}", "strong"),
        f", {count(document['copies'], 'copy', 'copies')} of every pack",
    )
    return view(head, table("TARGET STATE WEIGHT> SHARE> EXPECTED>", rows))
