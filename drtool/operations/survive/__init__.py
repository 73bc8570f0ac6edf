"""Which snapshots could still be restored if sites or targets were gone."""

from drtool.operations.survive.request import SurviveRequest, SurviveResult
from drtool.operations.survive.run import survive

__all__ = ["SurviveRequest", "SurviveResult", "survive"]
