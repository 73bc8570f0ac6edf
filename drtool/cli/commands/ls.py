"""`ls`: list a directory of a snapshot."""

import stat
from collections.abc import Iterable, Iterator
from itertools import chain, islice
from typing import TYPE_CHECKING, Annotated

import typer

from drtool.cli.core.options import (
    Hosts,
    ManifestFrom,
    SnapshotArgument,
    Sources,
    Tags,
    narrowing,
    sites,
    split_snapshot,
)
from drtool.cli.core.selection import chosen_snapshot
from drtool.cli.core.text import Document, document_of, local, size
from drtool.cli.core.view import Line, line, view

if TYPE_CHECKING:
    from drtool.cli.core.call import Call
    from drtool.operations.listing import Listed

_SIZED_BY = 200
_TYPES = {"directory": "d", "symlink": "l", "fifo": "p", "character_device": "c", "block_device": "b"}


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
    with call.open_for_reading(sites(manifest_from)) as repository:
        chosen = chosen_snapshot(call, repository, name, narrowing(host, tag, source), path)
        if not call.screen.form.documents:
            rows = listing.stream(repository, chosen, path, recursive)
            call.screen.stream(_long_lines(rows) if long else (line(_name(document_of(row))) for row in rows))
            return
        document = document_of(listing.ls(repository, chosen, path, recursive))
    call.show(document, view())


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
