"""`forget`: takes snapshots out of the catalogue, by retention rules or by name. What they held stays until prune takes it."""

from drtool.operations.forget.request import ForgetRequest, ForgetResult
from drtool.operations.forget.run import forget

__all__ = ["ForgetRequest", "ForgetResult", "forget"]
