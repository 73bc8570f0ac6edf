"""`probe`: real queries of existing things, in the dry run too. They change nothing."""

from drtool.plans.actions.probing.asking import OUTPUTS, ProbeAction

__all__ = ["OUTPUTS", "ProbeAction"]
