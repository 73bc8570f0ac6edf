"""MySQL and MariaDB: every database of a server as SQL, put back into an empty server, and proven."""

from drtool.sources.mysql.capture import KIND, MysqlSource

__all__ = ["KIND", "MysqlSource"]
