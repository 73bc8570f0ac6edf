"""Restore of all sources of a host below one directory, each from its newest snapshot.

Invariants
    No file of one source is replaced by another's: a snapshot that has different content at the same path as a newer
    one goes into a directory of its own.
    A source that fails does not keep the others from being restored.
"""

import os
import re
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from functools import partial
from itertools import chain

from msgspec import Struct

from drtool.errors import DrtoolError, NoSuchSnapshot
from drtool.events import Emit, ItemFailed, Warned
from drtool.manifest.records import Snapshot
from drtool.operations.inventories import recorded
from drtool.operations.recorded import clear_old_logs
from drtool.operations.restore import RestoreRequest, RestoreResult, restore
from drtool.operations.restore.request import RestoreError
from drtool.operations.restore.run import check_destination
from drtool.operations.selection import Narrowing, narrowed, select, source_of, source_words
from drtool.operations.snapshot_names import LATEST
from drtool.repository import Repository
from drtool.trees import Fetch, read_directory
from drtool.trees.compare import clashes

ASIDE = b"_sources"
"""Below the destination: the snapshots that have different content at the same paths as a newer one."""

How = Callable[..., RestoreRequest]
"""A restore request without its snapshot: the destination and the options."""

SQLITE_INVENTORY = b"/sqlite/inventory.json"

Check = Callable[[RestoreRequest, RestoreResult], list[RestoreError]]
"""Return the faults of a source that was just restored, in addition to those in its result."""


class Placed(Struct, frozen=True, kw_only=True):
    """A snapshot and its destination. `clash`: the path that kept it from going beside the others.

    `without_inventory`: a newer SQLite source beside it has an inventory at the same path, and this one's is left out.
    """

    snapshot: Snapshot
    to: bytes
    clash: str | None = None
    without_inventory: bool = False


class SourceRestored(Struct, frozen=True, kw_only=True):
    """One source.

    `database`: the kind, if the restored files are dumps of a database. `failed`: why nothing was restored.
    """

    snapshot: str
    time_ns: int
    host: str
    source: str
    paths: list[str]
    to: str
    clash: str | None
    database: str | None
    files: int = 0
    bytes: int = 0
    written_bytes: int = 0
    skipped: int = 0
    errors: list[RestoreError] = []
    attributes_not_set: int = 0
    failed: str | None = None
    exit_code: int = 0


class AllRestored(Struct, frozen=True, kw_only=True):
    """Sums over all sources, and each source, oldest first. `other_hosts`: hosts with snapshots that were not restored."""

    host: str
    to: str
    sources: list[SourceRestored]
    files: int
    bytes: int
    written_bytes: int
    skipped: int
    errors: list[RestoreError]
    attributes_not_set: int
    other_hosts: list[str]
    wall_seconds: float
    dry_run: bool
    tentative: bool = False


def host_meant(snapshots: Iterable[Snapshot], here: str, wanted: str | None) -> str:
    """Return the host to restore: the named one, else this host, else the only host that has snapshots.

    NoSuchSnapshot names the hosts that have snapshots.
    """
    hosts = sorted({row.host for row in snapshots})
    host = here if wanted is None else wanted
    if host in hosts:
        return host
    if wanted is None and len(hosts) == 1:
        return hosts[0]
    if not hosts:
        raise NoSuchSnapshot("there are no snapshots yet", hint="make one: drtool backup PATH")
    of_it = f"this host, {here}" if wanted is None else f"host {wanted}"
    raise NoSuchSnapshot(
        f"no snapshot is of {of_it}; there are snapshots of {', '.join(hosts)}", hint=f"name one: --host {hosts[0]}"
    )


def restore_words(host: str, hosts: Collection[str]) -> list[str]:
    """Return the words of the command that restores all of `host`. With several hosts, each gets its own directory."""
    directory = "restored" if len(set(hosts)) < 2 else f"restored-{_safe(host)}"
    return ["restore", "--all-sources", "--host", host, "--to", directory]


def newest_of_each(snapshots: Iterable[Snapshot], narrowing: Narrowing, now_ns: int, emit: Emit) -> list[Snapshot]:
    """Return the newest snapshot of each source, newest first.

    One dated in the future is used only if there is no other.
    """
    groups: dict[object, list[Snapshot]] = {}
    for row in narrowed(snapshots, narrowing):
        groups.setdefault(source_of(row), []).append(row)
    found = []
    for rows in groups.values():
        selected = select(rows, LATEST, now_ns=now_ns)
        for warning in selected.warnings:
            emit(Warned(message=f"{source_words(rows[-1])}: {warning}"))
        found.append(selected.snapshot)
    if not found:
        raise NoSuchSnapshot(f"no snapshot matches {narrowing}", hint="drtool snapshots shows what there is")
    return sorted(found, key=lambda row: (row.time_ns, row.sequence), reverse=True)


def placed(snapshots: Sequence[Snapshot], to: bytes, fetch: Fetch) -> list[Placed]:
    """Return the destination of each of `snapshots` (newest first). One that clashes with a newer one goes aside."""
    beside: list[Snapshot] = []
    found = []
    for row in snapshots:
        shared = list(chain.from_iterable(_clashes(row, other, fetch) for other in beside))
        clash = next((path for path in shared if path != SQLITE_INVENTORY), None)
        if clash is None:
            beside.append(row)
            found.append(Placed(snapshot=row, to=to, without_inventory=bool(shared)))
        else:
            aside = os.path.join(to, ASIDE, _directory_name(row))
            found.append(Placed(snapshot=row, to=aside, clash=os.fsdecode(clash)))
    return found


def _clashes(row: Snapshot, other: Snapshot, fetch: Fetch) -> Iterator[bytes]:
    """Yield the inventory's path, if both have one, and the first other path that clashes.

    A snapshot that cannot be read yields nothing here: its own restore reports the error.
    """
    try:
        if any(entry.name == ASIDE for entry in read_directory(row.root, fetch)):
            yield b"/" + ASIDE
        for path in clashes(other.root, row.root, fetch):
            yield path
            if path != SQLITE_INVENTORY:
                return
    except DrtoolError:
        return


def _directory_name(row: Snapshot) -> bytes:
    """Return a name such as `orders-3f2a1b2c`: unique to the snapshot, and valid on every file system."""
    return f"{_safe(row.source or 'paths')}-{row.id.hex()[:8]}".encode()


def _safe(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]", "_", name)[:64]


def restore_all(repository: Repository, rows: Sequence[Snapshot], how: How, check: Check, emit: Emit) -> AllRestored:
    """Restore the snapshots `rows` (newest first) below one directory."""
    started = time.monotonic()
    first = how(snapshot=rows[0])
    check_destination(first)
    plan = placed(rows, first.to, repository.trees)
    how = partial(how, overwrite=first.overwrite or "always")  # the directory may already hold other sources
    done = [_one(repository, each, _request(how, each), check, emit) for each in reversed(plan)]
    host = rows[0].host
    return AllRestored(
        host=host,
        to=os.fsdecode(first.to),
        sources=done,
        files=sum(row.files for row in done),
        bytes=sum(row.bytes for row in done),
        written_bytes=sum(row.written_bytes for row in done),
        skipped=sum(row.skipped for row in done),
        errors=[error for row in done for error in row.errors],
        attributes_not_set=sum(row.attributes_not_set for row in done),
        other_hosts=sorted({row.host for row in repository.view.state.snapshots} - {host}),
        wall_seconds=round(time.monotonic() - started, 3),
        dry_run=first.dry_run,
        tentative=repository.view.tentative,
    )


def _request(how: How, each: Placed) -> RestoreRequest:
    excludes = (os.fsdecode(SQLITE_INVENTORY),) if each.without_inventory else ()
    return how(snapshot=each.snapshot, to=each.to, excludes=excludes)


def _one(repository: Repository, each: Placed, request: RestoreRequest, check: Check, emit: Emit) -> SourceRestored:
    row = each.snapshot
    report = partial(
        SourceRestored,
        snapshot=row.id.hex(),
        time_ns=row.time_ns,
        host=row.host,
        source=row.source,
        paths=[os.fsdecode(path) for path in row.paths],
        to=os.fsdecode(each.to),
        clash=each.clash,
        database=_kind(repository, row),
    )
    try:
        for log in [] if request.dry_run else clear_old_logs(repository, request):
            emit(Warned(message=f"{log} of the old database was removed: it would be replayed into this one"))
        result = restore(repository, request, emit)
    except DrtoolError as error:
        emit(ItemFailed(path=source_words(row), message=error.message))
        return report(failed=error.message, exit_code=error.exit_code)
    errors = [*result.errors, *check(request, result)]
    return report(
        files=result.files,
        bytes=result.bytes,
        written_bytes=result.written_bytes,
        skipped=result.skipped,
        errors=errors,
        attributes_not_set=result.attributes_not_set,
        exit_code=3 if errors else 0,
    )


def _kind(repository: Repository, row: Snapshot) -> str | None:
    """Return the kind of database whose dumps the snapshot holds, or None if it holds none or cannot be read."""
    try:
        inventory = recorded(repository, row)
    except DrtoolError:
        return None
    return None if inventory is None or inventory.drtool == "sqlite" else inventory.drtool
