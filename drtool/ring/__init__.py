"""Pure placement: a weighted consistent-hash ring with failure domains."""

from drtool.ring.placement import METADATA_SITES, Placement
from drtool.ring.ring import Ring, RingTarget, TargetState

__all__ = ["METADATA_SITES", "Placement", "Ring", "RingTarget", "TargetState"]
