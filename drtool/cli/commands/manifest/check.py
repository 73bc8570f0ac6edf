"""`manifest check`: check the catalogue at every voter."""

from typing import TYPE_CHECKING

import typer

from drtool.cli.core.options import ManifestFrom, sites
from drtool.cli.core.text import Document, count, document_of
from drtool.cli.core.view import Cell, View, line, table, view

if TYPE_CHECKING:
    from drtool.cli.core.call import Call


def manifest_check(context: typer.Context, manifest_from: ManifestFrom = None) -> None:
    """Check every voter's records, pages and digests.

    Each mismatch is listed.

    Examples:
        drtool manifest check
    """
    call: Call = context.obj
    from drtool.operations.catalogue import check

    with call.open_for_report(sites(manifest_from)) as repository:
        document = document_of(check(repository))
    damaged = any(problem["kind"] not in ("unreachable", "no-quorum") for problem in document["problems"])
    code = repository.uncertain.exit_code if repository.uncertain else 4 if damaged else 0
    call.show(document, check_view(document), exit_code=code)


def check_view(document: Document) -> View:
    problems = document["problems"]
    where = f"generation {document['generation']}, configuration {document['config']}, change {document['sequence']}"
    if not problems:
        return view(line(Cell("the catalogue is sound", "good"), f" at {', '.join(document['sites'])}: {where}"))
    rows = [(row["site"] or "all", Cell(row["kind"], "warn"), row["message"]) for row in problems]
    return view(
        table("SITE KIND PROBLEM", rows),
        line(
            Cell(count(len(problems), "problem"), "bad"),
            f"; checked at {', '.join(document['sites']) or 'no site'}: {where}",
        ),
    )
