"""The capture of a Redis server as one RDB file, with the number of its keys.

Invariants
    The RDB is the one that the server sends to a replica: of one moment, through a pipe. An incomplete one is not stored.
    A count is recorded only for a database with equally many keys before and after.
"""

from collections.abc import Generator

from drtool.sources.children import program
from drtool.sources.inventory import NAME, Database, Inventory
from drtool.sources.port import Around, Foreseen, Foresight, VirtualFile, from_bytes
from drtool.sources.redis.client import Client, connection_options

KIND = "redis"
DUMP = b"/redis/dump.rdb"


class RedisSource:
    """An implementation of `port.Source`."""

    kind = KIND
    again = True
    paths = (b"/redis",)

    def __init__(self, dsn: str) -> None:
        """Raise ValueError for an invalid DSN."""
        connection_options(dsn)
        self._dsn = dsn

    def _client(self, around: Around) -> Client:
        program("redis-cli", around.environ)
        return Client(self._dsn, around.environ)

    def foresee(self, around: Around) -> Foresight:
        client = self._client(around)
        keys = ", ".join(f"{name} {count} keys" for name, count in client.keys().items()) or "no keys"
        facts = (f"Redis {client.version()} at {client.told}: {keys}",)
        return Foresight((Foreseen(DUMP), Foreseen(b"/redis/" + NAME.encode())), facts)

    def files(self, around: Around) -> Generator[VirtualFile, None, None]:
        client = self._client(around)
        version, before = client.version(), client.keys()
        yield VirtualFile(path=DUMP, opened=client.piped)
        after = client.keys()
        steady = {name: count if after.get(name) == count else None for name, count in before.items()}
        row = Database(name="redis", dump=DUMP.decode(), rows=steady)
        yield from_bytes(
            b"/redis/" + NAME.encode(), Inventory(drtool=KIND, server_version=version, databases=(row,)).encoded()
        )
