"""Scratch directories for restored data: private, sized in advance, registered before creation, always removed."""

from drtool.plans.scratch.registry import ScratchRecord, ScratchRow, list_scratch, remove_scratch
from drtool.plans.scratch.removing import Leftover, remove_tree
from drtool.plans.scratch.space import Scratch, make_scratch, take_over

__all__ = [
    "Leftover",
    "Scratch",
    "ScratchRecord",
    "ScratchRow",
    "list_scratch",
    "make_scratch",
    "remove_scratch",
    "remove_tree",
    "take_over",
]
