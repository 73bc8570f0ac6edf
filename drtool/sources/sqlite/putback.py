"""Putting a SQLite database back over one that was there: what would be replayed into it must go first.

Invariants
    A `-wal` or `-journal` of the old database is applied to whatever file it finds beside itself, and ruins it: none is left when
    the restored file is there.
"""

from pathlib import Path

from drtool.errors import DrtoolError

_ENDINGS = ("-wal", "-shm", "-journal")


def stale_beside(database: Path) -> list[Path]:
    """What of an old database lies beside the place of a new one."""
    return [path for end in _ENDINGS if (path := database.with_name(database.name + end)).is_file()]


def clear_stale(database: Path) -> list[Path]:
    """Removes it; what was removed. Raises DrtoolError: then the database must not be put there."""
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
