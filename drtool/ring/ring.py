"""The ring: targets with weights and states at one epoch, as a value that the manifest stores.

Invariants
    A target's site is the first part of its name, and no two targets have the same name. Weights and copies are at
    least 1.
    Only active targets get new objects.
"""

from typing import Literal, TypeAlias

from msgspec import Struct

from drtool.model import SiteName, TargetName, site_of

TargetState: TypeAlias = Literal["active", "draining", "lost"]
"""active: holds and receives. draining: is being emptied. lost: is gone and holds nothing."""


class RingTarget(Struct, frozen=True, kw_only=True):
    """One place in the ring."""

    name: TargetName
    weight: int = 1
    state: TargetState = "active"

    def __post_init__(self) -> None:
        if self.weight < 1:
            raise ValueError(f"the weight of {self.name} is {self.weight}, but must be a whole number from 1 up")
        if not all(self.name.partition("/")):
            raise ValueError(f"{self.name!r} is not a target's name (SITE/NAME)")

    @property
    def site(self) -> SiteName:
        return site_of(self.name)


class Ring(Struct, frozen=True, kw_only=True):
    """The input of placement. `copies` is the number of distinct sites that hold each pack."""

    epoch: int
    copies: int
    targets: tuple[RingTarget, ...]

    def __post_init__(self) -> None:
        if self.copies < 1:
            raise ValueError(f"a ring needs 1 or more copies, not {self.copies}")
        if len({target.name for target in self.targets}) < len(self.targets):
            raise ValueError("two targets of the ring have the same name")

    @property
    def active(self) -> tuple[RingTarget, ...]:
        """Return the targets that may receive objects, by name."""
        return tuple(sorted((t for t in self.targets if t.state == "active"), key=lambda t: t.name))

    @property
    def sites(self) -> tuple[SiteName, ...]:
        """Return the sites that have an active target, by name."""
        return tuple(sorted({target.site for target in self.active}))

    def weight_of(self, site: SiteName) -> int:
        """Return the weight of a site: the sum over its active targets."""
        return sum(target.weight for target in self.targets if target.site == site and target.state == "active")
