"""The check that a source did not lose so much since its last snapshot that a person should look before it is stored.

A server that started without its volume, or a file system that is not mounted, is backed up without any error. Its
snapshot would be the newest one, meet the objectives, and push good snapshots out by the rules of `forget`.

Invariants
    Pure, except for reading the inventory of the last snapshot. Small sources are judged only if nothing is left.
    Rows of a database are compared if they were counted both times. Files and bytes are always compared.
    A snapshot with missing parts does not hide the content of the previous one.
"""

from collections.abc import Sequence
from contextlib import suppress

from msgspec import Struct
from msgspec.structs import replace

from drtool.errors import DrtoolError
from drtool.manifest.records import Snapshot
from drtool.operations.backup.request import SourceJob
from drtool.operations.inventories import recorded
from drtool.repository import Repository
from drtool.sources.inventory import Inventory

FEW_FILES, FEW_ROWS, FEW_BYTES = 100, 100, 10 * 1024 * 1024
"""Below these a share means nothing: one rotated log may be most of a small source."""


class Shrunk(DrtoolError):
    """Most of the source is gone, so nothing was stored."""

    exit_code = 3


class Amount(Struct, frozen=True, kw_only=True):
    """The size of a snapshot. `rows`: of all tables, or None if they were not counted."""

    files: int
    bytes: int
    rows: int | None = None


def shrinkage(before: Amount, now: Amount, most: float) -> str:
    """Return what was lost, in words that follow the source's name, if it is more than the share `most`, or an empty
    string.
    """
    if before.rows is not None and now.rows is not None:
        lost = _lost(before.rows, now.rows, FEW_ROWS, most)
        if lost:
            return f"had {_count(before.rows, 'row')} and has {_count(now.rows, 'row')}"
    if _lost(before.files, now.files, FEW_FILES, most):
        return f"had {_count(before.files, 'file')} and has {_count(now.files, 'file')}"
    if before.bytes >= FEW_BYTES and now.bytes < before.bytes * (1 - most):
        return f"had {_count(before.bytes, 'byte')} and has {_count(now.bytes, 'byte')}"
    return ""


def _lost(before: int, now: int, few: int, most: float) -> bool:
    return bool(before) and (now == 0 or (before >= few and now < before * (1 - most)))


def _count(number: int, unit: str) -> str:
    return f"{number:,} {unit}{'' if number == 1 else 's'}" if number else f"no {unit}s"


def rows_of(before: Sequence[Inventory], now: Inventory) -> tuple[int, int] | None:
    """Return the rows then and now, of the tables that were counted then and about which something is known now.

    `before`: newest first. The missing parts of an incomplete snapshot are taken from the previous one.
    A table that is gone has no rows, unless the backup was incomplete. None if nothing can be compared.
    """
    then = {table: count for each in reversed(before) for table, count in _counts(each).items()}
    here = _counts(now)
    uncounted = {database.name for database in now.databases if database.rows is None}
    pairs = []
    for (database, table), count in then.items():
        known = here.get((database, table), None if now.missing or database in uncounted else 0)
        if count is not None and known is not None:
            pairs.append((count, known))
    return (sum(count for count, _ in pairs), sum(count for _, count in pairs)) if pairs else None


def _counts(inventory: Inventory) -> dict[tuple[str, str], int | None]:
    return {
        (database.name, table): count
        for database in inventory.databases
        for table, count in (database.rows or {}).items()
    }


def check(
    repository: Repository, job: SourceJob, parent: Snapshot | None, now: Amount, found: Inventory | None
) -> None:
    """Raise Shrunk if a named source lost more than it may since `parent`. `found`: the inventory of a database now."""
    if parent is None or not job.name or job.max_shrink is None:
        return
    before = Amount(files=parent.counts.files, bytes=parent.counts.bytes)
    if found is not None:
        whole = _newest_whole(repository, parent)
        if found.missing:  # failed dumps are already reported
            before = replace(before, files=now.files, bytes=now.bytes)
        elif whole is not None:
            before = Amount(files=max(before.files, whole.counts.files), bytes=max(before.bytes, whole.counts.bytes))
        with suppress(DrtoolError):  # a damaged parent is reported elsewhere, and files and bytes are still compared
            then = [row for each in (parent, whole) if each is not None and (row := recorded(repository, each))]
            rows = rows_of(then, found)
            if rows is not None:
                before, now = replace(before, rows=rows[0]), replace(now, rows=rows[1])
    lost = shrinkage(before, now, job.max_shrink)
    if lost:
        raise Shrunk(
            f"source {job.name} {lost}, so nothing was stored. If this is right, store it once with --accept-shrink",
            hint="is something not mounted, or is this another server?",
        )


def _newest_whole(repository: Repository, parent: Snapshot) -> Snapshot | None:
    """Return the newest snapshot with no missing parts before an incomplete one, or None if `parent` is complete."""
    if not parent.counts.errors:
        return None
    rows = (
        row
        for row in repository.view.state.snapshots
        if row.host == parent.host
        and row.source == parent.source
        and row.sequence < parent.sequence
        and not row.counts.errors
    )
    return max(rows, key=lambda row: row.sequence, default=None)
