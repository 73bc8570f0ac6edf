"""`fault list`: list the faults that drills injected on this host."""

from typing import TYPE_CHECKING

import typer

from drtool.cli.core.options import FaultRun
from drtool.cli.core.text import Document, document_of, duration, local
from drtool.cli.core.view import Cell, Line, View, line, table, view

if TYPE_CHECKING:
    from drtool.cli.core.call import Call

_STATES = {
    "in force": Cell("in force", "bad"),
    "expired": Cell("expired", "dim"),
    "owner gone": Cell("its process is gone", "dim"),
    "stopped": Cell("stopped", "dim"),
    "elsewhere": Cell("on another machine", "dim"),
}


def fault_list(context: typer.Context, run: FaultRun = None) -> None:
    """List the faults that drills injected on this host.

    The list shows target, kind, run, and remaining time. Only processes on this host see the faults. Each fault ends
    by itself. If its drill has died, the next command removes it.

    Examples:
        drtool fault list
        drtool fault list --json | jq '.faults[] | select(.state == "in force")'
    """
    from drtool.plans.faults.clearing import list_faults

    call: Call = context.obj
    document = document_of(list_faults(call.state_dir, run))
    call.show(document, list_view(document))


def list_view(document: Document) -> View:
    rows = [
        (
            Cell(row["target"], "strong"),
            row["kind"],
            str(len(row["objects"])) if row["objects"] else "all",
            row["run"],
            row["step"],
            _STATES[row["state"]],
            duration(row["ends_in_seconds"]),
            local(row["injected_at"]),
        )
        for row in document["faults"]
    ]
    bad = [line(Cell("! ", "bad"), f"{row['name']} is ignored: {row['reason']}") for row in document["unreadable"]]
    head: list[Line] = (
        [line(Cell("the kill switch is on", "warn"), ": nothing is in force")] if document["stopped"] else []
    )
    if not rows:
        return view(*head, line("no fault is injected on this host"), *bad)
    return view(*head, table("TARGET KIND OBJECTS> RUN STEP STATE ENDS-IN> INJECTED", rows), *bad)
