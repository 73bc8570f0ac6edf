"""`prune`: give back the room of what no snapshot refers to."""

from typing import TYPE_CHECKING, Annotated

import typer

from drtool.cli.options import DryRun
from drtool.cli.text import Document, count, document_of, duration, size
from drtool.cli.view import Cell, View, line, view

if TYPE_CHECKING:
    from drtool.cli.call import Call


def prune(
    context: typer.Context,
    dry_run: DryRun = False,
    yes: Annotated[
        bool, typer.Option("--yes", help="Also when what other hosts forgot is more than a third of everything.")
    ] = False,
) -> None:
    """Remove what no snapshot refers to, while backups run.

    Packs that are mostly waste are rewritten. What a running backup may still need, and what lies on a target that is away,
    stays pending: the next prune finishes it. What another host forgot is kept for seven days.

    Examples:
        drtool prune --dry-run
        drtool prune
    """
    import time

    from drtool.operations.prune import PruneRequest
    from drtool.operations.prune import prune as run_prune

    call: Call = context.obj
    with call.open_repository(()) as repository:
        request = PruneRequest(host=call.settings.host, now_ns=time.time_ns(), yes=yes, dry_run=dry_run)
        document = document_of(run_prune(repository, request, call.emit))
    call.show(document, prune_view(document))


def prune_view(document: Document) -> View:
    would = "would be " if document["dry_run"] else ""
    parts = [
        line(Cell(f"{would}removed ", "good"), f"{_amount(document['removed'])}, {duration(document['wall_seconds'])}"),
        line(Cell(f"{would}rewritten ", "dim"), _amount(document["repacked"])),
        line(Cell("kept ", "dim"), _amount(document["kept"])),
    ]
    if document["pending"]["packs"]:
        parts.append(line(Cell("pending ", "warn"), f"{_amount(document['pending'])}: the next prune goes on"))
    parts += [line(f"  {row['reason']}") for row in document["waiting"]]
    return view(*parts)


def _amount(amount: Document) -> str:
    return f"{count(amount['packs'], 'pack')}, {size(amount['bytes'])}"
