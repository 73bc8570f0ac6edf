"""`ring preview` and `rebalance`: what moves when the ring changes, and moving it."""

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
        list[str] | None, typer.Option("--add", metavar="SITE[/NAME][=WEIGHT]", help="Imagine one target more.")
    ] = None,
    weight: Annotated[
        list[str] | None, typer.Option("--weight", metavar="SITE[/NAME]=N", help="Imagine another weight.")
    ] = None,
    drain: Annotated[
        list[str] | None, typer.Option("--drain", metavar="SITE[/NAME]", help="Imagine it being drained.")
    ] = None,
    remove: Annotated[
        list[str] | None,
        typer.Option("--remove", metavar="SITE[/NAME]", help="Imagine it gone, with all that it holds."),
    ] = None,
    manifest_from: ManifestFrom = None,
) -> None:
    """Say what `rebalance` would move: now, or if the ring were changed as the options say.

    Nothing is changed and nothing is moved. Counted by what every target lists now, copy by copy, as `rebalance` itself does.

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
        int | None, typer.Option(metavar="N", min=1, help="Refuse, with nothing touched, if it is more objects.")
    ] = None,
    max_bytes: Annotated[
        str | None, typer.Option(metavar="SIZE", help="Refuse, with nothing touched, if more is to be written.")
    ] = None,
) -> None:
    """Move copies to where the ring wants them: after `target add`, `set` or `drain`, or when a site was away.

    A new copy is read back before an old one goes. Stopped at any time, it goes on where it stopped when run again; backups may
    run meanwhile. What a site that is away may have is left alone: if it stays away, that is for `repair`.

    Exit 1 when copies that are one too many stay because another mover is at work, 4 when nothing is left of something, 5 when
    something has fewer copies than promised.

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
    """`SITE[/NAME]`; NAME is `main` where nobody says otherwise."""
    from drtool.model import TargetName

    site, slash, name = word.partition("/")
    return TargetName(f"{check_name(site, 'site')}/{check_name(name, 'target') if slash else 'main'}")


def whole_weight(word: str, said: str) -> int:
    """A weight: a whole number from 1 up."""
    if not (word.isascii() and word.isdecimal()) or int(word) < 1:
        raise UsageError(f"{said}: {word!r} is no weight", hint="a weight is a whole number from 1 up")
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
        f"{_amount(moves)} would move, {_percent(moves['fraction'])} of all copies"
        f" (at least {_percent(document['minimum_fraction'])} have to)",
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
                Cell("of any amount of data ", "dim"),
                f"{_percent(expected['fraction'])} moves, and {_percent(expected['minimum_fraction'])} would have to",
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
    few = "something has fewer copies than promised: drtool repair"
    parts += [line(Cell(few, "warn"))] if document["degraded"] else []
    return view(*parts)


def _waiting(document: Document, objects: int) -> list[Line]:
    lines = [line(Cell("away ", "warn"), f"{row['target']}: {row['reason']}") for row in document["away"]]
    if objects:
        lines.append(line(Cell(f"{count(objects, 'object')} not yet where the ring wants every copy", "warn")))
    return lines


def _amount(amount: Document) -> str:
    return f"{count(amount['objects'], 'copy', 'copies')}, {size(amount['bytes'])}"


def _counted(amount: Document) -> tuple[str, str]:
    return (f"{amount['objects']:,}", size(amount["bytes"])) if amount["objects"] else ("-", "-")


def _percent(fraction: float) -> str:
    return f"{100 * fraction:.1f} %"
