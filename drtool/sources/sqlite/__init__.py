"""SQLite databases: copied by SQLite's backup API, and restored without stale logs beside them."""

from drtool.sources.sqlite.capture import KIND, SqliteSource
from drtool.sources.sqlite.looking import describe
from drtool.sources.sqlite.putback import clear_stale, stale_beside

__all__ = ["KIND", "SqliteSource", "clear_stale", "describe", "stale_beside"]
