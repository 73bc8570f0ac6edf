"""Where the files of a database snapshot are restored, and which leftovers of an old database must be removed there."""

import os
from pathlib import Path

from drtool.errors import DrtoolError
from drtool.operations.inventories import recorded
from drtool.operations.restore import RestoreRequest
from drtool.operations.restore.select import Selection, Verdict
from drtool.repository import Repository
from drtool.sources.sqlite import clear_stale
from drtool.trees import Entry, FileType, split_path


def clear_old_logs(repository: Repository, request: RestoreRequest) -> list[Path]:
    """Remove the `-wal`, `-shm` and `-journal` of an old SQLite database that is about to be replaced.

    Return what was removed.
    """
    if request.overwrite == "never" or (request.overwrite is None and not request.delete):
        return []
    try:
        inventory = recorded(repository, request.snapshot)
    except DrtoolError:
        return []  # it cannot be read, so its kind is unknown. The restore itself reports the loss
    if inventory is None or inventory.drtool != "sqlite":
        return []
    places = [_place(request, database.dump) for database in inventory.databases]
    return [gone for place in places if place is not None for gone in clear_stale(place)]


def _place(request: RestoreRequest, dump: str) -> Path | None:
    """Return the destination of a file of the snapshot, or None if it is left out."""
    parts = split_path(os.fsencode(dump))
    above = split_path(request.path or b"")
    if above == parts:
        inner = parts[-1:]
    elif parts[: len(above)] == above:
        inner = parts[len(above) :]
    else:
        return None
    if not _selected(request, inner):
        return None
    return Path(os.fsdecode(os.path.join(request.to, *inner)))


def _selected(request: RestoreRequest, parts: list[bytes]) -> bool:
    selection = Selection(request.includes, request.excludes)
    taken, verdict = False, Verdict(take=True, enter=True)
    for depth, name in enumerate(parts):
        kind = FileType.FILE if depth == len(parts) - 1 else FileType.DIRECTORY
        entry = Entry(name=name, type=kind, mode=0, uid=0, gid=0)
        verdict = selection.judge(tuple(parts[:depth]), entry, inherited=taken)
        if not verdict.take and not verdict.enter:
            return False
        taken = verdict.take and bool(request.includes)
    return verdict.take
