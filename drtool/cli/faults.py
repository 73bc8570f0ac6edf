"""`fault list` and `fault clear`: the faults that drills inject at this host's targets."""

from typing import TYPE_CHECKING, Annotated

import typer

from drtool.cli.options import DryRun
from drtool.cli.text import Document, count, document_of, duration, local
from drtool.cli.view import Cell, Line, View, line, table, view

if TYPE_CHECKING:
    from drtool.cli.call import Call

Run = Annotated[str | None, typer.Option("--run", metavar="RUN", help="Select only faults of this run.")]
_LEFTOVERS = 8
_STATES = {
    "in force": Cell("in force", "bad"),
    "expired": Cell("expired", "dim"),
    "owner gone": Cell("its process is gone", "dim"),
    "stopped": Cell("stopped", "dim"),
    "elsewhere": Cell("on another machine", "dim"),
}


def fault_list(context: typer.Context, run: Run = None) -> None:
    """List the faults that drills injected on this host: target, kind, run, and remaining time.

    Only processes on this host see the faults. Each fault ends by itself. If its drill has died, the next command
    removes it.

    Examples:
        drtool fault list
        drtool fault list --json | jq '.faults[] | select(.state == "in force")'
    """
    from drtool.plans.faults.clearing import list_faults

    call: Call = context.obj
    document = document_of(list_faults(call.state_dir, run))
    call.show(document, list_view(document))


def fault_clear(context: typer.Context, run: Run = None, dry_run: DryRun = False) -> None:
    """End the faults that drills injected on this host, now.

    This needs no repository and no configuration. Faults never change stored data, so nothing has to be restored. A
    drill that is still running notices that its fault is gone. Without --run, unreadable fault files are removed too.

    Examples:
        drtool fault clear
        drtool fault clear --run 20261123-140500-3f2a
    """
    from drtool.plans.faults.clearing import clear_faults

    call: Call = context.obj
    document = document_of(clear_faults(call.state_dir, run, dry_run=dry_run))
    call.show(document, clear_view(document), exit_code=_LEFTOVERS if document["left"] else 0)


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


def clear_view(document: Document) -> View:
    done = Cell("would end ", "warn") if document["dry_run"] else Cell("ended ", "good")
    remove = Cell("would remove ", "warn") if document["dry_run"] else Cell("removed ", "good")
    lines = [
        *(line(done, f"{row['kind']} at {row['target']} (run {row['run']})") for row in document["cleared"]),
        *(line(remove, f"{row['name']}: {row['reason']}") for row in document["removed"]),
        *(line(Cell("left ", "bad"), f"{row['name']}: {row['reason']}") for row in document["left"]),
    ]
    summary = f"{count(len(document['cleared']), 'fault')} {'would be ' if document['dry_run'] else ''}ended"
    return view(*lines) if lines else view(line(summary))
