"""`status`: the current state of the repository, on one screen."""

from drtool.operations.status.proven import last_verified
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
