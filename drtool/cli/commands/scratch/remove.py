"""`scratch remove`: remove the scratch spaces of a run that was killed."""

from typing import TYPE_CHECKING, Annotated

import typer

from drtool.cli.core.options import DryRun
from drtool.cli.core.text import Document, document_of
from drtool.cli.core.view import Cell, View, line, view

if TYPE_CHECKING:
    from drtool.cli.core.call import Call

_LEFTOVERS = 8


def scratch_remove(
    context: typer.Context,
    run: Annotated[str, typer.Option("--run", metavar="RUN", help="Remove the scratch spaces of this run.")],
    force: Annotated[bool, typer.Option("--force", help="Remove them even if the run's process is alive.")] = False,
    dry_run: DryRun = False,
) -> None:
    """Remove the scratch spaces of a run that was killed.

    All data restored into them is removed too. This needs no repository and no configuration. It follows no links and
    crosses no mount points. Exit 8 if something cannot be removed. Each such item is listed.

    Examples:
        drtool scratch remove --run 20261123-140500-3f2a --dry-run
    """
    from drtool.plans.scratch import remove_scratch

    call: Call = context.obj
    document = document_of(remove_scratch(call.state_dir, run, force=force, dry_run=dry_run))
    call.show(document, remove_view(document), exit_code=_LEFTOVERS if document["left"] else 0)


def remove_view(document: Document) -> View:
    done = Cell("would remove ", "warn") if document["dry_run"] else Cell("removed ", "good")
    return view(
        *(line(done, row["path"]) for row in document["removed"]),
        *(line(Cell("left ", "bad"), f"{row['path']}: {row['reason']}") for row in document["left"]),
    )
