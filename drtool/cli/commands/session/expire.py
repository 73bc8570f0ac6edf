"""`session expire`: end the session of a writer that will not come back."""

from typing import TYPE_CHECKING, Annotated

import typer

from drtool.cli.core.options import DryRun
from drtool.cli.core.selection import SHORT_ID
from drtool.cli.core.text import Document, document_of, optional_duration
from drtool.cli.core.view import Cell, View, line, view

if TYPE_CHECKING:
    from drtool.cli.core.call import Call


def session_expire(
    context: typer.Context,
    session: Annotated[str, typer.Argument(metavar="ID", help="End this session: a unique prefix of its id.")],
    force: Annotated[bool, typer.Option("--force", help="End it even if its process is alive on this host.")] = False,
    dry_run: DryRun = False,
) -> None:
    """End the session of a writer that will not come back.

    Nothing is lost if a backup does come back: it opens another session, checks what it has stored, and continues. A
    repair or rebalance (KIND mover) deletes copies. First make sure that its process has ended and that no copy of
    its machine runs, such as a clone or a resumed VM snapshot. Then use --force.

    Examples:
        drtool session expire 3f2a
        drtool session expire 3f2a --force
    """
    from drtool.operations.sessions import expire, plan_expiry

    call: Call = context.obj
    with call.open_repository() as repository:
        expiry = plan_expiry(repository, session, force=force, dry_run=dry_run)
        if not dry_run:
            expire(repository, expiry)
    document = document_of(expiry)
    call.show(document, expiry_view(document))


def expiry_view(document: Document) -> View:
    row = document["expired"]
    done = Cell("would end ", "warn") if document["dry_run"] else Cell("ended ", "good")
    source = f" of {row['source']}" if row["source"] else ""
    return view(
        line(
            done,
            f"session {row['id'][:SHORT_ID]}: {row['kind']}{source} on {row['host']}, renewed "
            f"{optional_duration(row['renewed_age_seconds'])} ago",
        )
    )
