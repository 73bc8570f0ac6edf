"""`restore --all-sources`: restore every source of a host in one command."""

import os
import time
from typing import TYPE_CHECKING

from msgspec.structs import replace

from drtool.cli.core.selection import SHORT_ID
from drtool.cli.core.text import Document, count, document_of, duration, local, size
from drtool.cli.core.view import Cell, Line, Table, View, line, table, view
from drtool.errors import UsageError, worst_exit
from drtool.events import Warned
from drtool.operations.selection import Narrowing

if TYPE_CHECKING:
    from collections.abc import Sequence

    from drtool.cli.core.call import Call
    from drtool.manifest import Snapshot
    from drtool.operations.all_sources import Check, How
    from drtool.operations.restore import RestoreRequest, RestoreResult
    from drtool.operations.restore.request import RestoreError
    from drtool.operations.verify import Compared
    from drtool.repository import Repository

_DATABASES = {"postgresql": "PostgreSQL", "mysql": "MySQL", "redis": "Redis"}


def count_missing(document: Document) -> int:
    """Return the number of listed items that are missing, or differ by more than attributes that could not be set."""
    return sum(not row["restored"] for row in document["errors"])


def refuse_beside_all(snapshot: str | None, *others: object) -> None:
    """Raise UsageError for options that cannot be combined with --all-sources."""
    if snapshot is not None:
        raise UsageError(
            "--all-sources restores the newest snapshot of each source and cannot be combined with a SNAPSHOT",
            hint="leave one of them out",
        )
    if any(others):
        raise UsageError(
            "--all-sources restores whole snapshots and cannot be combined with --in-place, --to-dsn, "
            "--database, --include, --exclude or --delete",
            hint="restore a single source: drtool restore latest --source NAME …",
        )


def compared_words(document: Document) -> list[str]:
    """Return the result of `--verify` in one sentence, if it ran."""
    if "compared" not in document:
        return []
    done = document["compared"]
    words = f"compared {count(done['items'], 'item')} with the snapshot, {size(done['bytes'])} read again"
    if done["content_only"]:
        words += f"; of {count(done['content_only'], 'item')}, only type and content"
    if done["not_captured"]:
        words += f"; {count(done['not_captured'], 'item')} left out, because the backup could not read all of them"
    return [words]


def restore_all(call: "Call", repository: "Repository", how: "How", narrow: Narrowing, *, verify: bool) -> None:
    """Restore every source that `narrow` admits, of the selected host."""
    from drtool.operations.all_sources import newest_of_each
    from drtool.operations.all_sources import restore_all as run_restore_all
    from drtool.operations.verify import Compared

    host = _host(call, repository, narrow)
    snapshots = repository.view.state.snapshots
    rows = newest_of_each(snapshots, replace(narrow, hosts=(host,)), time.time_ns(), call.emit)
    compared = Compared()
    check = _verified(call, repository, compared) if verify else _unverified
    done = run_restore_all(repository, rows, how, check, call.emit)
    document = document_of(done)
    document["changes"] = call.changes()
    document["without_snapshot"] = _without_snapshot(call, rows, narrow)
    document |= {"verified": True, "compared": document_of(compared)} if verify else {}
    _tell(call, document)
    call.show(
        document,
        all_view(document),
        exit_code=worst_exit(0, *(row["exit_code"] for row in document["sources"])),
    )


def _host(call: "Call", repository: "Repository", narrow: Narrowing) -> str:
    from drtool.operations.all_sources import host_meant

    if len(narrow.hosts) > 1:
        raise UsageError(
            "--all-sources restores one host, but several are named",
            hint="run one command with its own DIR for each host",
        )
    here, wanted = call.settings.host, narrow.hosts[0] if narrow.hosts else None
    host = host_meant(repository.view.state.snapshots, here, wanted)
    if wanted is None and host != here:
        call.emit(Warned(message=f"this host, {here}, has no snapshots; all are of {host}, which is restored"))
    return host


def _unverified(_request: "RestoreRequest", _result: "RestoreResult") -> "list[RestoreError]":
    return []


def _verified(call: "Call", repository: "Repository", compared: "Compared") -> "Check":
    from drtool.cli.commands.restore import differing

    return lambda request, result: differing(call, repository, request, result.errors, compared, request.excludes)


def _without_snapshot(call: "Call", rows: "Sequence[Snapshot]", narrowing: Narrowing) -> list[str]:
    """Return the sources of this host's configuration that have no snapshot."""
    if rows[0].host != call.settings.host or narrowing.tags:
        return []
    wanted = narrowing.sources or tuple(call.settings.config.sources)
    return sorted(set(wanted) - {row.source for row in rows})


def _tell(call: "Call", document: Document) -> None:
    for name in document["without_snapshot"]:
        call.emit(Warned(message=f"source {name} has no snapshot, so nothing of it was restored"))
    for row in document["sources"]:
        if row["database"] is not None and not row["failed"]:
            call.emit(Warned(message=_database_words(row)))
        if row["clash"] is not None:
            call.emit(
                Warned(
                    message=f"{_name(row)} and a newer snapshot hold different things at {row['clash']}; "
                    f"it is in {row['to']}"
                )
            )


def _name(row: Document) -> str:
    return f"source {row['source']}" if row["source"] else " ".join(row["paths"])


def all_view(document: Document) -> View:
    dry_run = document["dry_run"]
    done = "would restore" if dry_run else "restored"
    text = (
        f"{count(len(document['sources']), 'source')} of {document['host']} to {document['to']}: "
        f"{count(document['files'], 'file')}, {size(document['bytes'])}"
    )
    if document["attributes_not_set"]:
        text += f", {count(document['attributes_not_set'], 'attribute')} not set"
    rows = [
        (
            Cell(row["snapshot"][:SHORT_ID], "strong"),
            local(row["time"]),
            row["source"] or "-",
            f"{row['files']:,}",
            size(row["bytes"]),
            Cell("failed", "bad") if row["failed"] else row["to"],
        )
        for row in document["sources"]
    ]
    parts: list[Line | Table] = [
        table("SNAPSHOT TIME SOURCE FILES> SIZE> TO", rows),
        line(
            Cell(f"{done} ", "strong" if dry_run else "good"),
            text,
            Cell(f" in {duration(document['wall_seconds'])}", "dim"),
        ),
    ]
    if document["other_hosts"]:
        parts.append(
            line(f"other hosts with snapshots: {', '.join(document['other_hosts'])} (--host HOST restores one)")
        )
    failed = [row for row in document["sources"] if row["failed"]]
    parts += [line(Cell(f"{_name(row)}: ", "bad"), row["failed"]) for row in failed]
    compared = compared_words(document)
    parts += [line(words) for words in compared]
    missing = count_missing(document)
    if missing:
        parts.append(line(Cell(f"{count(missing, 'item')} could not be restored, see above", "bad")))
    troubles = [f"; {_name(row)} NOT restored" for row in failed]
    troubles += [f"; {count(missing, 'item')} not restored"] if missing else []
    return view(*parts, summary="; ".join((f"{done} {text}", *compared)) + "".join(troubles))


def _database_words(row: Document) -> str:
    """Return what was restored of a database, and how to continue."""
    where = os.path.join(row["to"], row["database"])
    engine = _DATABASES[row["database"]]
    how = (
        "stop the server and put dump.rdb into its directory"
        if row["database"] == "redis"
        else f"drtool restore {row['snapshot'][:SHORT_ID]} --to-dsn DSN loads them into a server"
    )
    return f"{_name(row)} is a {engine} database: its dumps are in {where}; {how}"
