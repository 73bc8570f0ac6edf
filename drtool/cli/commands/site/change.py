"""A change of one site: carrying it out, and showing it."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated

import typer

from drtool.cli.core.config_file import tell_stale
from drtool.cli.core.text import Document, document_of
from drtool.cli.core.view import Cell, Line, View, line, view

if TYPE_CHECKING:
    from drtool.cli.core.call import Call
    from drtool.operations.sites import Change
    from drtool.repository import Repository, TargetSpec

Planned = tuple["Change", "TargetSpec | None"]
SiteArgument = Annotated[str, typer.Argument(metavar="SITE", help="Name a site of the repository.")]


def change_site(call: "Call", plan: "Callable[[Repository], Planned]") -> None:
    from drtool.operations.sites import carry_out

    with call.open_repository() as repository:
        change, target = plan(repository)
        if not change.dry_run:
            carry_out(repository, change, target, call.emit)
        show_change(call, repository, change)


def show_change(call: "Call", repository: "Repository", change: "Change") -> None:
    document = document_of(change)
    document["changed"] = not (change.dry_run or change.changes_nothing)
    document["sequence"] = repository.view.sequence
    document["configuration"] = tell_stale(call, repository) if document["changed"] else None
    call.show(document, change_view(document, nothing=change.changes_nothing))


def tolerance_words(document: Document) -> str:
    lost = document["tolerates"]
    return f"writing continues with {lost or 'none'} of them lost"


def advice_lines(document: Document) -> list[Line]:
    return [line(Cell(document["advice"], "warn"))] if document["advice"] else []


def change_view(document: Document, *, nothing: bool) -> View:
    site, dry = document["site"], document["dry_run"]
    if nothing:
        done = (
            f"{document['url']} has already replaced it"
            if document["url"]
            else "it already votes, and its register is sound"
        )
        return view(line(f"nothing to do for {site}: {done}"))
    would, done = _VERBS[document["verb"]]
    parts = [line(Cell(f"would {would} " if dry else f"{done} ", "warn" if dry else "good"), _what(document))]
    parts.append(
        line(f"voters: {', '.join(document['voters'])} ({document['needed']} needed; {tolerance_words(document)})")
    )
    if document["lost"]:
        parts.append(line(f"lost from now on: {', '.join(document['lost'])}; `drtool repair` makes the missing copies"))
    elif document["verb"] == "replace" and not dry:
        parts.append(line("`drtool repair` makes the copies that the new place lacks"))
    if document["stays"]:
        parts.append(
            line(f"{', '.join(document['stays'])} still stores data: its copies stay, and it receives new ones")
        )
    return view(*parts, *advice_lines(document))


_VERBS = {
    "add": ("give a vote to", "gave a vote to"),
    "remove": ("take the vote of", "took the vote of"),
    "replace": ("replace", "replaced"),
}


def _what(document: Document) -> str:
    if document["verb"] != "replace":
        return f"{document['site']}{' at ' + document['url'] if document['url'] else ''}"
    return f"{document['site']} by {document['new_target']} at {document['url']}, weight {document['weight']}"
