"""`scratch list`: list the scratch spaces of runs."""

from typing import TYPE_CHECKING

import typer

from drtool.cli.core.text import Document, document_of, local, size
from drtool.cli.core.view import Cell, View, line, table, view

if TYPE_CHECKING:
    from drtool.cli.core.call import Call

_PROCESS = {
    "alive": Cell("running", "good"),
    "gone": Cell("gone", "warn"),
    "elsewhere": Cell("on another machine", "dim"),
    "unknown": Cell("in a container", "dim"),
}


def scratch_list(context: typer.Context) -> None:
    """List the scratch spaces of runs on this host.

    The list shows path, requested size, and state of the process. A run removes its own scratch spaces. If its
    process was killed, they stay with the data restored into them.

    Examples:
        drtool scratch list
        drtool scratch list --json | jq -r '.spaces[] | select(.process == "gone").run'
    """
    from drtool.plans.scratch import list_scratch

    call: Call = context.obj
    document = document_of(list_scratch(call.state_dir))
    call.show(document, list_view(document))


def list_view(document: Document) -> View:
    rows = [
        (
            Cell(row["run"], "strong"),
            size(row["asked_bytes"]),
            str(row["pid"]),
            _PROCESS[row["process"]],
            local(row["created_at"]),
            row["path"] if row["present"] else Cell("(not created)", "dim"),
        )
        for row in document["spaces"]
    ]
    bad = [line(Cell("! ", "bad"), f"{row['path']}: {row['reason']}") for row in document["unreadable"]]
    if not rows:
        return view(line("there is no scratch space"), *bad)
    return view(table("RUN ASKED> PID> PROCESS MADE PATH", rows), *bad)
