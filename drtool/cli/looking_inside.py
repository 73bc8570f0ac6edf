"""`find` and `diff`: find files in snapshots, and compare snapshots."""

import os
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import chain
from typing import TYPE_CHECKING, Annotated

import typer

from drtool.cli.look import SHORT_ID, chosen_snapshot
from drtool.cli.options import Hosts, ManifestFrom, SnapshotArgument, Sources, Tags, narrowing, sites, split_snapshot
from drtool.cli.text import Document, count, local, size, utc
from drtool.cli.view import Cell, Line, Style, line, view
from drtool.errors import UsageError
from drtool.events import Warned
from drtool.operations.selection import narrowed

if TYPE_CHECKING:
    from drtool.cli.call import Call
    from drtool.operations.finding import Match
    from drtool.trees.compare import Difference

_TYPES = frozenset("fdl")
_MARKS: dict[str, tuple[str, Style]] = {
    "added": ("+", "good"),
    "removed": ("-", "bad"),
    "changed": ("M", "warn"),
    "metadata": ("m", "dim"),
}


def find(
    context: typer.Context,
    patterns: Annotated[
        list[str],
        typer.Argument(metavar="PATTERN…", help="Match these shell patterns; with a slash, they match the whole path."),
    ],
    snapshot: Annotated[
        list[str] | None, typer.Option("--snapshot", metavar="SNAPSHOT", help="Search only this snapshot; repeatable.")
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
    """Find files in the snapshots by name or path, oldest snapshot first.

    `*` also matches slashes. A pattern that contains a slash but does not begin with one may match from any directory
    on. No match is not an error; the list is then empty.

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
    with call.look_inside(sites(manifest_from)) as repository:
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


def diff(
    context: typer.Context,
    first: SnapshotArgument,
    second: Annotated[str, typer.Argument(metavar="SNAPSHOT[:PATH]", help="Compare with this snapshot or path.")],
    metadata: Annotated[
        bool, typer.Option("--metadata", help="Also report items that differ only in mode, owner, times or attributes.")
    ] = False,
    host: Hosts = None,
    tag: Tags = None,
    source: Sources = None,
    manifest_from: ManifestFrom = None,
) -> None:
    """Show the differences between two snapshots, or between two paths in them.

    `+` was added, `-` was removed, `M` has different content, type or link target. With --metadata, `m` differs only
    in mode, owner, times or attributes. If only the first snapshot has a PATH, it applies to both.

    Examples:
        drtool diff 3f2a latest
        drtool diff 3f2a:/etc latest --metadata
        drtool diff 3f2a latest --json | jq -r '.changed[]'
    """
    from drtool.operations.comparing import diff as run_diff

    call: Call = context.obj
    narrow = narrowing(host, tag, source)
    (name, path), (other_name, other_path) = split_snapshot(first), split_snapshot(second)
    with call.look_inside(sites(manifest_from)) as repository:
        second_path = path if other_path is None else other_path
        one = (chosen_snapshot(call, repository, name, narrow, path), path)
        other = (chosen_snapshot(call, repository, other_name, narrow, second_path), second_path)
        rows = run_diff(repository, one, other, metadata=metadata)
        counts: Counter[str] = Counter()
        if not call.screen.form.documents:
            call.screen.stream(_difference_lines(rows, counts))
            return
        document = _differences(rows, one[0].id.hex(), other[0].id.hex(), metadata=metadata)
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


def _difference_lines(rows: "Iterable[Difference]", counts: "Counter[str]") -> Iterator[Line]:
    from drtool.trees import FileType

    for row in rows:
        word = row.change.name.lower()
        counts[word] += 1
        entry = row.after or row.before
        slash = "/" if entry is not None and entry.type == FileType.DIRECTORY else ""
        mark, style = _MARKS[word]
        yield line(Cell(f"{mark} ", style), os.fsdecode(row.path) + slash)
    told = ", ".join(f"{counts[word]:,} {word}" for word in _MARKS if counts[word]) or "no difference"
    yield line(Cell(told, "dim"))


def _differences(rows: "Iterable[Difference]", first: str, second: str, *, metadata: bool) -> Document:
    words = ("added", "removed", "changed", *(("metadata",) if metadata else ()))
    document: Document = {"first": first, "second": second, **{word: [] for word in words}}
    for row in rows:
        document[row.change.name.lower()].append(os.fsdecode(row.path))
    return document
