"""`forget`: removes snapshots from the catalogue, by retention rules or by name. Their data stays until a prune."""

from drtool.operations.forget.request import ForgetRequest, ForgetResult
from drtool.operations.forget.run import forget

__all__ = ["ForgetRequest", "ForgetResult", "forget"]
