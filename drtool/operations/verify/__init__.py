"""`verify`: whether the expected objects exist, are whole, and can be restored."""

from drtool.operations.verify.request import (
    Damaged,
    Differing,
    Missing,
    Prospect,
    Restored,
    Sample,
    VerifyRequest,
    VerifyResult,
)
from drtool.operations.verify.restored import Compared, differences
from drtool.operations.verify.run import healed, prospect, verify

__all__ = [
    "Compared",
    "Damaged",
    "Differing",
    "Missing",
    "Prospect",
    "Restored",
    "Sample",
    "VerifyRequest",
    "VerifyResult",
    "differences",
    "healed",
    "prospect",
    "verify",
]
