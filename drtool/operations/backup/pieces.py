"""The pieces of large contents, which the workers store and return in any order."""

from collections.abc import Sequence
from typing import overload

from drtool.model import ChunkId
from drtool.operations.backup.builder import Node
from drtool.operations.backup.messages import FileRead

_ID_BYTES = 32


class _Ids(Sequence[ChunkId]):
    """Many ids in one byte string, since a sparse file may have millions."""

    def __init__(self, joined: bytes) -> None:
        self._joined = joined

    def __len__(self) -> int:
        return len(self._joined) // _ID_BYTES

    @overload
    def __getitem__(self, index: int) -> ChunkId: ...
    @overload
    def __getitem__(self, index: slice) -> list[ChunkId]: ...
    def __getitem__(self, index: int | slice) -> ChunkId | list[ChunkId]:
        if isinstance(index, slice):
            return [self[at] for at in range(*index.indices(len(self)))]
        if not -len(self) <= index < len(self):
            raise IndexError(index)
        at = index % len(self) * _ID_BYTES
        return ChunkId(self._joined[at : at + _ID_BYTES])


class Pieces:
    """The chunks of a large content as they come back, in any order."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._repeats: dict[int, int] = {}
        self.missing = 0
        self.last_bytes = 0
        """The length of the last chunk."""

    def restart(self, ids: bytes = b"") -> None:
        """Replace the result of the passes so far, when all pieces have come back."""
        self._parts = [ids] if ids else []
        self._repeats.clear()

    def expect(self, repeats: int = 1) -> int:
        """Return the number of the next piece, whose ids are repeated so many times."""
        self._parts.append(b"")
        self.missing += 1
        part = len(self._parts) - 1
        if repeats > 1:
            self._repeats[part] = repeats
        return part

    def came(self, part: int, ids: bytes) -> None:
        self._parts[part] = ids * self._repeats.get(part, 1)
        self.missing -= 1

    def joined(self) -> bytes:
        """Return the concatenated ids."""
        return b"".join(self._parts)

    def ids(self) -> Sequence[ChunkId]:
        return _Ids(self.joined())


class LargeFile(Pieces):
    """The pieces of a file of the walk. `read` is set when its last piece was handed over."""

    def __init__(self, node: Node, index: int, unread_bytes: int) -> None:
        super().__init__()
        self.unread_bytes = unread_bytes
        self.node = node
        self.index = index
        self.read: FileRead | None = None

    def read_more(self, size_bytes: int) -> int:
        """Count bytes as read. Return how many of them were unread: a second pass reads nothing new."""
        more_bytes = min(size_bytes, self.unread_bytes)
        self.unread_bytes -= more_bytes
        return more_bytes


def begins_with(longer: bytes, shorter: bytes) -> bool:
    """Return whether one content's chunks begin with another's, except for its last one, which ends with the content."""
    return longer.startswith(shorter[:-_ID_BYTES])
