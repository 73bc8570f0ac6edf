"""`prune`: free the space of data that no snapshot needs."""

from typing import TYPE_CHECKING, Annotated

import typer

from drtool.cli.core.options import DryRun
from drtool.cli.core.text import Document, act, count, document_of, duration, size
from drtool.cli.core.view import Cell, View, line, view
from drtool.errors import DamageFound, Refused

if TYPE_CHECKING:
    from drtool.cli.core.call import Call


def prune(
    context: typer.Context,
    dry_run: DryRun = False,
    yes: Annotated[
        bool,
        typer.Option(
            "--yes", help="Prune even if more than a third of all data goes because other hosts forgot snapshots."
        ),
    ] = False,
) -> None:
    """Delete data that no snapshot needs, while backups may run.

    Packs with mostly unneeded data are rewritten. Data that a running backup may still need, and data on an
    unreachable target, stay pending until a later prune. If another host forgot a snapshot, its data is kept until
    this host has seen that for seven days.

    Exit 4 if a pack that snapshots need has no good copy left. The pack stays, and everything else is done. Exit 11,
    with nothing deleted, if more than a third of all data would go because other hosts forgot snapshots.

    Examples:
        drtool prune --dry-run
        drtool prune
    """
    import time

    from drtool.operations.prune import PruneRequest
    from drtool.operations.prune import prune as run_prune

    call: Call = context.obj
    call.begin("prune", dry_run=dry_run)
    with call.open_repository() as repository:
        request = PruneRequest(
            now_ns=time.time_ns(), yes=yes, dry_run=dry_run, names_items=call.name_items(dry_run=dry_run)
        )
        document = document_of(run_prune(repository, request, call.emit)) | {"changes": call.changes()}
    call.show(document, prune_view(document), exit_code=ending(document))


def ending(document: Document) -> int:
    """Return the exit code. A dry run exits as the real run would, and its document holds the first objection."""
    if not document["objections"]:
        return DamageFound.exit_code if document["lost"] else 0
    document["error"] = {"kind": Refused("").kind, **document["objections"][0]}
    return Refused.exit_code


def prune_view(document: Document) -> View:
    dry_run = document["dry_run"]
    removed, took = document["removed"], duration(document["wall_seconds"])
    if removed["packs"] or not dry_run:
        parts = [
            line(
                Cell(f"{act('removed', document)} ", "good"),
                f"{_amount(removed) if removed['packs'] else 'nothing'}, {took}",
            )
        ]
    else:
        parts = [line(Cell("nothing would be removed", "good"), f", {took}")]
    if document["repacked"]["packs"]:
        parts.append(line(Cell(f"{act('rewritten', document)} ", "dim"), _amount(document["repacked"])))
    parts.append(line(Cell("kept ", "dim"), _amount(document["kept"])))
    if document["pending"]["packs"]:
        parts.append(line(Cell("pending ", "warn"), f"{_amount(document['pending'])}; a later prune continues"))
    if document["swept_files"]:
        parts.append(
            line(
                Cell("deleted ", "dim"),
                count(document["swept_files"], "file"),
                " left behind by writers that were killed",
            )
        )
    parts += [line(f"  {row['reason']}") for row in document["waiting"]]
    for row in document["objections"]:
        parts += [line(Cell("would be refused: ", "bad"), row["message"]), line(Cell("hint: ", "dim"), row["hint"])]
    calm = not (document["dry_run"] or document["objections"])
    return view(*parts, summary="; ".join(part.text.strip() for part in parts) if calm else None)


def _amount(amount: Document) -> str:
    return f"{count(amount['packs'], 'pack')}, {size(amount['bytes'])}"
