"""`repair`: restore the configured number of copies of every object."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from drtool.cli.core.moves import loss_lines, show_moved
from drtool.cli.core.options import DryRun, limit_bytes
from drtool.cli.core.text import Document, act, count, document_of, duration, size
from drtool.cli.core.view import Cell, Line, View, line, view

if TYPE_CHECKING:
    from drtool.cli.core.call import Call

_SHOWN = 20


def repair(
    context: typer.Context,
    dry_run: DryRun = False,
    read_all: Annotated[
        bool, typer.Option("--read-all", help="Read every copy first instead of relying on the findings of `verify`.")
    ] = False,
    object_: Annotated[
        list[str] | None,
        typer.Option(
            "--object", metavar="NAME", help="Repair only this object, by its name below a target (repeatable)."
        ),
    ] = None,
    site: Annotated[str | None, typer.Option(metavar="SITE", help="Repair only copies at this site.")] = None,
    max_objects: Annotated[
        int | None,
        typer.Option(metavar="N", min=1, help="Refuse, with nothing changed, if more objects would be written."),
    ] = None,
    max_bytes: Annotated[
        str | None, typer.Option(metavar="SIZE", help="Refuse, with nothing changed, if more bytes would be written.")
    ] = None,
) -> None:
    """Restore the configured number of copies.

    Every object is copied or rebuilt from the copies that survive. Missing copies are made at sites that were away or
    lost data. Damaged copies are replaced, extra copies are deleted, and lagging registers are updated. Damaged pages
    of the catalogue and key slots are replaced from any sound copy. Parts of the index that every site has lost are
    rebuilt from this host's cache or from the packs. If stopped, it continues when run again.

    Exit 1 if its session expired meanwhile, 4 if something cannot be repaired, 5 if something still has fewer copies
    than configured.

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


def repair_view(document: Document) -> View:
    parts = list(_done(document))
    head = "to repair: " if document["dry_run"] else "repaired "
    parts += [line(Cell(head, "good"), words) for words in document["manifest"]]
    parts += [line(Cell("incomplete at ", "warn"), f"{row['target']}: {row['reason']}") for row in document["away"]]
    for row in document["unrepairable"][:_SHOWN]:
        perhaps = f"; {', '.join(row['perhaps'])} may have one" if row["perhaps"] else ""
        parts.append(line(Cell("lost ", "bad"), f"{row['object']}: no good copy was found{perhaps}"))
    hidden = len(document["unrepairable"]) - _SHOWN
    parts += [line(Cell(f"  … and {hidden} more (--json lists every one)", "dim"))] if hidden > 0 else []
    parts += [line(Cell(words, "warn")) for words in loss_lines(document["lost"])]
    parts += [line(Cell(_few(document), "warn"))] if document["degraded"] and _few(document) else []
    calm = not (document["dry_run"] or document["unrepairable"] or document["degraded"])
    return view(*parts, summary="; ".join(part.text for part in parts) if calm else None)


_ACTS = {"copied": "", "rebuilt": "", "removed": " of extra copies"}


def _done(document: Document) -> Iterator[Line]:
    """Yield the work that was done, without zero amounts, and the time it took."""
    dry_run, took = document["dry_run"], f", {duration(document['wall_seconds'])}"
    done = [(verb, words) for verb, words in _ACTS.items() if document[verb]["objects"]]
    for verb, words in done:
        yield line(Cell(f"{act(verb, document)} ", "good"), f"{_amount(document[verb])}{words}{took}")
        took = ""
    if not done:
        is_well = not any(document[key] for key in ("unrepairable", "degraded", "manifest", "away"))
        none = f"no object {'would be' if dry_run else 'was'} copied or rebuilt"
        yield line(Cell("nothing to repair" if is_well else none, "good"), took)


def _few(document: Document) -> str:
    """Return what is needed for the configured copies. Lost data has lines of its own."""
    if document["away"]:
        names = ", ".join(row["target"] for row in document["away"])
        return f"something has fewer copies than configured: bring {names} back or replace it, and run this again"
    if document["unrepairable"]:
        return ""
    return (
        "something has fewer copies than configured: `drtool status` gives the reasons, `drtool target add` adds room"
    )


def _amount(amount: Document) -> str:
    return f"{count(amount['objects'], 'object')}, {size(amount['bytes'])}"
