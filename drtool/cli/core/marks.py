"""Tags and holds: storing them for named snapshots, and showing the result."""

from typing import TYPE_CHECKING, Annotated

import typer

from drtool.cli.core.options import split_snapshot
from drtool.cli.core.selection import SHORT_ID, chosen_snapshot, hold_row
from drtool.cli.core.text import Document, local
from drtool.cli.core.view import Cell, View, table, view
from drtool.errors import UsageError
from drtool.operations.snapshot_names import parse_latest

if TYPE_CHECKING:
    from drtool.cli.core.call import Call
    from drtool.operations.marking import Altering
    from drtool.operations.selection import Narrowing
    from drtool.repository import Repository

Names = Annotated[
    list[str], typer.Argument(metavar="SNAPSHOT…", help="Unique prefixes of ids, latest, or latest:PATH.")
]


def mark_snapshots(call: "Call", names: list[str], narrow: "Narrowing", alter: "Altering") -> None:
    from drtool.operations.marking import mark

    with call.open_repository() as repository:
        ids = [_chosen(call, repository, name, narrow) for name in names]
        rows = mark(repository, ids, alter)
    document: Document = {
        "snapshots": [{"id": row.id.hex(), "tags": list(row.tags), **hold_row(mark)} for row, mark in rows]
    }
    call.show(document, _marks_view(document))


def _chosen(call: "Call", repository: "Repository", text: str, narrow: "Narrowing") -> bytes:
    """Return the id of the snapshot that `text` names.

    A path only selects among `latest`, because marks apply to whole snapshots.
    """
    name, path = split_snapshot(text)
    if path and parse_latest(name) is None:
        raise UsageError(f"{text}: marks apply to whole snapshots, so give the id without a path", hint=f"write {name}")
    return chosen_snapshot(call, repository, name, narrow, path).id


def hold_words(row: Document) -> str:
    """Return `held until 2027-01-31 00:00:00: audit`, or "" if the snapshot is not held."""
    if not row["held"]:
        return ""
    until = f" until {local(row['hold_until'])}" if row["hold_until"] else ""
    return f"held{until}{': ' + row['hold_reason'] if row['hold_reason'] else ''}"


def _marks_view(document: Document) -> View:
    rows = [
        (
            Cell(row["id"][:SHORT_ID], "strong"),
            ",".join(row["tags"]) or Cell("-", "dim"),
            hold_words(row) or Cell("-", "dim"),
        )
        for row in document["snapshots"]
    ]
    summary = "; ".join(
        " ".join(
            filter(
                None, (row["id"][:SHORT_ID], f"tags {','.join(row['tags']) or 'none'},", hold_words(row) or "not held")
            )
        )
        for row in document["snapshots"]
    )
    return view(table("ID TAGS HOLD", rows), summary=summary)
