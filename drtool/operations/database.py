"""Restore of a snapshot's databases into a running server, compared afterwards with the recorded inventory.

Invariants
    An existing database that is not empty is never touched. A database that could not be restored, or that differs from
    the record afterwards, is an error.
    The dumps are staged in a private directory. Its free space is checked first, and it is removed afterwards.
"""

import os
import time
from collections.abc import Mapping

from msgspec import Struct

from drtool.errors import DrtoolError
from drtool.events import Emit, Stage, Warned
from drtool.manifest.records import Snapshot
from drtool.operations.inventories import recorded
from drtool.operations.restore import RestoreRequest, restore
from drtool.operations.restore.request import RestoreError
from drtool.repository import Repository
from drtool.sources.databases import NO_ACCESS, Access, Target, engine_of, nobody_watches, selected, unproven
from drtool.sources.inventory import Database, Inventory
from drtool.sources.staging import staged

_WHAT = ("rowcount", "schema")


class DatabaseRequest(Struct, frozen=True, kw_only=True):
    snapshot: Snapshot
    dsn: str
    databases: tuple[str, ...] = ()
    """Empty: all databases."""
    from_sites: tuple[str, ...] = ()
    environ: Mapping[str, str] = {}
    access: Access = NO_ACCESS
    """How the source of the snapshot reaches its server, if that source is configured on this host."""
    dry_run: bool = False
    workers: int = 2


class DatabaseResult(Struct, frozen=True, kw_only=True):
    """`errors`: differences from the record. `compared`: the aspects that were compared."""

    snapshot: str
    engine: str
    server_version: str
    databases: list[str]
    bytes: int
    compared: list[str]
    errors: list[RestoreError]
    wall_seconds: float
    tentative: bool = False


def restore_database(repository: Repository, request: DatabaseRequest, emit: Emit) -> DatabaseResult:
    """Restore the databases of a snapshot into a server.

    DrtoolError: no database, a program or the server is missing, or a dump does not load. Refused: a database is not
    empty.
    """
    started = time.monotonic()
    inventory = recorded(repository, request.snapshot)
    if inventory is None:
        raise DrtoolError(
            f"snapshot {request.snapshot.id.hex()[:8]} is not of a database", hint="restore its files with --to DIR"
        )
    engine = engine_of(inventory.drtool)
    lacking = engine.lacks(request.environ, inventory, scratch=False)
    if lacking:
        raise DrtoolError(lacking)
    chosen = selected(inventory, request.databases)
    target = engine.connect(request.dsn, request.environ, nobody_watches, request.access)
    what = [each for each in _WHAT if not unproven(chosen, (each,))]
    try:
        target.check(chosen)
        errors = [] if request.dry_run else _loaded(repository, request, inventory, target, what, emit)
    finally:
        for left in target.stop():
            emit(Warned(message=left))
    return DatabaseResult(
        snapshot=request.snapshot.id.hex(),
        engine=inventory.drtool,
        server_version=target.version,
        databases=[database.name for database in chosen],
        bytes=request.snapshot.counts.bytes,
        compared=what,
        errors=errors,
        wall_seconds=round(time.monotonic() - started, 3),
        tentative=repository.view.tentative,
    )


def _loaded(
    repository: Repository,
    request: DatabaseRequest,
    inventory: Inventory,
    target: Target,
    what: list[str],
    emit: Emit,
) -> list[RestoreError]:
    """Stage the dumps, load them, compare, and return the differences."""
    with staged(repository.spec.state_dir, request.snapshot.counts.bytes) as room:
        files = room / "files"
        wanted = RestoreRequest(
            snapshot=request.snapshot,
            to=os.fsencode(files),
            from_sites=request.from_sites,
            workers=request.workers,
        )
        restored = restore(repository, wanted, emit)
        if restored.errors:
            first = restored.errors[0]
            raise DrtoolError(
                f"{len(restored.errors)} files of the snapshot could not be restored: {first.path}: {first.message}"
            )
        emit(Stage(name="loading"))
        chosen: list[Database] = target.put_back(
            inventory, files, request.databases, lambda text: emit(Warned(message=text))
        )
        emit(Stage(name="comparing"))
        found = target.differences(chosen, files, what)
    return [RestoreError(difference.where, difference.detail) for difference in (*target.problems, *found)]
