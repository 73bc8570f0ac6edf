"""`fault clear`: end the faults that drills injected on this host."""

from typing import TYPE_CHECKING

import typer

from drtool.cli.core.options import DryRun, FaultRun
from drtool.cli.core.text import Document, count, document_of
from drtool.cli.core.view import Cell, View, line, view

if TYPE_CHECKING:
    from drtool.cli.core.call import Call

_LEFTOVERS = 8


def fault_clear(context: typer.Context, run: FaultRun = None, dry_run: DryRun = False) -> None:
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
