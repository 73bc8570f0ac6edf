"""Redis: a server's data as the RDB that it sends to its replicas, put back into an empty server, and counted."""

from drtool.sources.redis.capture import KIND, RedisSource

__all__ = ["KIND", "RedisSource"]
