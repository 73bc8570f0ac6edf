"""`snapshots`: list the snapshots."""

from typing import TYPE_CHECKING, Annotated

import typer

from drtool.cli.core.options import Hosts, ManifestFrom, Sources, Tags, narrowing, sites
from drtool.cli.core.selection import SHORT_ID, hold_row, snapshot_row
from drtool.cli.core.text import Document, count, local, size
from drtool.cli.core.view import Cell, View, line, table, view
from drtool.operations.selection import narrowed

if TYPE_CHECKING:
    from drtool.cli.core.call import Call


def snapshots(
    context: typer.Context,
    host: Hosts = None,
    tag: Tags = None,
    source: Sources = None,
    latest: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="Show only the newest N of each host and source.")
    ] = None,
    manifest_from: ManifestFrom = None,
) -> None:
    """List the snapshots, oldest first.

    Examples:
        drtool snapshots
        drtool snapshots --host web1 --latest 3
        drtool snapshots --json | jq -r '.snapshots[-1].id'
    """
    call: Call = context.obj
    with call.open_repository(sites(manifest_from)) as repository:
        rows = narrowed(repository.view.state.snapshots, narrowing(host, tag, source), latest)
        marks = {mark.snapshot: mark for mark in repository.view.state.marks}
        listed = {row.id for row in repository.view.state.snapshots}
    document: Document = {"snapshots": [snapshot_row(row, listed) | hold_row(marks.get(row.id)) for row in rows]}
    call.show(document, snapshots_view(document))


def snapshots_view(document: Document) -> View:
    rows = document["snapshots"]
    if not rows:
        return view(line("no snapshots"))
    cells = [
        (
            Cell(row["id"][:SHORT_ID], "strong"),
            local(row["time"]),
            row["host"],
            row["source"] or Cell("-", "dim"),
            f"{row['files']:,}",
            size(row["bytes"]),
            Cell(",".join((*row["tags"], *(["(held)"] if row["held"] else []))), "dim"),
            " ".join(row["paths"]),
        )
        for row in rows
    ]
    return view(
        table("ID TIME HOST SOURCE FILES> SIZE> TAGS PATHS", cells), line(Cell(count(len(rows), "snapshot"), "dim"))
    )
