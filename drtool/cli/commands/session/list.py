"""`session list`: list the open sessions."""

from typing import TYPE_CHECKING

import typer

from drtool.cli.core.options import ManifestFrom, sites
from drtool.cli.core.selection import SHORT_ID
from drtool.cli.core.text import Document, count, document_of, local, optional_duration
from drtool.cli.core.view import Cell, View, line, table, view

if TYPE_CHECKING:
    from drtool.cli.core.call import Call

_PROCESS = {
    "alive": Cell("running", "good"),
    "gone": Cell("gone", "warn"),
    "elsewhere": Cell("on another host", "dim"),
    "unknown": Cell("unknown", "dim"),
}


def session_list(context: typer.Context, manifest_from: ManifestFrom = None) -> None:
    """List the open sessions.

    The list shows kind, source, host, start, and state of the process. A backup ends its session with its snapshot.
    If its process dies, the next backup on that host ends the session. Otherwise prune ends it after an hour without
    a renewal. After a reboot, in another container or on a copy of the machine, the state of the process is
    "unknown".

    Examples:
        drtool session list
        drtool session list --json | jq '.sessions[] | select(.process == "gone")'
    """
    from drtool.operations.sessions import sessions

    call: Call = context.obj
    with call.open_repository(sites(manifest_from)) as repository:
        document = document_of(sessions(repository))
    call.show(document, sessions_view(document))


def sessions_view(document: Document) -> View:
    rows = [
        (
            Cell(row["id"][:SHORT_ID], "strong"),
            row["kind"],
            row["source"] or "-",
            row["host"],
            str(row["pid"]),
            _PROCESS[row["process"]],
            local(row["opened"]) if row["opened"] else "-",
            optional_duration(row["opened_age_seconds"]),
            optional_duration(row["renewed_age_seconds"]),
        )
        for row in document["sessions"]
    ]
    if not rows:
        return view(line("no session is open"))
    return view(
        table("SESSION KIND SOURCE HOST PID> PROCESS OPENED AGE> RENEWED>", rows),
        line(Cell(count(len(rows), "session"), "dim")),
    )
