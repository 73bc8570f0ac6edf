"""`diff`: show the differences between two snapshots."""

import os
from collections import Counter
from collections.abc import Iterable, Iterator
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
from drtool.cli.core.text import Document
from drtool.cli.core.view import Cell, Line, Style, line, view

if TYPE_CHECKING:
    from drtool.cli.core.call import Call
    from drtool.trees.compare import Difference

_MARKS: dict[str, tuple[str, Style]] = {
    "added": ("+", "good"),
    "removed": ("-", "bad"),
    "changed": ("M", "warn"),
    "metadata": ("m", "dim"),
}


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
    """Show the differences between two snapshots.

    With PATHs, compare two places in them. `+` was added, `-` was removed, `M` has different content, type or link
    target. With --metadata, `m` differs only in mode, owner, times or attributes. If only the first snapshot has a
    PATH, it applies to both.

    Examples:
        drtool diff 3f2a latest
        drtool diff 3f2a:/etc latest --metadata
        drtool diff 3f2a latest --json | jq -r '.changed[]'
    """
    from drtool.operations.comparing import diff as run_diff

    call: Call = context.obj
    narrow = narrowing(host, tag, source)
    (name, path), (other_name, other_path) = split_snapshot(first), split_snapshot(second)
    with call.open_for_reading(sites(manifest_from)) as repository:
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
