"""What a rebalance or a preview of one is asked to do, and their documents."""

from msgspec import Struct

from drtool.model import TargetName
from drtool.repository.copying import Amount


class RebalanceRequest(Struct, frozen=True, kw_only=True):
    workers: int = 2
    dry_run: bool = False
    names_items: bool = False
    """Of a dry run: emit an `item_changed` for each object that would be copied, removed, …."""
    max_objects: int | None = None
    max_bytes: int | None = None
    """Refused if more would have to be done."""


class PreviewRequest(Struct, frozen=True, kw_only=True):
    """Changes of the ring to imagine; none: the ring as it is."""

    add: tuple[tuple[TargetName, int], ...] = ()
    weight: tuple[tuple[TargetName, int], ...] = ()
    drain: tuple[TargetName, ...] = ()
    remove: tuple[TargetName, ...] = ()
    workers: int = 2

    @property
    def imagines(self) -> bool:
        return bool(self.add or self.weight or self.drain or self.remove)


class Moves(Struct, frozen=True):
    """New copies; `fraction`: their bytes, of those of all copies that there are afterwards."""

    objects: int
    bytes: int
    fraction: float


class Arriving(Struct, frozen=True):
    """What one target gets, and what it gives away."""

    target: TargetName
    gains: Amount
    gives: Amount


class Expectation(Struct, frozen=True):
    """What the change of the ring moves of any amount of data, and what every placement would have to."""

    fraction: float
    minimum_fraction: float


class Away(Struct, frozen=True):
    target: TargetName
    reason: str


class RingPreview(Struct, frozen=True, kw_only=True):
    """What `rebalance` would move. `minimum_fraction`: what targets will have more than now, of all that is there then.

    `from_epoch`: the ring that a rebalance last brought everything to (1: none has); of an imagined ring, the present one.
    `waiting`: objects that cannot be where the ring wants them while the targets in `away` are.
    """

    from_epoch: int
    to_epoch: int
    moves: Moves
    minimum_fraction: float
    removed: Amount
    targets: list[Arriving]
    waiting: int
    away: list[Away]
    expected: Expectation | None = None


class RebalanceResult(Struct, frozen=True, kw_only=True):
    """What was moved. `rebuilt`: damaged copies that were replaced on the way; `removed`: copies that were one too many.

    `left`: objects that are not where the ring wants them yet; `degraded`: some have fewer copies than promised.
    `stopped`: why copies that are one too many are still there, for programs (`mover-open`, `ring-changed` or `expired`, empty
    if none are); `why` and `hint`: for people.
    """

    from_epoch: int
    to_epoch: int
    moves: Moves
    minimum_fraction: float
    rebuilt: Amount
    removed: Amount
    left: int
    lost: list[str]
    degraded: bool
    away: list[Away]
    dry_run: bool
    wall_seconds: float
    stopped: str = ""
    why: str = ""
    hint: str = ""
