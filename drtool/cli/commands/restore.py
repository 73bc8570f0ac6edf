"""`restore`: restore a snapshot, or a part of it."""

import os
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from msgspec.structs import replace

from drtool.cli.commands.restore_all import compared_words, count_missing, refuse_beside_all, restore_all
from drtool.cli.core.options import (
    DryRun,
    Hosts,
    ManifestFrom,
    MaybeSnapshot,
    Sources,
    Tags,
    narrowing,
    sites,
    split_snapshot,
)
from drtool.cli.core.selection import SHORT_ID, chosen_snapshot
from drtool.cli.core.text import Document, count, document_of, duration, size
from drtool.cli.core.view import Cell, View, line, view
from drtool.errors import UsageError
from drtool.events import ItemFailed, Warned

if TYPE_CHECKING:
    from collections.abc import Collection

    from drtool.cli.core.call import Call
    from drtool.manifest.records import Snapshot
    from drtool.operations.all_sources import How
    from drtool.operations.restore import RestoreRequest
    from drtool.operations.restore.request import RestoreError
    from drtool.operations.selection import Narrowing
    from drtool.operations.verify import Compared
    from drtool.repository import Repository


def restore(
    context: typer.Context,
    snapshot: MaybeSnapshot = None,
    all_sources: Annotated[
        bool,
        typer.Option("--all-sources", help="Restore the newest snapshot of every source of this host, or of --host."),
    ] = False,
    to: Annotated[
        str | None, typer.Option(metavar="DIR", help="Restore into this directory, and create it if missing.")
    ] = None,
    in_place: Annotated[
        bool,
        typer.Option(
            "--in-place",
            help="Restore to the original place. Without --overwrite, files that differ are overwritten.",
        ),
    ] = False,
    to_dsn: Annotated[
        str | None, typer.Option(metavar="DSN", help="Load a database snapshot into this server.")
    ] = None,
    database: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="With --to-dsn, load only this database (repeatable).")
    ] = None,
    include: Annotated[
        list[str] | None,
        typer.Option(metavar="PATTERN", help="Restore only paths that match this pattern (repeatable)."),
    ] = None,
    exclude: Annotated[
        list[str] | None, typer.Option(metavar="PATTERN", help="Leave out paths that match this pattern (repeatable).")
    ] = None,
    overwrite: Annotated[
        Literal["always", "if-changed", "never"] | None,
        typer.Option(
            help="Choose how to treat existing files: always compares content, if-changed compares size and time, "
            "never only adds missing files."
        ),
    ] = None,
    delete: Annotated[
        bool, typer.Option("--delete", help="Delete files that the snapshot does not have, within the selection.")
    ] = False,
    numeric_owner: Annotated[
        bool, typer.Option("--numeric-owner", help="Restore owners by number, even if this host has the name.")
    ] = False,
    map_owner: Annotated[
        list[str] | None,
        typer.Option(metavar="FROM:TO", help="Give one user's files to another, by name or number (repeatable)."),
    ] = None,
    map_group: Annotated[
        list[str] | None,
        typer.Option(metavar="FROM:TO", help="Give one group's files to another, by name or number (repeatable)."),
    ] = None,
    from_site: Annotated[list[str] | None, typer.Option(metavar="SITE", help="Read copies at this site only.")] = None,
    verify: Annotated[
        bool, typer.Option("--verify", help="Read all restored data again and compare it with the snapshot.")
    ] = False,
    dry_run: DryRun = False,
    host: Hosts = None,
    tag: Tags = None,
    source: Sources = None,
    manifest_from: ManifestFrom = None,
) -> None:
    """Restore a snapshot, or one path of it.

    SNAPSHOT:PATH puts the contents of PATH into DIR. Without PATH, the absolute paths are recreated below DIR. Only
    data that differs is written. With --verify, everything is read again afterwards and compared, and a difference is
    an error. Owners are restored by name if this host has the name, otherwise by number. To continue an interrupted
    restore, run it again with --overwrite if-changed. With --to-dsn, the databases of a snapshot are loaded into a
    server that has no database of that name, and compared with the record.

    With --all-sources, every source of a host is restored in one command: of this host, or of --host HOST. If two
    sources hold different content at one path, the older snapshot goes to DIR/_sources. For databases, the dumps are
    restored.

    Examples:
        drtool restore --all-sources --to /mnt/rescue --verify
        drtool restore latest --source home --to /mnt/rescue
        drtool restore latest:/etc/nginx --to /etc/nginx --overwrite always --dry-run
        drtool restore latest:/srv/www --in-place --delete --dry-run
        drtool restore latest --to /mnt --map-owner alice:1001 --map-group staff:users
        drtool restore latest --source home --to /tmp/x --include '*.odt'
        drtool restore latest --source orders --to-dsn service=standby --database orders
    """
    from drtool.operations.restore import RestoreRequest
    from drtool.sources.filesystem import read_group_mapping, read_user_mapping

    call: Call = context.obj
    narrow = narrowing(host, tag, source)
    if all_sources:
        refuse_beside_all(snapshot, in_place, to_dsn, database, include, exclude, delete)
    elif snapshot is None:
        raise UsageError("no snapshot given", hint="write latest or a prefix of an id, or --all-sources")
    elif to_dsn is not None:
        files_only = (to, in_place, include, exclude, overwrite, delete, verify, numeric_owner, map_owner, map_group)
        _check_alone(snapshot, any(each for each in files_only))
        _load(call, snapshot, to_dsn, database or [], from_site, dry_run, narrow, manifest_from)
        return
    _check_place(to, in_place, database)
    if verify:
        _check_verify(include or exclude or dry_run)
    how = partial(
        RestoreRequest,
        to=os.fsencode(to or ""),
        includes=tuple(include or ()),
        excludes=tuple(exclude or ()),
        overwrite=overwrite or ("always" if in_place else None),
        delete=delete,
        numeric_owners=numeric_owner,
        map_users=read_user_mapping(map_owner or ()),
        map_groups=read_group_mapping(map_group or ()),
        from_sites=sites(from_site),
        dry_run=dry_run,
        names_items=call.name_items(dry_run=dry_run),
        workers=call.settings.workers,
    )
    with call.open_repository(sites(manifest_from)) as repository:
        if snapshot is None:
            restore_all(call, repository, how, narrow, verify=verify)
        else:
            _restore_one(call, repository, snapshot, how, narrow, in_place=in_place, verify=verify)


def _check_place(to: str | None, in_place: bool, database: list[str] | None) -> None:
    if in_place and to is not None:
        raise UsageError("--in-place and --to name two destinations", hint="give one of them")
    if not (to or in_place) or database:
        raise UsageError(
            "--database needs --to-dsn" if database else f"--to is {'missing' if to is None else 'empty'}",
            hint="name the directory with --to, use --in-place for the original place, or load a database into a "
            "server with --to-dsn DSN",
        )


def _check_verify(partly: object) -> None:
    if partly:
        raise UsageError(
            "--verify needs a whole snapshot or a whole path", hint="leave out --include, --exclude and --dry-run"
        )


def _restore_one(
    call: "Call",
    repository: "Repository",
    text: str,
    how: "How",
    narrow: "Narrowing",
    *,
    in_place: bool,
    verify: bool,
) -> None:
    """Restore one snapshot, or a path of it."""
    from drtool.operations.recorded import clear_old_logs
    from drtool.operations.restore import restore as run_restore
    from drtool.operations.verify import Compared

    name, path = split_snapshot(text)
    chosen = chosen_snapshot(call, repository, name, narrow, path)
    request = how(snapshot=chosen, path=path)
    if in_place:
        request = replace(request, to=_place_of(repository, chosen, path), in_place=True)
    for log in [] if request.dry_run else clear_old_logs(repository, request):
        call.emit(Warned(message=f"{log} of the old database was removed, because it would be replayed into this one"))
    result = run_restore(repository, request, call.emit)
    document = document_of(result) | {"changes": call.changes()}
    if verify:
        compared = Compared()
        found = differing(call, repository, request, result.errors, compared)
        document["errors"] += map(document_of, found)
        document |= {"verified": True, "compared": document_of(compared)}
    call.show(
        document,
        restore_view(document, os.fsdecode(request.to), dry_run=request.dry_run),
        exit_code=3 if document["errors"] else 0,
    )


def _place_of(repository: "Repository", snapshot: "Snapshot", path: bytes | None) -> bytes:
    """Return the place of the data when it was backed up."""
    from drtool.operations.inventories import recorded
    from drtool.trees import FileType, find_entry

    inventory = recorded(repository, snapshot)
    if inventory is not None and inventory.drtool != "sqlite":
        raise UsageError(
            f"a snapshot of {inventory.drtool} has no original place in the file system",
            hint="--to-dsn DSN loads it into a server, and --to DIR restores its files",
        )
    whole = b"/" + (path or b"").strip(b"/")
    entry = find_entry(snapshot.root, whole, repository.trees) if path else None
    return whole if entry is None or entry.type == FileType.DIRECTORY else os.path.dirname(whole)


def _check_alone(snapshot: str, files_too: bool) -> None:
    if files_too or split_snapshot(snapshot)[1] is not None:
        raise UsageError(
            "--to-dsn loads whole databases and can only be combined with --database, --from-site and --dry-run",
            hint="restore files of the snapshot with --to DIR",
        )


def _load(
    call: "Call",
    snapshot: str,
    dsn: str,
    databases: list[str],
    from_site: list[str] | None,
    dry_run: bool,
    narrowed: "Narrowing",
    manifest_from: list[str] | None,
) -> None:
    """Load databases into a server."""
    from drtool.cli.core.passwords import inherited
    from drtool.operations.database import DatabaseRequest, restore_database
    from drtool.sources.configured import access_of

    directory = call.settings.config_path.parent if call.settings.config_path is not None else Path.cwd()
    with call.open_repository(sites(manifest_from)) as repository:
        chosen = chosen_snapshot(call, repository, split_snapshot(snapshot)[0], narrowed)
        request = DatabaseRequest(
            snapshot=chosen,
            dsn=dsn,
            access=access_of(call.settings.config.sources.get(chosen.source), directory),
            databases=tuple(databases),
            from_sites=sites(from_site),
            environ=inherited(),
            dry_run=dry_run,
            workers=call.settings.workers,
        )
        document = document_of(restore_database(repository, request, call.emit))
    call.show(document, database_view(document, dry_run=dry_run), exit_code=3 if document["errors"] else 0)


def database_view(document: Document, *, dry_run: bool) -> View:
    done = "would load" if dry_run else "loaded"
    proof = f"; {' and '.join(document['compared'])} as recorded" if document["compared"] and not dry_run else ""
    server = f"{document['engine']} {document['server_version']}"
    text = f"{', '.join(document['databases'])} of {document['snapshot'][:SHORT_ID]} into {server}"
    head = line(Cell(f"{done} ", "strong" if dry_run else "good"), text)
    if not document["errors"]:
        return view(head, line(proof.removeprefix("; ")) if proof else line(""), summary=f"{done} {text}{proof}")
    rows = [line(Cell(f"{row['path']}: ", "bad"), row["message"]) for row in document["errors"]]
    first = document["errors"][0]
    return view(head, *rows, summary=f"{done} {text}; NOT as recorded: {first['path']}: {first['message']}")


def differing(
    call: "Call",
    repository: "Repository",
    request: "RestoreRequest",
    errors: "Collection[RestoreError]",
    compared: "Compared",
    excludes: "Collection[str]" = (),
) -> "list[RestoreError]":
    """Return the differences between the disk and the snapshot that `errors` does not list.

    Count the comparisons in `compared`.

    The content of an item is compared even if its attributes could not be set.
    """
    from drtool.operations.restore import destination_of
    from drtool.operations.restore.request import RestoreError
    from drtool.operations.verify import differences

    known = {*excludes, *(row.path for row in errors if not row.restored)}
    imperfect = {row.path for row in errors if row.restored}
    with destination_of(repository, request) as root:
        rows = differences(
            repository,
            request.snapshot,
            root,
            request.path,
            owners=request.owners,
            imperfect=imperfect,
            in_place=request.in_place,
            compared=compared,
        )
        found = [
            RestoreError(row.path, f"after it was restored: {row.reason}") for row in rows if row.path not in known
        ]
    for error in found:
        call.emit(ItemFailed(path=error.path, message=error.message))
    return found


def restore_view(document: Document, to: str, *, dry_run: bool) -> View:
    done = "would restore" if dry_run else "restored"
    written = "would be written" if dry_run else "written"
    deleted = "would be deleted" if dry_run else "deleted"
    text = (
        f"{count(document['files'], 'file')} of {document['snapshot'][:SHORT_ID]} to {to}: {size(document['bytes'])}, "
        f"{size(document['written_bytes'])} {written}"
    )
    extra = [
        f"{document[key]:,} {word}" for key, word in (("skipped", "skipped"), ("deleted", deleted)) if document[key]
    ]
    if document["attributes_not_set"]:
        extra.append(f"{count(document['attributes_not_set'], 'attribute')} not set")
    text += "".join(f", {part}" for part in extra)
    parts = [
        line(
            Cell(f"{done} ", "strong" if dry_run else "good"),
            text,
            Cell(f" in {duration(document['wall_seconds'])}", "dim"),
        )
    ]
    parts += [line(words) for words in compared_words(document)]
    missing = count_missing(document)
    if missing:
        parts.append(line(Cell(f"{count(missing, 'item')} could not be restored, see above", "bad")))
    failed = f"; {missing} not restored" if missing else ""
    compared = "".join(f"; {words}" for words in compared_words(document))
    return view(*parts, summary=f"{done} {text}{compared}{failed}")
