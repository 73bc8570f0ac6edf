"""`stats`: show amounts of data."""

from typing import TYPE_CHECKING, Annotated

import typer

from drtool.cli.core.options import Hosts, ManifestFrom, Sources, Tags, narrowing, sites
from drtool.cli.core.selection import chosen_snapshot
from drtool.cli.core.text import Document, count, document_of, size
from drtool.cli.core.view import Cell, Line, View, line, view

if TYPE_CHECKING:
    from drtool.cli.core.call import Call


def stats(
    context: typer.Context,
    snapshots: Annotated[
        list[str] | None,
        typer.Argument(metavar="[SNAPSHOT…]", help="Count only these snapshots instead of everything."),
    ] = None,
    host: Hosts = None,
    tag: Tags = None,
    source: Sources = None,
    manifest_from: ManifestFrom = None,
) -> None:
    """Show how much data the snapshots hold.

    The figures are the size of the snapshots, the size after deduplication, and the stored size. Without SNAPSHOT,
    the figures come from the index and the targets' listings. With SNAPSHOT, the snapshots are walked, and data that
    they share is counted once.

    Examples:
        drtool stats
        drtool stats latest 3f2a --json
    """
    from drtool.operations.stats import stats as of_everything
    from drtool.operations.stats import stats_of

    call: Call = context.obj
    narrow = narrowing(host, tag, source)
    with call.open_for_reading(sites(manifest_from)) as repository:
        if snapshots:
            chosen = [chosen_snapshot(call, repository, name, narrow) for name in snapshots]
            document = document_of(stats_of(repository, list({row.id: row for row in chosen}.values())))
        else:
            document = document_of(of_everything(repository))
    call.show(document, stats_view(document))


def stats_view(document: Document) -> View:
    rows = [
        ("snapshots", f"{count(document['snapshots'], 'snapshot')}, {document['files']:,} files"),
        ("restored", f"{size(document['restored_bytes'])}, if each snapshot were restored separately"),
        ("unique", f"{size(document['unique_bytes'])}{_times(document['deduplication'], 'deduplicated')}"),
    ]
    if document["packed_bytes"] is not None:
        rows += [
            ("packed", f"{size(document['packed_bytes'])}{_times(document['compression'], 'compressed')}"),
            ("names", f"{size(document['tree_bytes'])} of names and attributes"),
            ("stored", f"{size(document['stored_bytes'])} at all targets, copies included"),
        ]
    lines: list[Line] = [line(Cell(f"{name:11}", "dim"), text) for name, text in rows]
    lines += [
        line(Cell("! ", "warn"), f"{name} could not be listed and is not counted") for name in document["unlisted"]
    ]
    return view(*lines)


def _times(ratio: float | None, word: str) -> str:
    """Return the ratio in words. Below 1, as of a few small files in padded packs, nothing was gained."""
    return "" if ratio is None or ratio < 1 else f", {word} {ratio:.1f} times"
