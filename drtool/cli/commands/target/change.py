"""A change of one target: carrying it out, and showing it."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated

import typer

from drtool.cli.core.config_file import tell_stale
from drtool.cli.core.text import Document, count, document_of, size
from drtool.cli.core.view import Cell, View, line, view

if TYPE_CHECKING:
    from drtool.cli.core.call import Call
    from drtool.operations.placing import TargetChange
    from drtool.repository import Repository

TargetArgument = Annotated[
    str, typer.Argument(metavar="SITE/NAME", help="Name the target. SITE alone means SITE/main.")
]


def change_target(call: "Call", carry_out: "Callable[[Repository], TargetChange]", *, declares: bool = False) -> None:
    with call.open_repository(declares=declares) as repository:
        document = document_of(carry_out(repository))
        done = document["changed"] and not document["dry_run"]
        document["configuration"] = tell_stale(call, repository) if done else None
    call.show(document, change_view(document), exit_code=5 if document["below_copies"] else 0)


def change_view(document: Document) -> View:
    if not document["changed"]:
        parts = [line(f"nothing to do: {_described(document)}")]
    else:
        dry, verb = document["dry_run"], document["verb"]
        done = Cell(f"would {verb} " if dry else f"{_DONE[verb]} ", "warn" if dry else "good")
        parts = [line(done, _described(document)), line(Cell(f"ring epoch {document['to_epoch']}", "dim"))]
    if document["holds"] is not None and document["holds"]["objects"]:
        held = document["holds"]
        parts.append(line(f"it holds copies of {count(held['objects'], 'object')}, {size(held['bytes'])}"))
    if document["below_copies"]:
        parts.append(
            line(
                Cell(
                    f"without it, {count(document['below_copies'], 'object')} have fewer copies than configured", "warn"
                )
            )
        )
    return view(*parts, *(line(Cell(words, "dim")) for words in document["advice"]))


_DONE = {"add": "added", "set": "set", "drain": "draining:", "remove": "removed"}


def _described(document: Document) -> str:
    state = "" if document["state"] in ("active", "removed") else f", {document['state']}"
    return f"{document['target']} at {document['url']}, weight {document['weight']}{state}"
