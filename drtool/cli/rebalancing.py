"""`ring preview` and `rebalance`: show what a change of the ring moves, and move it."""

from typing import TYPE_CHECKING, Annotated

import typer

from drtool.cli.options import DryRun, ManifestFrom, sites
from drtool.cli.repairing import limit_bytes, show_moved
from drtool.cli.text import Document, count, document_of, duration, size
from drtool.cli.view import Cell, Line, Table, View, line, table, view
from drtool.config.schema import check_name
from drtool.errors import UsageError

if TYPE_CHECKING:
    from drtool.cli.call import Call
    from drtool.model import TargetName

_SHOWN = 20


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
    """Show what `rebalance` would move now, or after the changes that the options describe.

    Nothing is changed or moved. The figures count single copies in the current listing of every target, as
    `rebalance` does.

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
    """Move copies to the targets that the ring assigns: after `target add`, `set` or `drain`, or after an outage.

    A new copy is read back before an old one is deleted. If stopped, it continues when run again. Backups may run
    meanwhile. Data of an unreachable site is left alone. If the site is lost, `repair` replaces its copies.

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


def target_name(word: str) -> "TargetName":
    """Parse `SITE[/NAME]`. NAME defaults to `main`."""
    from drtool.model import TargetName

    site, slash, name = word.partition("/")
    return TargetName(f"{check_name(site, 'site')}/{check_name(name, 'target') if slash else 'main'}")


def whole_weight(word: str, said: str) -> int:
    """Parse a weight: a whole number from 1 up."""
    if not (word.isascii() and word.isdecimal()) or int(word) < 1:
        raise UsageError(f"{said}: {word!r} is not a weight", hint="a weight is a whole number from 1 up")
    return int(word)


def _weighted(word: str, option: str, default: int | None) -> "tuple[TargetName, int]":
    name, equals, number = word.partition("=")
    if not equals and default is not None:
        return target_name(name), default
    return target_name(name), whole_weight(number, f"{option} {word}")


def preview_view(document: Document) -> View:
    moves = document["moves"]
    head = line(
        Cell(f"ring epoch {document['from_epoch']} to {document['to_epoch']}: ", "strong"),
        f"{_amount(moves)} would move, {_percent(moves['fraction'])} of all copies (the minimum is "
        f"{_percent(document['minimum_fraction'])})",
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
                f"{_percent(expected['fraction'])} would move; the minimum is {_percent(expected['minimum_fraction'])}",
            )
        )
    return view(*parts, *_waiting(document, document["waiting"]))


def rebalance_view(document: Document) -> View:
    would, moves = "would be " if document["dry_run"] else "", document["moves"]
    took = duration(document["wall_seconds"])
    moved = f"{_amount(moves)}, {_percent(moves['fraction'])} of all copies, {took}"
    parts = [line(Cell(f"{would}moved ", "good"), moved) if moves["objects"] else line(f"nothing to move, {took}")]
    if document["removed"]["objects"]:
        parts.append(line(Cell(f"{would}removed ", "dim"), f"{_amount(document['removed'])} of extra copies"))
    if document["rebuilt"]["objects"]:
        parts.append(line(Cell(f"{would}rebuilt ", "good"), _amount(document["rebuilt"])))
    parts += _waiting(document, document["left"])
    parts += [line(Cell("lost ", "bad"), f"{name}: no good copy was found") for name in document["lost"][:_SHOWN]]
    hidden = len(document["lost"]) - _SHOWN
    parts += [line(Cell(f"  … and {hidden} more (--json lists every one)", "dim"))] if hidden > 0 else []
    few = "something has fewer copies than configured: drtool repair"
    parts += [line(Cell(few, "warn"))] if document["degraded"] else []
    return view(*parts)


def _waiting(document: Document, objects: int) -> list[Line]:
    lines = [line(Cell("away ", "warn"), f"{row['target']}: {row['reason']}") for row in document["away"]]
    if objects:
        lines.append(line(Cell(f"{count(objects, 'object')} not yet at all the targets that the ring assigns", "warn")))
    return lines


def _amount(amount: Document) -> str:
    return f"{count(amount['objects'], 'copy', 'copies')}, {size(amount['bytes'])}"


def _counted(amount: Document) -> tuple[str, str]:
    return (f"{amount['objects']:,}", size(amount["bytes"])) if amount["objects"] else ("-", "-")


def _percent(fraction: float) -> str:
    return f"{100 * fraction:.1f} %"
