"""`restore`: a snapshot, or a part of it, back onto a disk."""

import os
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from drtool.cli.look import SHORT_ID, chosen_snapshot
from drtool.cli.options import (
    DryRun,
    Hosts,
    ManifestFrom,
    SnapshotArgument,
    Sources,
    Tags,
    narrowing,
    sites,
    split_snapshot,
)
from drtool.cli.text import Document, count, document_of, duration, size
from drtool.cli.view import Cell, View, line, view
from drtool.errors import UsageError
from drtool.events import ItemFailed, Warned

if TYPE_CHECKING:
    from drtool.cli.call import Call
    from drtool.operations.restore import RestoreRequest
    from drtool.repository import Repository


def restore(
    context: typer.Context,
    snapshot: SnapshotArgument,
    to: Annotated[str, typer.Option(metavar="DIR", help="Where to; made if it is not there.")],
    include: Annotated[list[str] | None, typer.Option(metavar="PATTERN", help="Only what this matches.")] = None,
    exclude: Annotated[list[str] | None, typer.Option(metavar="PATTERN", help="Not what this matches.")] = None,
    overwrite: Annotated[
        Literal["always", "if-changed", "never"] | None,
        typer.Option(help="For a DIR that is not empty: compare content, or size and time, or only add."),
    ] = None,
    from_site: Annotated[list[str] | None, typer.Option(metavar="SITE", help="Read copies of this site only.")] = None,
    verify: Annotated[
        bool, typer.Option("--verify", help="Read all of it again, and compare it with the snapshot.")
    ] = False,
    dry_run: DryRun = False,
    host: Hosts = None,
    tag: Tags = None,
    source: Sources = None,
    manifest_from: ManifestFrom = None,
) -> None:
    """Bring back a snapshot, or one path of it.

    SNAPSHOT:PATH puts the contents of PATH into DIR; without PATH, the absolute paths are recreated below DIR. Only what
    differs is written. With --verify everything is read again afterwards, hashed and compared; what differs is an error.

    Examples:
        drtool restore latest --to /mnt/rescue --verify
        drtool restore latest:/etc/nginx --to /etc/nginx --overwrite always --dry-run
        drtool restore latest --source home --to /tmp/x --include '*.odt'
    """
    from drtool.operations.recorded import clear_old_logs
    from drtool.operations.restore import RestoreRequest
    from drtool.operations.restore import restore as run_restore

    call: Call = context.obj
    if not to:
        raise UsageError("--to is empty", hint="name the directory to restore into")
    if verify and (include or exclude or dry_run):
        raise UsageError(
            "--verify is for whole snapshots and whole paths", hint="leave out --include, --exclude and --dry-run"
        )
    name, path = split_snapshot(snapshot)
    with call.open_repository(sites(manifest_from)) as repository:
        chosen = chosen_snapshot(call, repository, name, narrowing(host, tag, source))
        request = RestoreRequest(
            snapshot=chosen,
            path=path,
            to=os.fsencode(to),
            includes=tuple(include or ()),
            excludes=tuple(exclude or ()),
            overwrite=overwrite,
            from_sites=sites(from_site),
            dry_run=dry_run,
            workers=call.settings.workers,
        )
        for log in [] if dry_run else clear_old_logs(repository, request):
            call.emit(Warned(message=f"{log} of the old database was removed: it would be replayed into this one"))
        document = document_of(run_restore(repository, request, call.emit))
        if verify:
            _verify(call, repository, request, document)
    call.show(document, restore_view(document, to, dry_run=dry_run), exit_code=3 if document["errors"] else 0)


def _verify(call: "Call", repository: "Repository", request: "RestoreRequest", document: Document) -> None:
    """Adds what is not on the disk as it should be to the errors."""
    from drtool.operations.verify import differences

    known = {row["path"] for row in document["errors"]}
    found = differences(repository, request.snapshot, request.to, request.path)
    for row in found:
        if row.path not in known:
            document["errors"].append({"path": row.path, "message": f"after it was restored: {row.reason}"})
            call.emit(ItemFailed(path=row.path, message=f"after it was restored: {row.reason}"))
    document["verified"] = True


def restore_view(document: Document, to: str, *, dry_run: bool) -> View:
    done = "would restore" if dry_run else "restored"
    written = "would be written" if dry_run else "written"
    text = (
        f"{count(document['files'], 'file')} of {document['snapshot'][:SHORT_ID]} to {to}: {size(document['bytes'])}, "
        f"{size(document['written_bytes'])} {written}"
    )
    extra = [
        f"{document[key]:,} {word}" for key, word in (("skipped", "skipped"), ("deleted", "deleted")) if document[key]
    ]
    text += "".join(f", {part}" for part in extra)
    parts = [
        line(
            Cell(f"{done} ", "strong" if dry_run else "good"),
            text,
            Cell(f" in {duration(document['wall_seconds'])}", "dim"),
        )
    ]
    if document["errors"]:
        parts.append(line(Cell(f"{count(len(document['errors']), 'item')} could not be restored, see above", "bad")))
    failed = f"; {len(document['errors'])} not restored" if document["errors"] else ""
    return view(*parts, summary=f"{done} {text}{failed}")
