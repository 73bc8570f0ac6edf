"""The request and the result of `prune`."""

from msgspec import Struct

from drtool.model import SnapshotId
from drtool.operations.forget.request import Objection
from drtool.operations.prune.plan import UNUSED_SHARE
from drtool.operations.retention.rules import FORGET_GRACE_NS


class PruneRequest(Struct, frozen=True, kw_only=True):
    """`now_ns` decides which snapshots that other hosts forgot are past their grace. `yes`: remove even a large share.

    `as_if_forgotten`: snapshots that the preceding dry run of `forget` would have forgotten.
    """

    now_ns: int
    unused_share: float = UNUSED_SHARE
    forget_grace_ns: int = FORGET_GRACE_NS
    session_grace_s: float = 3600.0
    yes: bool = False
    dry_run: bool = False
    names_items: bool = False
    """In a dry run: emit an `item_changed` for each object that would be copied, removed, …."""
    as_if_forgotten: frozenset[SnapshotId] = frozenset()


class Amount(Struct, frozen=True):
    """Packs and their stored bytes. Each pack counts once, regardless of its number of copies."""

    packs: int = 0
    bytes: int = 0

    def __add__(self, other: "Amount") -> "Amount":
        return Amount(self.packs + other.packs, self.bytes + other.bytes)


class Waiting(Struct, frozen=True):
    """Why packs are pending."""

    reason: str
    packs: int = 0


class PruneResult(Struct, frozen=True, kw_only=True):
    """The result. `removed`: deleted everywhere, the last copies by this run. `repacked`: rewritten.

    `pending`: condemned, or not yet deleted everywhere. `objections`: in a dry run, each would have stopped the real
    run.
    """

    removed: Amount
    repacked: Amount
    kept: Amount
    pending: Amount
    waiting: list[Waiting]
    dry_run: bool
    wall_seconds: float
    objections: list[Objection] = []
    lost: list[str] = []
    """Packs that snapshots need and that have no good copy, nor may have one at an unreachable target."""
    swept_files: int = 0
    """Temporary files of killed writers that were removed at the targets."""
