"""`target list` and `ring show`: where copies lie, and where they should."""

from typing import TYPE_CHECKING

import typer

from drtool.cli.options import ManifestFrom, sites
from drtool.cli.text import Document, count, document_of, size
from drtool.cli.view import Cell, View, line, table, view

if TYPE_CHECKING:
    from drtool.cli.call import Call


def target_list(context: typer.Context, manifest_from: ManifestFrom = None) -> None:
    """List the targets: state, what each holds, and its share.

    Examples:
        drtool target list
        drtool target list --json | jq '.targets[] | select(.reachable | not)'
    """
    from drtool.operations.targets import targets

    call: Call = context.obj
    with call.open_repository(sites(manifest_from)) as repository:
        document = document_of(targets(repository))
    call.show(document, targets_view(document))


def ring_show(context: typer.Context, manifest_from: ManifestFrom = None) -> None:
    """Show the ring: copies, weights, and the share of packs that each target gets.

    Examples:
        drtool ring show
    """
    from drtool.operations.targets import ring

    call: Call = context.obj
    with call.open_repository(sites(manifest_from)) as repository:
        document = document_of(ring(repository))
    call.show(document, ring_view(document))


def targets_view(document: Document) -> View:
    rows = [
        (
            Cell(row["name"], "strong"),
            _state(row),
            str(row["weight"]),
            "-" if row["objects"] is None else f"{row['objects']:,}",
            "-" if row["bytes"] is None else size(row["bytes"]),
            _percent(row["share"]),
            _percent(row["expected_share"]),
            row["url"],
        )
        for row in document["targets"]
    ]
    problems = [line(Cell(f"{row['name']}: ", "warn"), row["problem"]) for row in document["targets"] if row["problem"]]
    return view(table("TARGET STATE WEIGHT> OBJECTS> BYTES> SHARE> EXPECTED> URL", rows), *problems)


def ring_view(document: Document) -> View:
    rows = [
        (
            Cell(row["name"], "strong"),
            row["state"],
            str(row["weight"]),
            _percent(row["share"]),
            _percent(row["expected_share"]),
        )
        for row in document["targets"]
    ]
    head = line(
        Cell(f"ring epoch {document['epoch']}", "strong"),
        f", {count(document['copies'], 'copy', 'copies')} of every pack",
    )
    return view(head, table("TARGET STATE WEIGHT> SHARE> EXPECTED>", rows))


def _state(row: Document) -> Cell:
    if not row["reachable"]:
        return Cell("offline", "bad")
    return Cell(row["state"], "good" if row["state"] == "active" else "warn")


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.1f}%"
