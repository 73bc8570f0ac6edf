"""PostgreSQL: every database of a server as dumps of one moment each, put back into an empty server, and proven."""

from drtool.sources.postgresql.capture import KIND, PostgresqlSource
from drtool.sources.postgresql.client import Client

__all__ = ["KIND", "Client", "PostgresqlSource"]
