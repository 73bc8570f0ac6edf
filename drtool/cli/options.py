"""Arguments and options that several commands share, each declared once."""

import os
from collections.abc import Sequence
from typing import Annotated

import typer

from drtool.errors import UsageError
from drtool.operations.selection import Narrowing
from drtool.operations.snapshot_names import split_name

SnapshotArgument = Annotated[
    str,
    typer.Argument(
        metavar="SNAPSHOT[:PATH]",
        help="Select a snapshot: an id's prefix, latest, latest~1 or latest@TIME; and a path.",
    ),
]
MaybeSnapshot = Annotated[
    str | None,
    typer.Argument(
        metavar="SNAPSHOT[:PATH]",
        help="Select a snapshot: an id's prefix, latest, latest~1 or latest@TIME; and a path.",
    ),
]
Hosts = Annotated[list[str] | None, typer.Option("--host", metavar="HOST", help="Select only snapshots of this host.")]
Tags = Annotated[
    list[str] | None,
    typer.Option("--tag", metavar="TAG", help="Select only snapshots with this tag; repeated: with all of them."),
]
Sources = Annotated[
    list[str] | None,
    typer.Option(
        "--source", metavar="NAME", help="Select only snapshots of this source, or of these paths if it has no name."
    ),
]
ManifestFrom = Annotated[
    list[str] | None,
    typer.Option(
        "--manifest-from", metavar="SITE|any", help="Read without a quorum, from the catalogue of these sites."
    ),
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Show what would be done, and change nothing.")]


def narrowing(hosts: Sequence[str] | None, tags: Sequence[str] | None, sources: Sequence[str] | None) -> Narrowing:
    return Narrowing(hosts=tuple(hosts or ()), tags=tuple(tags or ()), sources=tuple(sources or ()))


def sites(values: Sequence[str] | None) -> tuple[str, ...]:
    """Return the sites: `--manifest-from a --manifest-from b` and `--manifest-from a,b` mean the same."""
    return tuple(site for value in values or () for site in value.split(",") if site)


def split_snapshot(text: str) -> tuple[str, bytes | None]:
    """Split `SNAPSHOT:PATH`. The path is None if none was given."""
    name, path = split_name(text)
    if not name:
        raise UsageError("no snapshot given", hint="write latest, or a prefix of an id")
    return name, None if path is None else os.fsencode(path)
