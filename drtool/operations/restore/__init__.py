"""`restore`: puts back a snapshot or a part of it, writing only what differs."""

from drtool.operations.restore.in_place import destination_of
from drtool.operations.restore.request import RestoreRequest, RestoreResult
from drtool.operations.restore.run import restore

__all__ = ["RestoreRequest", "RestoreResult", "destination_of", "restore"]
