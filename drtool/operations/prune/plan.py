"""The choice of packs to remove and to rewrite. Pure.

A pack without live text is removed. Of the others, the emptiest are rewritten until unused data is at most
`unused_share` of the stored data. Rewriting a pack that is nearly full of live text would cost much and free little.
"""

from collections.abc import Iterable

from msgspec import Struct

from drtool.model import PackId

UNUSED_SHARE = 0.10


class PackUse(Struct, frozen=True):
    """A pack: its stored size, the text in it without padding, and the live part of that text. All in bytes."""

    pack: PackId
    size_bytes: int
    text_bytes: int
    live_bytes: int

    @property
    def unused_bytes(self) -> int:
        """Return the wasted part of its size, in proportion to its text."""
        return self.size_bytes * max(0, self.text_bytes - self.live_bytes) // max(1, self.text_bytes)


class PrunePlan(Struct, frozen=True):
    """The decision for each pack."""

    remove: tuple[PackUse, ...]
    rewrite: tuple[PackUse, ...]
    keep: tuple[PackUse, ...]


def plan(uses: Iterable[PackUse], unused_share: float = UNUSED_SHARE) -> PrunePlan:
    """Remove dead packs, and rewrite the emptiest others until little enough is unused."""
    remove: list[PackUse] = []
    rest: list[PackUse] = []
    for use in uses:
        (rest if use.live_bytes else remove).append(use)
    rest.sort(key=lambda use: (use.live_bytes / max(1, use.text_bytes), use.pack))
    unused = sum(use.unused_bytes for use in rest)
    stored = sum(use.size_bytes for use in rest)
    rewrite = []
    for use in rest:
        if unused <= unused_share * stored or not use.unused_bytes:
            break
        rewrite.append(use)
        unused -= use.unused_bytes
        stored -= use.unused_bytes
    return PrunePlan(tuple(remove), tuple(rewrite), tuple(rest[len(rewrite) :]))
