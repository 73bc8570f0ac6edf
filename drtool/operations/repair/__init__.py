"""`repair`: brings every object back to its promised copies at its desired places."""

from drtool.operations.repair.request import RepairRequest, RepairResult
from drtool.operations.repair.run import repair

__all__ = ["RepairRequest", "RepairResult", "repair"]
