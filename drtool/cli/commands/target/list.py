"""`target list`: list the targets."""

from typing import TYPE_CHECKING

import typer

from drtool.cli.core.options import ManifestFrom, sites
from drtool.cli.core.text import Document, document_of, share_percent, size
from drtool.cli.core.view import Cell, View, line, table, view

if TYPE_CHECKING:
    from drtool.cli.core.call import Call


def target_list(context: typer.Context, manifest_from: ManifestFrom = None) -> None:
    """List the targets with state, contents and share.

    Examples:
        drtool target list
        drtool target list --json | jq '.targets[] | select(.reachable | not)'
    """
    from drtool.operations.targets import targets

    call: Call = context.obj
    with call.open_repository(sites(manifest_from)) as repository:
        document = document_of(targets(repository))
    call.show(document, targets_view(document))


def targets_view(document: Document) -> View:
    rows = [
        (
            Cell(row["name"], "strong"),
            _state(row),
            str(row["weight"]),
            "-" if row["objects"] is None else f"{row['objects']:,}",
            "-" if row["bytes"] is None else size(row["bytes"]),
            share_percent(row["share"]),
            share_percent(row["expected_share"]),
            row["url"],
        )
        for row in document["targets"]
    ]
    problems = [line(Cell(f"{row['name']}: ", "warn"), row["problem"]) for row in document["targets"] if row["problem"]]
    return view(table("TARGET STATE WEIGHT> OBJECTS> BYTES> SHARE> EXPECTED> URL", rows), *problems)


def _state(row: Document) -> Cell:
    if not row["reachable"]:
        return Cell("offline", "bad")
    return Cell(row["state"], "good" if row["state"] == "active" else "warn")
