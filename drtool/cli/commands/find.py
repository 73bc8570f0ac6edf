"""`find`: find files in the snapshots."""

import os
from collections.abc import Iterable, Iterator
from itertools import chain
from typing import TYPE_CHECKING, Annotated

import typer

from drtool.cli.core.options import (
    Hosts,
    ManifestFrom,
    Sources,
    Tags,
    narrowing,
    sites,
)
from drtool.cli.core.selection import SHORT_ID, chosen_snapshot
from drtool.cli.core.text import Document, count, local, size, utc
from drtool.cli.core.view import Cell, Line, line, view
from drtool.errors import UsageError
from drtool.events import Warned
from drtool.operations.selection import narrowed

if TYPE_CHECKING:
    from drtool.cli.core.call import Call
    from drtool.operations.finding import Match

_TYPES = frozenset("fdl")


def find(
    context: typer.Context,
    patterns: Annotated[
        list[str],
        typer.Argument(metavar="PATTERN…", help="Match these shell patterns. With a slash, they match the whole path."),
    ],
    snapshot: Annotated[
        list[str] | None, typer.Option("--snapshot", metavar="SNAPSHOT", help="Search only this snapshot (repeatable).")
    ] = None,
    kind: Annotated[
        list[str] | None,
        typer.Option("--type", metavar="f|d|l", help="Find only files (f), directories (d) or symbolic links (l)."),
    ] = None,
    ignore_case: Annotated[bool, typer.Option("--ignore-case", "-i", help="Ignore upper and lower case.")] = False,
    host: Hosts = None,
    tag: Tags = None,
    source: Sources = None,
    manifest_from: ManifestFrom = None,
) -> None:
    """Find files in the snapshots by name or path.

    Matches are listed with the oldest snapshot first. `*` also matches slashes. A pattern that contains a slash but
    does not begin with one may match from any directory on. No match is not an error. The list is then empty.

    Examples:
        drtool find 'invoice-2025*.pdf'
        drtool find 'etc/*.conf' --snapshot latest
        drtool find '*.sqlite' --type f --json | jq -r '.matches[].path'
    """
    from drtool.operations.finding import Wanted
    from drtool.operations.finding import find as run_find

    call: Call = context.obj
    types = frozenset(kind or ())
    if not types <= _TYPES:
        raise UsageError(f"--type {' '.join(sorted(types - _TYPES))} is unknown; the choices are f, d and l")
    wanted = Wanted(patterns=tuple(patterns), ignore_case=ignore_case, types=types)
    narrow = narrowing(host, tag, source)
    with call.open_for_reading(sites(manifest_from)) as repository:
        rows = narrowed(repository.view.state.snapshots, narrow)
        if snapshot:
            rows = [chosen_snapshot(call, repository, name, narrow) for name in snapshot]
        found = run_find(repository, rows, wanted)
        if not call.screen.form.documents:
            first = next(found, None)
            if first is None:
                call.emit(Warned(message=f"no match in {count(len(rows), 'snapshot')}"))
            else:
                call.screen.stream(_match_lines(chain((first,), found)))
            return
        document = {"matches": [_match(match) for match in found]}
    call.show(document, view())


def _match_lines(found: "Iterable[Match]") -> Iterator[Line]:
    for match in found:
        row = _match(match)
        told = f"  {size(row['size']) if row['type'] == 'file' else '-':>10}  {local(row['mtime'])}  "
        yield line(Cell(row["snapshot"][:SHORT_ID], "strong"), told, row["path"] + "/" * (row["type"] == "directory"))


def _match(match: "Match") -> Document:
    from drtool.trees import FileType

    entry = match.entry
    return {
        "snapshot": match.snapshot.id.hex(),
        "path": os.fsdecode(match.path),
        "type": FileType(entry.type).word,
        "size": entry.size_bytes,
        "mtime": utc(entry.mtime_ns),
    }
