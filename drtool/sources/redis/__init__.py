"""Redis: the RDB that a server sends to its replicas, restored into an empty server, with counted keys."""

from drtool.sources.redis.capture import KIND, RedisSource

__all__ = ["KIND", "RedisSource"]
