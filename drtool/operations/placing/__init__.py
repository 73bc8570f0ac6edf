"""The places for copies: adding, changing, draining and removing targets."""

from drtool.operations.placing.adding import add_target
from drtool.operations.placing.altering import drain_target, set_target
from drtool.operations.placing.change import TargetChange
from drtool.operations.placing.removing import remove_target

__all__ = ["TargetChange", "add_target", "drain_target", "remove_target", "set_target"]
