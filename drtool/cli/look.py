"""`snapshots` and `ls`: list snapshots and their contents."""

import os
import stat
import time
from collections.abc import Collection, Iterable, Iterator
from itertools import chain, islice
from typing import TYPE_CHECKING, Annotated

import typer

from drtool.cli.options import Hosts, ManifestFrom, SnapshotArgument, Sources, Tags, narrowing, sites, split_snapshot
from drtool.cli.text import Document, count, document_of, local, size, utc
from drtool.cli.view import Cell, Line, View, line, table, view
from drtool.operations.selection import Narrowing, choice_words, narrowed, select

if TYPE_CHECKING:
    from drtool.cli.call import Call
    from drtool.manifest import Snapshot
    from drtool.manifest.records import Mark
    from drtool.model import SnapshotId
    from drtool.operations.listing import Listed
    from drtool.operations.selection import Selected
    from drtool.repository import Repository

SHORT_ID = 8
_SIZED_BY = 200
_TYPES = {"directory": "d", "symlink": "l", "fifo": "p", "character_device": "c", "block_device": "b"}


def snapshots(
    context: typer.Context,
    host: Hosts = None,
    tag: Tags = None,
    source: Sources = None,
    latest: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="Show only the newest N of each host and source.")
    ] = None,
    manifest_from: ManifestFrom = None,
) -> None:
    """List the snapshots, oldest first.

    Examples:
        drtool snapshots
        drtool snapshots --host web1 --latest 3
        drtool snapshots --json | jq -r '.snapshots[-1].id'
    """
    call: Call = context.obj
    with call.open_repository(sites(manifest_from)) as repository:
        rows = narrowed(repository.view.state.snapshots, narrowing(host, tag, source), latest)
        marks = {mark.snapshot: mark for mark in repository.view.state.marks}
        listed = {row.id for row in repository.view.state.snapshots}
    document: Document = {"snapshots": [snapshot_row(row, listed) | hold_row(marks.get(row.id)) for row in rows]}
    call.show(document, snapshots_view(document))


def ls(
    context: typer.Context,
    snapshot: SnapshotArgument,
    long: Annotated[bool, typer.Option("-l", help="Show modes, owners, sizes and times.")] = False,
    recursive: Annotated[bool, typer.Option("-R", help="List everything below, recursively.")] = False,
    host: Hosts = None,
    tag: Tags = None,
    source: Sources = None,
    manifest_from: ManifestFrom = None,
) -> None:
    """List a directory of a snapshot.

    Examples:
        drtool ls latest
        drtool ls -l latest:/etc
        drtool ls -R 3f2a:/home --json
    """
    from drtool.operations import listing

    call: Call = context.obj
    name, path = split_snapshot(snapshot)
    with call.look_inside(sites(manifest_from)) as repository:
        chosen = chosen_snapshot(call, repository, name, narrowing(host, tag, source), path)
        if not call.screen.form.documents:
            rows = listing.stream(repository, chosen, path, recursive)
            call.screen.stream(_long_lines(rows) if long else (line(_name(document_of(row))) for row in rows))
            return
        document = document_of(listing.ls(repository, chosen, path, recursive))
    call.show(document, view())


def chosen_snapshot(
    call: "Call", repository: "Repository", name: str, narrow: Narrowing, path: bytes | None = None
) -> "Snapshot":
    """Return the snapshot that the user named, and report ambiguities of the choice.

    `latest` selects among the snapshots that have `path`.
    """
    from drtool.operations.holding import holder_of

    rows = list(repository.view.state.snapshots)
    holds = holder_of(repository.trees, path) if path else None
    selected = select(rows, name, now_ns=time.time_ns(), narrowing=narrow, holds=holds)
    for warning in filter(None, (*selected.warnings, choice_words(selected))):
        call.note(warning)
    if selected.by_latest:
        call.choices.append(choice_row(name, selected))
    return selected.snapshot


def choice_row(name: str, selected: "Selected[Snapshot]") -> Document:
    """Return the record of a choice by `latest`: the snapshot, and the newest one of each other source that matched."""
    return {"asked": name, **_brief(selected.snapshot), "others": [_brief(row) for row in selected.others]}


def _brief(row: "Snapshot") -> Document:
    whole = snapshot_row(row)
    return {"snapshot": whole["id"], **{key: whole[key] for key in ("time", "host", "source", "paths")}}


def snapshot_row(row: "Snapshot", listed: "Collection[SnapshotId] | None" = None) -> Document:
    """Return a snapshot's row for documents. A parent that is not `listed` was forgotten, so its id is left out."""
    parent = row.parent if listed is None or row.parent in listed else None
    return {
        "id": row.id.hex(),
        "time": utc(row.time_ns),
        "host": row.host,
        "user": row.user,
        "source": row.source,
        "paths": [os.fsdecode(path) for path in row.paths],
        "tags": list(row.tags),
        "files": row.counts.files,
        "bytes": row.counts.bytes,
        "parent": parent.hex() if parent else None,
        "sequence": row.sequence,
    }


def hold_row(mark: "Mark | None", now_ns: int | None = None) -> Document:
    """Return a hold's fields for documents."""
    if mark is None or not mark.holds(time.time_ns() if now_ns is None else now_ns):
        return {"held": False, "hold_reason": None, "hold_until": None}
    return {"held": True, "hold_reason": mark.reason, "hold_until": utc(mark.until_ns) if mark.until_ns else None}


def snapshots_view(document: Document) -> View:
    rows = document["snapshots"]
    if not rows:
        return view(line("no snapshots"))
    cells = [
        (
            Cell(row["id"][:SHORT_ID], "strong"),
            local(row["time"]),
            row["host"],
            row["source"] or Cell("-", "dim"),
            f"{row['files']:,}",
            size(row["bytes"]),
            Cell(",".join((*row["tags"], *(["(held)"] if row["held"] else []))), "dim"),
            " ".join(row["paths"]),
        )
        for row in rows
    ]
    return view(
        table("ID TIME HOST SOURCE FILES> SIZE> TAGS PATHS", cells), line(Cell(count(len(rows), "snapshot"), "dim"))
    )


def _long_lines(rows: "Iterable[Listed]") -> Iterator[Line]:
    """Yield rows as `ls -l` does. The first rows set the column widths, and later rows widen them if necessary."""
    documents = map(document_of, rows)
    first = list(islice(documents, _SIZED_BY))
    widths = [max(map(len, column)) for column in zip(*map(_long_words, first), strict=True)]
    for row in chain(first, documents):
        words = _long_words(row)
        widths = [max(width, len(word)) for width, word in zip(widths, words, strict=True)]
        mode, links, user, group, bytes_ = words
        left = f"{mode}  {links:>{widths[1]}}  {user:{widths[2]}}  {group:{widths[3]}}  {bytes_:>{widths[4]}}"
        yield line(f"{left}  {local(row['mtime'])}  {_name(row)}")


def _long_words(row: Document) -> tuple[str, str, str, str, str]:
    return (
        _mode(row),
        str(row["links"]),
        row["user"] or str(row["uid"]),
        row["group"] or str(row["gid"]),
        size(row["size"]),
    )


def _name(entry: Document) -> str:
    path: str = entry["path"]
    if entry["type"] == "directory":
        return path.rstrip("/") + "/"
    return f"{path} -> {entry['target']}" if entry.get("target") else path


def _mode(entry: Document) -> str:
    return _TYPES.get(entry["type"], "-") + stat.filemode(entry["mode"])[1:]
