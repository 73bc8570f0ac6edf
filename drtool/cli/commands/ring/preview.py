"""`ring preview`: show what a change of the ring would move."""

from typing import TYPE_CHECKING, Annotated

import typer

from drtool.cli.core.moves import copies_words, percent, waiting_lines
from drtool.cli.core.options import ManifestFrom, sites, target_name, whole_weight
from drtool.cli.core.text import Document, document_of, size
from drtool.cli.core.view import Cell, Line, Table, View, line, table, view

if TYPE_CHECKING:
    from drtool.cli.core.call import Call
    from drtool.model import TargetName


def ring_preview(
    context: typer.Context,
    add: Annotated[
        list[str] | None, typer.Option("--add", metavar="SITE[/NAME][=WEIGHT]", help="Assume one more target.")
    ] = None,
    weight: Annotated[
        list[str] | None, typer.Option("--weight", metavar="SITE[/NAME]=N", help="Assume this weight for a target.")
    ] = None,
    drain: Annotated[
        list[str] | None, typer.Option("--drain", metavar="SITE[/NAME]", help="Assume that this target is drained.")
    ] = None,
    remove: Annotated[
        list[str] | None,
        typer.Option("--remove", metavar="SITE[/NAME]", help="Assume that this target is gone with all its data."),
    ] = None,
    manifest_from: ManifestFrom = None,
) -> None:
    """Show what `rebalance` would move.

    With options, the ring is assumed to be changed accordingly. Nothing is changed or moved. The figures count single
    copies in the current listing of every target, as `rebalance` does.

    Examples:
        drtool ring preview
        drtool ring preview --add oslo=4
        drtool ring preview --drain paris/nas --add paris/nas2=8
    """
    from drtool.operations.rebalance import PreviewRequest, preview

    call: Call = context.obj
    request = PreviewRequest(
        add=tuple(_weighted(word, "--add", 1) for word in add or ()),
        weight=tuple(_weighted(word, "--weight", None) for word in weight or ()),
        drain=tuple(map(target_name, drain or ())),
        remove=tuple(map(target_name, remove or ())),
        workers=call.settings.workers,
    )
    with call.open_repository(sites(manifest_from)) as repository:
        document = document_of(preview(repository, request, call.emit))
    call.show(document, preview_view(document))


def _weighted(word: str, option: str, default: int | None) -> "tuple[TargetName, int]":
    name, equals, number = word.partition("=")
    if not equals and default is not None:
        return target_name(name), default
    return target_name(name), whole_weight(number, f"{option} {word}")


def preview_view(document: Document) -> View:
    moves = document["moves"]
    head = line(
        Cell(f"ring epoch {document['from_epoch']} to {document['to_epoch']}: ", "strong"),
        f"{copies_words(moves)} would move, {percent(moves['fraction'])} of all copies (the minimum is "
        f"{percent(document['minimum_fraction'])})",
    )
    rows = [
        (Cell(row["target"], "strong"), *_counted(row["gains"]), *_counted(row["gives"])) for row in document["targets"]
    ]
    parts: list[Line | Table] = [head]
    parts += [table("TARGET GAINS> BYTES> GIVES> BYTES>", rows)] if rows else []
    if document["expected"] is not None:
        expected = document["expected"]
        parts.append(
            line(
                Cell("for new data ", "dim"),
                f"{percent(expected['fraction'])} would move; the minimum is {percent(expected['minimum_fraction'])}",
            )
        )
    return view(*parts, *waiting_lines(document, document["waiting"]))


def _counted(amount: Document) -> tuple[str, str]:
    return (f"{amount['objects']:,}", size(amount["bytes"])) if amount["objects"] else ("-", "-")
