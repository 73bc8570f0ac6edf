"""`survive`: which snapshots could still be restored after the loss of sites or targets."""

from drtool.operations.survive.request import SurviveRequest, SurviveResult
from drtool.operations.survive.run import survive

__all__ = ["SurviveRequest", "SurviveResult", "survive"]
