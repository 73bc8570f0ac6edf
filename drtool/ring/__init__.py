"""Pure placement: a weighted consistent-hash ring with virtual nodes, failure domains and preference lists.

`ring` is the value in the manifest, `placement` computes where an object belongs, `reach` makes shares follow weights,
and `shares` measures them and the moves of a change. `docs/ring.md` explains the construction.
"""

from drtool.ring.placement import METADATA_SITES, Placement
from drtool.ring.ring import Ring, RingTarget, TargetState
from drtool.ring.shares import Movement, expected_shares, movement, shares

__all__ = [
    "METADATA_SITES",
    "Movement",
    "Placement",
    "Ring",
    "RingTarget",
    "TargetState",
    "expected_shares",
    "movement",
    "shares",
]
