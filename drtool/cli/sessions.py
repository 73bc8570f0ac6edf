"""`session list` and `session expire`: the sessions of writers."""

from typing import TYPE_CHECKING, Annotated

import typer

from drtool.cli.options import DryRun, ManifestFrom, sites
from drtool.cli.look import SHORT_ID
from drtool.cli.text import Document, count, document_of, duration, local
from drtool.cli.view import Cell, View, line, table, view

if TYPE_CHECKING:
    from drtool.cli.call import Call

_PROCESS = {
    "alive": Cell("running", "good"),
    "gone": Cell("gone", "warn"),
    "elsewhere": Cell("on another host", "dim"),
    "unknown": Cell("unknown", "dim"),
}


def session_list(context: typer.Context, manifest_from: ManifestFrom = None) -> None:
    """List the open sessions: kind, source, host, start, and state of the process.

    A backup ends its session with its snapshot. If its process dies, the next backup on that host ends the session.
    Otherwise prune ends it after an hour without a renewal. After a reboot, in another container or on a copy of the
    machine, the state of the process is "unknown".

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
            f"session {row['id'][:SHORT_ID]}: {row['kind']}{source} on {row['host']}, renewed "
            f"{_age(row['renewed_age_seconds'])} ago",
        )
    )
