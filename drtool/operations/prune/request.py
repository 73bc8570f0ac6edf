"""What a prune is asked to do, and its document."""

from msgspec import Struct

from drtool.model import SnapshotId
from drtool.operations.forget.request import Objection
from drtool.operations.prune.plan import UNUSED_SHARE
from drtool.operations.retention.rules import FORGET_GRACE_NS


class PruneRequest(Struct, frozen=True, kw_only=True):
    """`now_ns` decides which snapshots that other hosts forgot are past their grace. `yes`: also when much would go.

    `as_if_forgotten`: snapshots that the dry run of `forget` before this one would have forgotten.
    """

    now_ns: int
    unused_share: float = UNUSED_SHARE
    forget_grace_ns: int = FORGET_GRACE_NS
    session_grace_s: float = 3600.0
    yes: bool = False
    dry_run: bool = False
    names_items: bool = False
    """Of a dry run: emit an `item_changed` for each object that would be copied, removed, …."""
    as_if_forgotten: frozenset[SnapshotId] = frozenset()


class Amount(Struct, frozen=True):
    """Packs, and their bytes where they are stored, each counted once however many copies there are."""

    packs: int = 0
    bytes: int = 0

    def __add__(self, other: "Amount") -> "Amount":
        return Amount(self.packs + other.packs, self.bytes + other.bytes)


class Waiting(Struct, frozen=True):
    """Why something is pending."""

    reason: str
    packs: int = 0


class PruneResult(Struct, frozen=True, kw_only=True):
    """`removed`: deleted everywhere, the last of it by this run; `repacked`: rewritten; `kept`; `pending`: condemned, or not
    yet deleted everywhere. `objections` are a dry run's: each would have stopped the act."""

    removed: Amount
    repacked: Amount
    kept: Amount
    pending: Amount
    waiting: list[Waiting]
    dry_run: bool
    wall_seconds: float
    objections: list[Objection] = []
    lost: list[str] = []
    """Packs that snapshots need and of which no good copy is left or may be at a target that is away."""
    swept_files: int = 0
    """Temporary files that killed writers had left at the targets."""
