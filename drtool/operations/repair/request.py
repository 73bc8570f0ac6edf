"""The request and the result of `repair`."""

from msgspec import Struct

from drtool.model import SiteName, TargetName
from drtool.repository.copying import Amount
from drtool.repository.losses import LossReport


class RepairRequest(Struct, frozen=True, kw_only=True):
    """`read_all`: read every copy whole first. Otherwise sizes and the findings of verification are relied upon."""

    workers: int = 2
    read_all: bool = False
    dry_run: bool = False
    names_items: bool = False
    """In a dry run: emit an `item_changed` for each object that would be copied, removed, …."""
    objects: frozenset[str] | None = None
    """Only these objects, by their names below a target."""
    site: SiteName | None = None
    """Only the copies of this site."""
    max_objects: int | None = None
    max_bytes: int | None = None
    """Refuse to do more than this."""


class Unrepairable(Struct, frozen=True):
    """An object without a good copy. `perhaps`: unreachable targets that may have one."""

    object: str
    perhaps: list[TargetName]


class Away(Struct, frozen=True):
    target: TargetName
    reason: str


class RepairResult(Struct, frozen=True, kw_only=True):
    """`copied`: new copies. `rebuilt`: replaced damaged copies. `removed`: surplus copies.

    `stopped`: why surplus copies remain, for programs (`mover-open`, `ring-changed` or `expired`, empty if none
    remain).
    `why` and `hint` are the same for people.
    """

    copied: Amount
    rebuilt: Amount
    removed: Amount
    unrepairable: list[Unrepairable]
    away: list[Away]
    degraded: bool
    manifest: list[str]
    dry_run: bool
    wall_seconds: float
    lost: LossReport = LossReport()
    """The data without a good copy, and what may bring it back."""
    stopped: str = ""
    why: str = ""
    hint: str = ""
