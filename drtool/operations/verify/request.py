"""What a verification is asked to look at, and its document."""

from typing import Literal

from msgspec import Struct

from drtool.manifest.records import Snapshot
from drtool.model import TargetName

Level = Literal["structure", "full"]


class VerifyRequest(Struct, frozen=True, kw_only=True):
    level: Level = "structure"
    site: str | None = None
    snapshot: Snapshot | None = None
    workers: int = 2


class Missing(Struct, frozen=True):
    target: TargetName
    object: str


class Damaged(Struct, frozen=True):
    target: TargetName
    object: str
    reason: str


class Affected(Struct, frozen=True):
    """A path of a snapshot that cannot be restored from what was found."""

    snapshot: str
    path: str


class Checked(Struct, frozen=True):
    packs: int
    bytes: int


class OfflineTarget(Struct, frozen=True):
    target: TargetName
    reason: str


class Bound(Struct, frozen=True):
    """At 95 % confidence at most this fraction of the objects is bad; None where nothing was read."""

    bad_fraction: float | None


class VerifyResult(Struct, frozen=True, kw_only=True):
    """`degraded`: some object is on fewer sites than promised, counting only what was found whole."""

    level: str
    checked: Checked
    missing: list[Missing]
    damaged: list[Damaged]
    affected: list[Affected]
    repaired: list[Missing] = []
    unrepairable: list[Missing]
    bound_95: Bound
    wall_seconds: float
    offline: list[OfflineTarget]
    misplaced: int
    """Objects with all their copies, but not all where the ring wants them."""
    owed: int
    """Trees and index segments that a site should have as well, beyond the promised copies."""
    unreferenced: Checked
    """Packs that no live segment names: left by runs that died; prune removes them."""
    degraded: bool
    tentative: bool = False
