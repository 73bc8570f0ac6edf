"""`scratch list` and `scratch remove`: scratch spaces, the directories that runs restored into and did not remove."""

from typing import TYPE_CHECKING, Annotated

import typer

from drtool.cli.options import DryRun
from drtool.cli.text import Document, document_of, local, size
from drtool.cli.view import Cell, View, line, table, view

if TYPE_CHECKING:
    from drtool.cli.call import Call

_LEFTOVERS = 8
_PROCESS = {
    "alive": Cell("running", "good"),
    "gone": Cell("gone", "warn"),
    "elsewhere": Cell("on another machine", "dim"),
    "unknown": Cell("in a container", "dim"),
}


def scratch_list(context: typer.Context) -> None:
    """List the scratch spaces of runs on this host: path, requested size, and state of their process.

    A run removes its own scratch spaces. If its process was killed, they stay with the data restored into them.

    Examples:
        drtool scratch list
        drtool scratch list --json | jq -r '.spaces[] | select(.process == "gone").run'
    """
    from drtool.plans.scratch import list_scratch

    call: Call = context.obj
    document = document_of(list_scratch(call.state_dir))
    call.show(document, list_view(document))


def scratch_remove(
    context: typer.Context,
    run: Annotated[str, typer.Option("--run", metavar="RUN", help="Remove the scratch spaces of this run.")],
    force: Annotated[bool, typer.Option("--force", help="Remove them even if the run's process is alive.")] = False,
    dry_run: DryRun = False,
) -> None:
    """Remove the scratch spaces of a run that was killed, with all data restored into them.

    This needs no repository and no configuration. It follows no links and crosses no mount points. Exit 8 if
    something cannot be removed; each such item is listed.

    Examples:
        drtool scratch remove --run 20261123-140500-3f2a --dry-run
    """
    from drtool.plans.scratch import remove_scratch

    call: Call = context.obj
    document = document_of(remove_scratch(call.state_dir, run, force=force, dry_run=dry_run))
    call.show(document, remove_view(document), exit_code=_LEFTOVERS if document["left"] else 0)


def list_view(document: Document) -> View:
    rows = [
        (
            Cell(row["run"], "strong"),
            size(row["asked_bytes"]),
            str(row["pid"]),
            _PROCESS[row["process"]],
            local(row["created_at"]),
            row["path"] if row["present"] else Cell("(not created)", "dim"),
        )
        for row in document["spaces"]
    ]
    bad = [line(Cell("! ", "bad"), f"{row['path']}: {row['reason']}") for row in document["unreadable"]]
    if not rows:
        return view(line("there is no scratch space"), *bad)
    return view(table("RUN ASKED> PID> PROCESS MADE PATH", rows), *bad)


def remove_view(document: Document) -> View:
    done = Cell("would remove ", "warn") if document["dry_run"] else Cell("removed ", "good")
    return view(
        *(line(done, row["path"]) for row in document["removed"]),
        *(line(Cell("left ", "bad"), f"{row['path']}: {row['reason']}") for row in document["left"]),
    )
