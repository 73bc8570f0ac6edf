"""The requests and results of a rebalance and its preview."""

from msgspec import Struct

from drtool.model import TargetName
from drtool.repository.copying import Amount


class RebalanceRequest(Struct, frozen=True, kw_only=True):
    workers: int = 2
    dry_run: bool = False
    names_items: bool = False
    """In a dry run: emit an `item_changed` for each object that would be copied, removed, …."""
    max_objects: int | None = None
    max_bytes: int | None = None
    """Refuse to do more than this."""


class PreviewRequest(Struct, frozen=True, kw_only=True):
    """Imagined changes of the ring. Without any, the ring stays as it is."""

    add: tuple[tuple[TargetName, int], ...] = ()
    weight: tuple[tuple[TargetName, int], ...] = ()
    drain: tuple[TargetName, ...] = ()
    remove: tuple[TargetName, ...] = ()
    workers: int = 2

    @property
    def imagines(self) -> bool:
        return bool(self.add or self.weight or self.drain or self.remove)


class Moves(Struct, frozen=True):
    """New copies. `fraction`: their bytes as a fraction of all copies afterwards."""

    objects: int
    bytes: int
    fraction: float


class Arriving(Struct, frozen=True):
    """The copies that one target gains and gives away."""

    target: TargetName
    gains: Amount
    gives: Amount


class Expectation(Struct, frozen=True):
    """The fraction of any amount of data that the change of the ring moves, and the least that any placement must move."""

    fraction: float
    minimum_fraction: float


class Away(Struct, frozen=True):
    target: TargetName
    reason: str


class RingPreview(Struct, frozen=True, kw_only=True):
    """The moves of a `rebalance`. `minimum_fraction`: what targets will have more than now, as a fraction of all bytes
    then.

    `from_epoch`: the ring that a rebalance last completed (1: none), or the present one for an imagined ring.
    `waiting`: objects that cannot be where the ring places them while the targets in `away` are unreachable.
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
    """The result of a rebalance. `rebuilt`: damaged copies that were replaced on the way. `removed`: surplus copies.

    `left`: objects that are not yet where the ring places them. `degraded`: some have fewer copies than promised.
    `stopped`: why surplus copies remain, for programs (`mover-open`, `ring-changed` or `expired`, empty if none
    remain).
    `why` and `hint` are the same for people.
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
