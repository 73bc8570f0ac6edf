"""`status`: how the repository is now, on one screen."""

from drtool.operations.status.result import (
    QuorumStatus,
    Remark,
    SiteStatus,
    SourceStatus,
    StatusResult,
    TargetStatus,
    notice,
    problem,
)
from drtool.operations.status.run import status
from drtool.operations.status.sources import last_verified

__all__ = [
    "QuorumStatus",
    "Remark",
    "SiteStatus",
    "SourceStatus",
    "StatusResult",
    "TargetStatus",
    "last_verified",
    "notice",
    "problem",
    "status",
]
