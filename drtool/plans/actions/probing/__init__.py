"""`probe`: asking something that is there, for real, in the dry run too; nothing is changed by it."""

from drtool.plans.actions.probing.asking import OUTPUTS, ProbeAction

__all__ = ["OUTPUTS", "ProbeAction"]
