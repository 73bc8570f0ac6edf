"""`manifest compact`: delete data that the catalogue no longer needs."""

from typing import TYPE_CHECKING

import typer

from drtool.cli.core.options import DryRun
from drtool.cli.core.text import Document, document_of
from drtool.cli.core.view import Cell, View, line, table, view

if TYPE_CHECKING:
    from drtool.cli.core.call import Call


def manifest_compact(context: typer.Context, dry_run: DryRun = False) -> None:
    """Delete data that the catalogue no longer needs.

    This is old records, replaced pages, and ended registers. Backups delete old records as they run. This command
    removes what an interrupted run or an unreachable site left behind.

    Examples:
        drtool manifest compact --dry-run
    """
    from drtool.operations.catalogue import compact

    call: Call = context.obj
    with call.open_repository() as repository:
        document = document_of(compact(repository, dry_run=dry_run))
    document["dry_run"] = dry_run
    call.show(document, compact_view(document))


def compact_view(document: Document) -> View:
    rows = [
        (Cell(site, "strong"), f"{objects:,}", f"{document['records'][site]:,}")
        for site, objects in document["objects"].items()
    ]
    done = Cell("would delete", "warn") if document["dry_run"] else Cell("deleted", "good")
    return view(line(done, " data that the catalogue no longer needs:"), table("SITE PAGES> RECORDS>", rows))
