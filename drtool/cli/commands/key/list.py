"""`key list`: list the passwords and their key slots."""

from typing import TYPE_CHECKING

import typer

from drtool.cli.core.options import ManifestFrom, sites
from drtool.cli.core.text import Document, document_of, local
from drtool.cli.core.view import Cell, View, line, table, view

if TYPE_CHECKING:
    from drtool.cli.core.call import Call


def key_list(context: typer.Context, manifest_from: ManifestFrom = None) -> None:
    """List the passwords and their key slots.

    The list shows label, creation time, and the targets that hold each key slot. Each password has a key slot, a
    small file that holds the repository's keys, encrypted with that password. A target without key slots cannot be
    opened on its own, so missing slots are reported here and by `status`. The next backup or `key` command restores
    them.

    Examples:
        drtool key list
        drtool key list --json | jq '.slots[] | select(.missing != [])'
    """
    from drtool.operations.keys import list_keys

    call: Call = context.obj
    with call.open_for_report(sites(manifest_from)) as repository:
        document = document_of(list_keys(repository))
    call.show(document, list_view(document), exit_code=6 if repository.uncertain else 0)


def list_view(document: Document) -> View:
    rows = [
        (
            Cell(row["id"], "strong"),
            local(row["created"]) if row["created"] else "-",
            _places(row),
            Cell("in use", "good") if row["in_use"] else "",
            row["label"],
        )
        for row in document["slots"]
    ]
    head = line(Cell("key generation ", "dim"), str(document["generation"]))
    problems = [line(Cell("! ", "bad"), problem) for problem in document["problems"]]
    return view(head, table("ID SINCE TARGETS THIS_RUN LABEL", rows), *problems)


def _places(row: Document) -> Cell:
    absent = [*(f"-{name}" for name in row["missing"]), *(f"!{name}" for name in row["damaged"])]
    return Cell(" ".join((*row["targets"], *absent)) or "nowhere", "bad" if absent or not row["targets"] else "")
