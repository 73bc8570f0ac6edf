"""`tag` and `hold`: marks on stored snapshots."""

import time
from typing import TYPE_CHECKING, Annotated

import typer
from msgspec.structs import replace

from drtool.cli.look import SHORT_ID, chosen_snapshot, hold_row
from drtool.cli.options import Hosts, Sources, Tags, narrowing, split_snapshot
from drtool.cli.text import Document, local
from drtool.cli.view import Cell, View, table, view
from drtool.config.units import time_ns_of
from drtool.errors import UsageError
from drtool.operations.snapshot_names import parse_latest

if TYPE_CHECKING:
    from drtool.cli.call import Call
    from drtool.manifest import Snapshot
    from drtool.manifest.records import Mark
    from drtool.operations.marking import Altering
    from drtool.operations.selection import Narrowing
    from drtool.repository import Repository

Names = Annotated[
    list[str], typer.Argument(metavar="SNAPSHOT…", help="Unique prefixes of ids, latest, or latest:PATH.")
]
Words = list[str] | None


def tag(
    context: typer.Context,
    snapshots: Names,
    add: Annotated[Words, typer.Option("--add", metavar="TAG", help="Add this tag; repeatable.")] = None,
    remove: Annotated[Words, typer.Option("--remove", metavar="TAG", help="Remove this tag; repeatable.")] = None,
    set_: Annotated[Words, typer.Option("--set", metavar="TAG", help="Set exactly these tags; '' sets none.")] = None,
    host: Hosts = None,
    having: Tags = None,
    source: Sources = None,
) -> None:
    """Change the tags of stored snapshots.

    Every --tag and --keep-tag uses the current tags.

    Examples:
        drtool tag latest --source home --add before-upgrade
        drtool tag 3f2a1b2c 9d0e --set monthly --set audited
        drtool tag 3f2a1b2c --set ''
    """
    call: Call = context.obj
    if set_ is not None and (add or remove):
        raise UsageError("--set excludes --add and --remove", hint="leave one of them out")
    if set_ is None and not add and not remove:
        raise UsageError("nothing to change", hint="add --add TAG, --remove TAG or --set TAG")
    if "" in (*(add or ()), *(remove or ())) or (set_ is not None and "" in set_ and len(set_) > 1):
        raise UsageError("a tag is empty", hint="leave it out; --set '' alone removes all tags")

    def alter(row: "Snapshot", mark: "Mark") -> "Mark":
        kept = [word for word in row.tags if word not in (remove or ())]
        wanted = tuple(dict.fromkeys([*kept, *(add or ())] if set_ is None else filter(None, set_)))
        return (
            mark if wanted == row.tags else replace(mark, tags=wanted, time_ns=time.time_ns(), host=call.settings.host)
        )

    _mark(call, snapshots, narrowing(host, having, source), alter)


def hold(
    context: typer.Context,
    snapshots: Names,
    reason: Annotated[str, typer.Option(metavar="TEXT", help="Record the reason for the hold.")] = "",
    until: Annotated[
        str | None, typer.Option(metavar="TIME", help="End the hold at this time: RFC 3339, or from now on: 90d.")
    ] = None,
    release: Annotated[bool, typer.Option("--release", help="End the hold.")] = False,
    host: Hosts = None,
    having: Tags = None,
    source: Sources = None,
) -> None:
    """Keep snapshots regardless of the retention rules, until released or expired.

    `forget` keeps held snapshots on every host, and refuses (exit 11) to forget one by name. `latest` selects one
    snapshot of one source. If there are several sources, name the source or a path in it.

    Examples:
        drtool hold latest --source home --reason 'audit 2026'
        drtool hold 3f2a1b2c --until 90d
        drtool hold 3f2a1b2c --release
    """
    call: Call = context.obj
    if release and (reason or until is not None):
        raise UsageError("--release ends a hold and cannot be combined with --reason or --until", hint="leave them out")
    until_ns = 0 if until is None else _until_ns(until)

    def alter(_row: "Snapshot", mark: "Mark") -> "Mark":
        if release:
            return replace(mark, held=False, reason="", until_ns=0)
        now_ns, host = time.time_ns(), call.settings.host
        return replace(mark, held=True, reason=reason, until_ns=until_ns, time_ns=now_ns, host=host)

    _mark(call, snapshots, narrowing(host, having, source), alter)


def _mark(call: "Call", names: list[str], narrow: "Narrowing", alter: "Altering") -> None:
    from drtool.operations.marking import mark

    with call.open_repository() as repository:
        ids = [_chosen(call, repository, name, narrow) for name in names]
        rows = mark(repository, ids, alter)
    document: Document = {
        "snapshots": [{"id": row.id.hex(), "tags": list(row.tags), **hold_row(mark)} for row, mark in rows]
    }
    call.show(document, _marks_view(document))


def _chosen(call: "Call", repository: "Repository", text: str, narrow: "Narrowing") -> bytes:
    """Return the id of the snapshot that `text` names. A path only selects among `latest`, because marks apply to whole
    snapshots.
    """
    name, path = split_snapshot(text)
    if path and parse_latest(name) is None:
        raise UsageError(f"{text}: marks apply to whole snapshots, so give the id without a path", hint=f"write {name}")
    return chosen_snapshot(call, repository, name, narrow, path).id


def hold_words(row: Document) -> str:
    """Return `held until 2027-01-31 00:00:00: audit`, or "" if the snapshot is not held."""
    if not row["held"]:
        return ""
    until = f" until {local(row['hold_until'])}" if row["hold_until"] else ""
    return f"held{until}{': ' + row['hold_reason'] if row['hold_reason'] else ''}"


def _until_ns(text: str) -> int:
    from drtool.config.life import seconds

    now_ns = time.time_ns()
    try:
        until_ns = time_ns_of(text) if "T" in text else now_ns + seconds(text) * 10**9
    except (ValueError, OverflowError) as error:
        raise UsageError(
            f"--until {text!r}: {error}", hint="--until 2027-01-31T00:00:00+01:00, or --until 90d"
        ) from None
    if not now_ns < until_ns < 2**63:
        raise UsageError(
            f"--until {text!r} is in the past", hint="leave it out to hold indefinitely; --release ends a hold"
        )
    return until_ns


def _marks_view(document: Document) -> View:
    rows = [
        (
            Cell(row["id"][:SHORT_ID], "strong"),
            ",".join(row["tags"]) or Cell("-", "dim"),
            hold_words(row) or Cell("-", "dim"),
        )
        for row in document["snapshots"]
    ]
    summary = "; ".join(
        " ".join(
            filter(
                None, (row["id"][:SHORT_ID], f"tags {','.join(row['tags']) or 'none'},", hold_words(row) or "not held")
            )
        )
        for row in document["snapshots"]
    )
    return view(table("ID TAGS HOLD", rows), summary=summary)
