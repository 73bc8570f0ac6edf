"""`session list` and `expire`: who is writing to the repository."""

from typing import TYPE_CHECKING, Annotated

import typer

from drtool.cli.options import DryRun, ManifestFrom, sites
from drtool.cli.text import Document, count, document_of, duration, local
from drtool.cli.view import Cell, View, line, table, view

if TYPE_CHECKING:
    from drtool.cli.call import Call

SHORT_ID = 8
_PROCESS = {
    "alive": Cell("at work", "good"),
    "gone": Cell("gone", "warn"),
    "elsewhere": Cell("on another host", "dim"),
    "unknown": Cell("unknown", "dim"),
}


def session_list(context: typer.Context, manifest_from: ManifestFrom = None) -> None:
    """List the writers that are at work: what each does, where, since when, and whether its process is alive.

    A backup ends its session with its snapshot. If its process dies, the next backup on that host ends the session, or prune
    does after an hour without a sign of life. After a reboot, in another container or on a copy of the machine the process is
    "unknown".

    Examples:
        drtool session list
        drtool session list --json | jq '.sessions[] | select(.process == "gone")'
    """
    from drtool.operations.sessions import sessions

    call: Call = context.obj
    with call.open_repository(sites(manifest_from)) as repository:
        document = document_of(sessions(repository))
    call.show(document, sessions_view(document))


def session_expire(
    context: typer.Context,
    session: Annotated[str, typer.Argument(metavar="ID", help="A unique prefix of a session's id.")],
    force: Annotated[bool, typer.Option("--force", help="Even if its process is at work on this host.")] = False,
    dry_run: DryRun = False,
) -> None:
    """End the session of a writer that will not come back.

    Nothing is lost if a backup does come back: it begins another session, checks what it has stored, and goes on. A repair or
    rebalance (KIND mover) takes copies away, so make sure that its process has ended, and that no copy of its machine runs
    (a clone, or a snapshot that was resumed); then use --force.

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


def sessions_view(document: Document) -> View:
    rows = [
        (
            Cell(row["id"][:SHORT_ID], "strong"),
            row["kind"],
            row["source"] or "-",
            row["host"],
            str(row["pid"]),
            _PROCESS[row["process"]],
            local(row["opened"]) if row["opened"] else "-",
            _age(row["opened_age_seconds"]),
            _age(row["renewed_age_seconds"]),
        )
        for row in document["sessions"]
    ]
    if not rows:
        return view(line("no session is open"))
    return view(
        table("SESSION KIND SOURCE HOST PID> PROCESS OPENED AGE> RENEWED>", rows),
        line(Cell(count(len(rows), "session"), "dim")),
    )


def _age(seconds: float | None) -> str:
    return "-" if seconds is None else duration(seconds)


def expiry_view(document: Document) -> View:
    row = document["expired"]
    done = Cell("would end ", "warn") if document["dry_run"] else Cell("ended ", "good")
    source = f" of {row['source']}" if row["source"] else ""
    return view(
        line(
            done,
            f"session {row['id'][:SHORT_ID]}: {row['kind']}{source} on {row['host']}, "
            f"last heard of {_age(row['renewed_age_seconds'])} ago",
        )
    )
