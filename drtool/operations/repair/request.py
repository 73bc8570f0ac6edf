"""What a repair is asked to do, and its document."""

from msgspec import Struct

from drtool.model import SiteName, TargetName
from drtool.repository.copying import Amount
from drtool.repository.losses import LossReport


class RepairRequest(Struct, frozen=True, kw_only=True):
    """`read_all`: read every copy whole first; otherwise sizes, and what verification found, are relied upon."""

    workers: int = 2
    read_all: bool = False
    dry_run: bool = False
    names_items: bool = False
    """Of a dry run: emit an `item_changed` for each object that would be copied, removed, …."""
    objects: frozenset[str] | None = None
    """Only these, by their names below a target."""
    site: SiteName | None = None
    """Only its copies."""
    max_objects: int | None = None
    max_bytes: int | None = None
    """Refused if more would have to be done."""


class Unrepairable(Struct, frozen=True):
    """An object of which no good copy was found; `perhaps` names targets that are away and may have one."""

    object: str
    perhaps: list[TargetName]


class Away(Struct, frozen=True):
    target: TargetName
    reason: str


class RepairResult(Struct, frozen=True, kw_only=True):
    """`copied`: new copies; `rebuilt`: damaged ones replaced; `removed`: copies that were one too many.

    `stopped`: why copies that are one too many are still there, for programs (`mover-open`, `ring-changed` or `expired`, empty
    if none are); `why` and `hint`: for people.
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
    """What no good copy is left of, and what may bring it back."""
    stopped: str = ""
    why: str = ""
    hint: str = ""
