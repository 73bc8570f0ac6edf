"""`prune`: removal of unreferenced data while backups run."""

from drtool.operations.prune.request import PruneRequest, PruneResult
from drtool.operations.prune.run import prune

__all__ = ["PruneRequest", "PruneResult", "prune"]
