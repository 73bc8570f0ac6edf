"""`rebalance`: move copies to the targets that the ring assigns."""

from typing import TYPE_CHECKING, Annotated

import typer

from drtool.cli.core.moves import copies_words, percent, show_moved, waiting_lines
from drtool.cli.core.options import DryRun, limit_bytes
from drtool.cli.core.text import Document, act, document_of, duration
from drtool.cli.core.view import Cell, View, line, view

if TYPE_CHECKING:
    from drtool.cli.core.call import Call

_SHOWN = 20


def rebalance(
    context: typer.Context,
    dry_run: DryRun = False,
    max_objects: Annotated[
        int | None,
        typer.Option(metavar="N", min=1, help="Refuse, with nothing changed, if more objects would be written."),
    ] = None,
    max_bytes: Annotated[
        str | None, typer.Option(metavar="SIZE", help="Refuse, with nothing changed, if more bytes would be written.")
    ] = None,
) -> None:
    """Move copies to the targets that the ring assigns.

    Run it after `target add`, `set` or `drain`, or after an outage. A new copy is read back before an old one is
    deleted. If stopped, it continues when run again. Backups may run meanwhile. Data of an unreachable site is left
    alone. If the site is lost, `repair` replaces its copies.

    Exit 1 if extra copies stay because another mover is at work, 4 if all copies of something are lost, 5 if
    something has fewer copies than configured.

    Examples:
        drtool target add oslo/nas /mnt/oslo/drtool && drtool rebalance
        drtool rebalance --dry-run
    """
    from drtool.operations.rebalance import RebalanceRequest
    from drtool.operations.rebalance import rebalance as run_rebalance
    from drtool.operations.rebalance.run import exit_code

    call: Call = context.obj
    with call.open_repository() as repository:
        request = RebalanceRequest(
            workers=call.settings.workers,
            dry_run=dry_run,
            names_items=call.name_items(dry_run=dry_run),
            max_objects=max_objects,
            max_bytes=limit_bytes(max_bytes),
        )
        result = run_rebalance(repository, request, call.emit)
    document = document_of(result) | {"changes": call.changes()}
    show_moved(call, document, rebalance_view(document), exit_code(result))


def rebalance_view(document: Document) -> View:
    moves = document["moves"]
    took = duration(document["wall_seconds"])
    moved = f"{copies_words(moves)}, {percent(moves['fraction'])} of all copies, {took}"
    parts = [
        line(Cell(f"{act('moved', document)} ", "good"), moved)
        if moves["objects"]
        else line(f"nothing to move, {took}")
    ]
    if document["removed"]["objects"]:
        parts.append(
            line(
                Cell(f"{act('removed', document)} ", "dim"),
                f"{copies_words(document['removed'])} of extra copies",
            )
        )
    if document["rebuilt"]["objects"]:
        parts.append(line(Cell(f"{act('rebuilt', document)} ", "good"), copies_words(document["rebuilt"])))
    parts += waiting_lines(document, document["left"])
    parts += [line(Cell("lost ", "bad"), f"{name}: no good copy was found") for name in document["lost"][:_SHOWN]]
    hidden = len(document["lost"]) - _SHOWN
    parts += [line(Cell(f"  … and {hidden} more (--json lists every one)", "dim"))] if hidden > 0 else []
    few = "something has fewer copies than configured: drtool repair"
    parts += [line(Cell(few, "warn"))] if document["degraded"] else []
    return view(*parts)
