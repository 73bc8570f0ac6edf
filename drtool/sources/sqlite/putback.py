"""Restoring a SQLite database over an existing one. Logs that would be replayed into it must be removed first.

Invariants
    SQLite applies a `-wal` or `-journal` of the old database to any file beside it, which corrupts it. None is left when the
    restored file is there.
"""

from pathlib import Path

from drtool.errors import DrtoolError

_ENDINGS = ("-wal", "-shm", "-journal")


def stale_beside(database: Path) -> list[Path]:
    """Return the logs of an old database at the destination of a new one."""
    return [path for end in _ENDINGS if (path := database.with_name(database.name + end)).is_file()]


def clear_stale(database: Path) -> list[Path]:
    """Remove stale logs and return them. After a DrtoolError the database must not be restored there."""
    stale = stale_beside(database)
    for path in stale:
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            raise DrtoolError(
                f"{path} of the old database cannot be removed: {error.strerror}",
                hint="remove it before anything opens the database: it would be replayed into the restored one",
            ) from None
    return stale
