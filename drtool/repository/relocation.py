"""A voter's register during a move: the old incarnation is at the old address, and the new one at the new address.

Invariants
    At the new address the registers that were copied along are deleted before the new incarnation begins.
    Pages of the catalogue go to both addresses. The old register accepts a last head, and if the move fails, that site
    must be able to present this head alone.
"""

from collections.abc import Iterator
from heapq import merge

from drtool.manifest.names import ACCEPTORS, OBJECTS, life_of
from drtool.manifest.ports import SitePort, TaggedBytes
from drtool.model import ObjectInfo


def drop_stale_registers(copy: SitePort, until: tuple[int, int]) -> None:
    """Delete the registers that were copied along, up to configuration `until`, since they miss later changes."""
    for row in list(copy.list(ACCEPTORS)):
        life = life_of(row.name)
        if life is not None and (life.generation, life.number) <= until:
            copy.delete(row.name)


class MovedRegister:
    """Names below `ended`, the ending configuration, are at `old`. Pages are at both, and all others at `new`."""

    def __init__(self, old: SitePort, new: SitePort, ended: str) -> None:
        self._old, self._new, self._ended = old, new, ended

    def list(self, prefix: str = "", start_after: str = "") -> Iterator[ObjectInfo]:
        if prefix.startswith(self._ended):
            return self._old.list(prefix, start_after)
        there = (row for row in self._new.list(prefix, start_after) if not row.name.startswith(self._ended))
        if prefix.startswith(OBJECTS):
            held = {row.name for row in self._old.list(prefix, start_after)}
            return (row for row in there if row.name in held)
        if not self._ended.startswith(prefix):
            return there
        ending = (row for row in self._old.list(self._ended) if row.name > start_after)
        return merge(ending, there, key=lambda row: row.name)

    def get(self, name: str, start: int = 0, length: int | None = None) -> bytes:
        return self._of(name).get(name, start, length)

    def read_tagged(self, name: str) -> TaggedBytes | None:
        return self._of(name).read_tagged(name)

    def put(self, name: str, data: bytes) -> None:
        self._of(name).put(name, data)
        if name.startswith(OBJECTS):
            self._old.put(name, data)

    def put_if_absent(self, name: str, data: bytes) -> bool:
        return self._of(name).put_if_absent(name, data)

    def compare_and_swap(self, name: str, data: bytes, expected_tag: str | None) -> str | None:
        return self._of(name).compare_and_swap(name, data, expected_tag)

    def delete(self, name: str) -> None:
        self._of(name).delete(name)

    def _of(self, name: str) -> SitePort:
        return self._old if name.startswith(self._ended) else self._new
