"""Copies go to where the ring wants them; and what that would move, before anything is changed."""

from drtool.operations.rebalance.preview import preview
from drtool.operations.rebalance.request import PreviewRequest, RebalanceRequest, RebalanceResult, RingPreview
from drtool.operations.rebalance.run import rebalance

__all__ = ["PreviewRequest", "RebalanceRequest", "RebalanceResult", "RingPreview", "preview", "rebalance"]
