"""A voter's register in the midst of a move: the life that ends lies at the old address, the one that begins at the new one.

Invariants
    At the new address nothing is left of the registers that were copied along before the new life begins.
    Pages of the catalogue go to both addresses: the register that ends accepts a last head at the old one, and if the move
    comes to nothing, that site must still tell this head alone.
"""

from collections.abc import Iterator
from heapq import merge

from drtool.manifest.names import ACCEPTORS, OBJECTS, life_of
from drtool.manifest.ports import SitePort, TaggedBytes
from drtool.model import ObjectInfo


def drop_stale_registers(copy: SitePort, until: tuple[int, int]) -> None:
    """Deletes the registers that were copied along, up to the configuration `until`: they miss what came afterwards."""
    for row in list(copy.list(ACCEPTORS)):
        life = life_of(row.name)
        if life is not None and (life.generation, life.number) <= until:
            copy.delete(row.name)


class MovedRegister:
    """Names below `ended`, the configuration that ends, are at `old`; pages are at both; all others are at `new`."""

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
