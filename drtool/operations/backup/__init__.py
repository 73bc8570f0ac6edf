"""`backup`: one snapshot of each source, incremental, deduplicated, spread over the sites."""

from drtool.operations.backup.request import BackupRequest, BackupResult, SnapshotReport, SourceJob
from drtool.operations.backup.run import backup

__all__ = ["BackupRequest", "BackupResult", "SnapshotReport", "SourceJob", "backup"]
