"""`manifest status`: show the state of the voters."""

from typing import TYPE_CHECKING

import typer

from drtool.cli.core.options import ManifestFrom, sites
from drtool.cli.core.text import Document, count, document_of
from drtool.cli.core.view import Cell, View, line, table, view

if TYPE_CHECKING:
    from drtool.cli.core.call import Call

SHORT_DIGEST = 12


def manifest_status(context: typer.Context, manifest_from: ManifestFrom = None) -> None:
    """Show each voter's state, and whether a quorum agrees.

    It also works without a quorum, and then exits with 6.

    Examples:
        drtool manifest status
        drtool manifest status --json | jq .quorum
    """
    call: Call = context.obj
    from drtool.operations.catalogue import status

    with call.open_for_report(sites(manifest_from)) as repository:
        document = document_of(status(repository))
    code = repository.uncertain.exit_code if repository.uncertain else quorum_exit(document)
    call.show(document, status_view(document), exit_code=code)


def quorum_exit(document: Document) -> int:
    """Return 6 if too few voters answered, even when the reader asked only for what some sites have."""
    quorum = document["quorum"]
    return 6 if quorum["reachable"] < quorum["needed"] else 0


def status_view(document: Document) -> View:
    quorum = document["quorum"]
    enough = quorum["reachable"] >= quorum["needed"]
    rows = [
        (
            Cell(row["site"], "strong"),
            Cell("yes", "good") if row["reachable"] else Cell("no", "bad"),
            row["phase"] or "-",
            row["promised"] or "-",
            row["accepted"] or "-",
            "-" if row["lag"] is None else str(row["lag"]),
            Cell(row["problem"] or "", "warn"),
        )
        for row in document["acceptors"]
    ]
    recovery = f" (recovery {document['recovery'][:SHORT_DIGEST]})" if document["recovery"] else ""
    problem = [line(Cell(document["problem"], "bad"))] if document["problem"] else []
    return view(
        line(
            Cell(f"change {document['sequence']}", "strong"),
            f" of generation {document['generation']}{recovery}, configuration {document['config']}, "
            f"digest {document['digest'][:SHORT_DIGEST]}; ",
            Cell(
                f"{count(quorum['reachable'], 'voter')} reachable, {quorum['needed']} needed",
                "good" if enough else "bad",
            ),
        ),
        table("SITE REACHABLE PHASE PROMISED ACCEPTED LAG> PROBLEM", rows),
        *problem,
    )
