"""Arguments and options that several commands share, each declared once."""

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer
from msgspec import Struct

from drtool.config.schema import check_name
from drtool.errors import UsageError
from drtool.operations.selection import Narrowing
from drtool.operations.snapshot_names import split_name

if TYPE_CHECKING:
    from drtool.model import TargetName

SnapshotArgument = Annotated[
    str,
    typer.Argument(
        metavar="SNAPSHOT[:PATH]",
        help="Select a snapshot by an id's prefix, latest, latest~1 or latest@TIME, and a path in it.",
    ),
]
MaybeSnapshot = Annotated[
    str | None,
    typer.Argument(
        metavar="SNAPSHOT[:PATH]",
        help="Select a snapshot by an id's prefix, latest, latest~1 or latest@TIME, and a path in it.",
    ),
]
Hosts = Annotated[list[str] | None, typer.Option("--host", metavar="HOST", help="Select only snapshots of this host.")]
Tags = Annotated[
    list[str] | None,
    typer.Option(
        "--tag", metavar="TAG", help="Select only snapshots with this tag; if repeated, with all of the tags."
    ),
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


class Options(Struct, frozen=True, kw_only=True):
    """The global options that affect the settings."""

    config: str | None = None
    password_file: str | None = None
    metrics_file: str | None = None


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


FaultRun = Annotated[str | None, typer.Option("--run", metavar="RUN", help="Select only faults of this run.")]


def target_name(word: str) -> "TargetName":
    """Parse `SITE[/NAME]`. NAME defaults to `main`."""
    from drtool.model import TargetName

    site, slash, name = word.partition("/")
    return TargetName(f"{check_name(site, 'site')}/{check_name(name, 'target') if slash else 'main'}")


def whole_weight(word: str, said: str) -> int:
    """Parse a weight: a whole number from 1 up."""
    if not (word.isascii() and word.isdecimal()) or int(word) < 1:
        raise UsageError(f"{said}: {word!r} is not a weight", hint="a weight is a whole number from 1 up")
    return int(word)


def limit_bytes(word: str | None) -> int | None:
    """Parse `--max-bytes`."""
    from drtool.config.units import size_bytes

    try:
        return None if word is None else size_bytes(word)
    except ValueError as error:
        raise UsageError(f"--max-bytes {word}: {error}", hint="write 20GiB") from error
