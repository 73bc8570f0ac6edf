"""Chunks of zeros, with which holes of files are neither read nor written."""

from blake3 import blake3

from drtool.model import ChunkId


class ZeroIds:
    """The ids of chunks of so many zeros, each computed once."""

    __slots__ = ("_ids", "_key")

    def __init__(self, id_key: bytes) -> None:
        self._key = id_key
        self._ids: dict[int, ChunkId] = {}

    def __call__(self, size_bytes: int) -> ChunkId:
        found = self._ids.get(size_bytes)
        if found is None:
            found = self._ids[size_bytes] = ChunkId(blake3(bytes(size_bytes), key=self._key).digest())
        return found
