"""`drift`: compare this host's system with its snapshot."""

from collections import Counter
from typing import TYPE_CHECKING, Annotated

import typer

from drtool.cli.core.options import Hosts, ManifestFrom, Sources, Tags, narrowing, sites
from drtool.cli.core.passwords import inherited
from drtool.cli.core.selection import SHORT_ID, chosen_snapshot
from drtool.cli.core.text import Document, count, document_of
from drtool.cli.core.view import Cell, Line, Style, View, line, view
from drtool.errors import UsageError
from drtool.operations.snapshot_names import LATEST

if TYPE_CHECKING:
    from drtool.cli.core.call import Call

_MARKS: dict[str, tuple[str, Style]] = {"added": ("+", "good"), "removed": ("-", "bad"), "changed": ("M", "warn")}


def drift(
    context: typer.Context,
    snapshot: Annotated[
        str,
        typer.Argument(metavar="[SNAPSHOT]", help="Compare with this snapshot: a unique prefix of an id, or latest."),
    ] = LATEST,
    what: Annotated[
        list[str] | None,
        typer.Option(
            "--what",
            metavar="WHAT",
            help="Compare only packages, units, users, groups, crontabs, repositories, sysctl or files (repeatable).",
        ),
    ] = None,
    check: Annotated[bool, typer.Option("--check", help="Exit 1 if anything differs or cannot be compared.")] = False,
    host: Hosts = None,
    tag: Tags = None,
    source: Sources = None,
    manifest_from: ManifestFrom = None,
) -> None:
    """Compare this host with a snapshot of its system.

    The snapshot is one of a `system` source. Compared are packages and their versions, units, users, groups,
    crontabs, repositories, kernel settings, and the content of every file that the snapshot holds. `+` was added
    since, `-` is gone, `M` has changed. Without SNAPSHOT, the newest one of this host is used.

    Examples:
        drtool drift
        drtool drift latest --what packages --what units --check
        drtool drift --host web1 --source host --json | jq -r '.differences[] | select(.what == "packages") | .name'
    """
    from drtool.operations.drift import ASPECTS
    from drtool.operations.drift import drift as run_drift
    from drtool.sources.configured import patterns

    call: Call = context.obj
    unknown = [each for each in what or () if each not in ASPECTS]
    if unknown:
        raise UsageError(f"--what {unknown[0]} is unknown; the choices are {', '.join(ASPECTS)}")
    call.check_configured()
    settings = call.settings
    systems = {name: each for name, each in settings.config.sources.items() if each.system is not None}
    narrow = narrowing(host or [settings.host], tag, source or (list(systems) if snapshot == LATEST else None))
    with call.open_for_reading(sites(manifest_from)) as repository:
        chosen = chosen_snapshot(call, repository, snapshot, narrow)
        found = run_drift(
            repository,
            chosen,
            inherited(),
            what=what or ASPECTS,
            excludes=patterns(systems[chosen.source]) if chosen.source in systems else (),
        )
    document = document_of(found)
    differs = bool(document["differences"] or document["unknown"])
    call.show(document, drift_view(document), exit_code=1 if check and differs else 0)


def drift_view(document: Document) -> View:
    lines: list[Line] = []
    last = ""
    for row in document["differences"]:
        if row["what"] != last:
            last = row["what"]
            lines.append(line(Cell(last, "strong")))
        mark, style = _MARKS[row["change"]]
        detail = f": {row['detail']}" if row["detail"] else ""
        lines.append(line(Cell(f"  {mark} ", style), f"{row['name']}{detail}"))
    lines += [line(Cell("unknown ", "warn"), f"{row['what']}: {row['reason']}") for row in document["unknown"]]
    summary = _summary(document)
    return view(*lines, line(Cell(summary, "good" if not document["differences"] else "warn")))


def _summary(document: Document) -> str:
    compared = sum(document["compared"].values())
    since = f"as in snapshot {document['snapshot'][:SHORT_ID]} of {document['host']}"
    counts = Counter(row["what"] for row in document["differences"])
    unknown = f"; {len(document['unknown'])} could not be compared" if document["unknown"] else ""
    if not counts:
        return f"everything is {since}: {compared:,} items compared{unknown}"
    told = ", ".join(f"{what} {number:,}" for what, number in counts.items())
    return (
        f"{count(sum(counts.values()), 'difference')} from snapshot {document['snapshot'][:SHORT_ID]}: {told}{unknown}"
    )
