"""Every object back on its promised copies, at its right places."""

from drtool.operations.repair.request import RepairRequest, RepairResult
from drtool.operations.repair.run import repair

__all__ = ["RepairRequest", "RepairResult", "repair"]
