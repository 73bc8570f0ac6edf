"""Where copies may lie: targets come, change, are drained, and go."""

from drtool.operations.placing.adding import add_target
from drtool.operations.placing.altering import drain_target, set_target
from drtool.operations.placing.change import TargetChange
from drtool.operations.placing.removing import remove_target

__all__ = ["TargetChange", "add_target", "drain_target", "remove_target", "set_target"]
