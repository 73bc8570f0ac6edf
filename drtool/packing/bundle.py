"""A bundle: small chunks gathered in one arena until they are large enough to compress together as one block.

Invariants
    A chunk of `LARGE_CHUNK_BYTES` or more never shares a block. A block holds at most `BLOCK_CHUNKS_MAX` chunks.
"""

from mmap import MAP_ANONYMOUS, MAP_PRIVATE, mmap

from drtool.model import Buffer, ChunkId

LARGE_CHUNK_BYTES = 512 * 1024
BUNDLE_BYTES = 1024 * 1024
BLOCK_CHUNKS_MAX = 16 * 1024


def lazy_buffer(size_bytes: int) -> memoryview:
    """Return zeros to write to. Unlike those of a bytearray they take no memory, and no time, before they are used."""
    return memoryview(mmap(-1, size_bytes, flags=MAP_PRIVATE | MAP_ANONYMOUS))


class Bundle:
    """The chunks of the next block. `text` is their concatenation."""

    def __init__(self) -> None:
        self._view = lazy_buffer(BUNDLE_BYTES + LARGE_CHUNK_BYTES)
        self._used_bytes = 0
        self.ids: list[ChunkId] = []
        self.lengths: list[int] = []

    def add(self, chunk: ChunkId, text: Buffer) -> None:
        """Copy a chunk smaller than `LARGE_CHUNK_BYTES` into the bundle."""
        if len(text) >= LARGE_CHUNK_BYTES or self.full:
            raise ValueError(f"a bundle with {self._used_bytes} bytes was given {len(text)} more")
        end = self._used_bytes + len(text)
        self._view[self._used_bytes : end] = text
        self._used_bytes = end
        self.ids.append(chunk)
        self.lengths.append(len(text))

    @property
    def full(self) -> bool:
        return self._used_bytes >= BUNDLE_BYTES or len(self.ids) >= BLOCK_CHUNKS_MAX

    @property
    def text(self) -> memoryview:
        return self._view[: self._used_bytes]

    def __len__(self) -> int:
        return len(self.ids)

    def clear(self) -> None:
        self._used_bytes = 0
        self.ids = []
        self.lengths = []
