"""`repair`: every object back on its promised copies."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from drtool.cli.options import DryRun
from drtool.cli.text import Document, count, document_of, duration, size
from drtool.cli.verifying import loss_lines
from drtool.cli.view import Cell, Line, View, line, view
from drtool.errors import Rejected, UsageError

if TYPE_CHECKING:
    from drtool.cli.call import Call

_SHOWN = 20


def repair(
    context: typer.Context,
    dry_run: DryRun = False,
    read_all: Annotated[
        bool, typer.Option("--read-all", help="Read every copy first; otherwise what `verify` found is relied upon.")
    ] = False,
    object_: Annotated[
        list[str] | None,
        typer.Option("--object", metavar="NAME", help="Only this object, by its name below a target; repeatable."),
    ] = None,
    site: Annotated[str | None, typer.Option(metavar="SITE", help="Only this site's copies.")] = None,
    max_objects: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="Refuse, with nothing touched, if it is more objects.")
    ] = None,
    max_bytes: Annotated[
        str | None, typer.Option(metavar="SIZE", help="Refuse, with nothing touched, if more is to be written.")
    ] = None,
) -> None:
    """Bring every object back to its promised copies at its right places, from what survives.

    Fills sites that were away or lost objects, replaces damaged copies, takes away copies that are one too many, and brings
    registers that lag up to date. Damaged pages of the catalogue and key slots are replaced from any copy whose contents are
    whole. Parts of the index that every site has lost are rebuilt from this host's cache or from the packs. Stopped at any
    time, it goes on where it stopped when run again.

    Exit 1 when its session was expired meanwhile, 4 when something cannot be repaired, 5 when something still has fewer copies
    than promised.

    Examples:
        drtool repair --dry-run
        drtool verify --level full || drtool repair
        drtool repair --read-all
        drtool repair --site paris --max-objects 50
    """
    from drtool.model import SiteName
    from drtool.operations.repair import RepairRequest
    from drtool.operations.repair import repair as run_repair
    from drtool.operations.repair.run import exit_code

    call: Call = context.obj
    with call.open_repository() as repository:
        request = RepairRequest(
            workers=call.settings.workers,
            read_all=read_all,
            dry_run=dry_run,
            names_items=call.name_items(dry_run=dry_run),
            objects=frozenset(object_) if object_ else None,
            site=SiteName(site) if site is not None else None,
            max_objects=max_objects,
            max_bytes=limit_bytes(max_bytes),
        )
        result = run_repair(repository, request, call.emit)
    document = document_of(result) | {"changes": call.changes()}
    show_moved(call, document, repair_view(document), exit_code(result))


def show_moved(call: "Call", document: Document, shown: View, code: int) -> None:
    """Show what a repair or rebalance did; if that is a failure because it was stopped, the error as well."""
    failure = Rejected(document["stopped"], document["why"], hint=document["hint"]) if code == 1 else None
    if failure is not None:
        document["error"] = {"kind": failure.kind, "message": failure.message, "hint": failure.hint}
    call.show(document, shown, exit_code=code)
    if failure is not None:
        call.screen.fail(failure)


def limit_bytes(word: str | None) -> int | None:
    """`--max-bytes`."""
    from drtool.config.units import size_bytes

    try:
        return None if word is None else size_bytes(word)
    except ValueError as error:
        raise UsageError(f"--max-bytes {word}: {error}", hint="write 20GiB") from error


def repair_view(document: Document) -> View:
    parts = list(_done(document))
    parts += [line(Cell("mended ", "good"), words) for words in document["manifest"]]
    parts += [line(Cell("away ", "warn"), f"{row['target']}: {row['reason']}") for row in document["away"]]
    for row in document["unrepairable"][:_SHOWN]:
        perhaps = f"; perhaps {', '.join(row['perhaps'])} has it" if row["perhaps"] else ""
        parts.append(line(Cell("lost ", "bad"), f"{row['object']}: no good copy was found{perhaps}"))
    hidden = len(document["unrepairable"]) - _SHOWN
    parts += [line(Cell(f"  … and {hidden} more (--json lists every one)", "dim"))] if hidden > 0 else []
    parts += [line(Cell(words, "warn")) for words in loss_lines(document["lost"])]
    parts += [line(Cell(_few(document), "warn"))] if document["degraded"] and _few(document) else []
    calm = not (document["dry_run"] or document["unrepairable"] or document["degraded"])
    return view(*parts, summary="; ".join(part.text for part in parts) if calm else None)


_ACTS = {"copied": "", "rebuilt": "", "removed": " of extra copies"}


def _done(document: Document) -> Iterator[Line]:
    """Yield what was done, without what came to nothing; and how long it took."""
    would, took = "would be " if document["dry_run"] else "", f", {duration(document['wall_seconds'])}"
    done = [(act, words) for act, words in _ACTS.items() if document[act]["objects"]]
    for act, words in done:
        yield line(Cell(f"{would}{act} ", "good"), f"{_amount(document[act])}{words}{took}")
        took = ""
    if not done:
        is_well = not (document["unrepairable"] or document["degraded"] or document["manifest"])
        yield line(Cell("nothing to repair" if is_well else "no object was copied or rebuilt", "good"), took)


def _few(document: Document) -> str:
    """What is needed for the promised copies. Lost data has lines of its own."""
    if document["away"]:
        names = ", ".join(row["target"] for row in document["away"])
        return f"something has fewer copies than promised: bring {names} back, or replace it, and run this again"
    if document["unrepairable"]:
        return ""
    return "something has fewer copies than promised: drtool status says why, drtool target add makes room for them"


def _amount(amount: Document) -> str:
    return f"{count(amount['objects'], 'object')}, {size(amount['bytes'])}"
