"""Rebalancing: copies move to where the ring places them, and a preview shows the moves first."""

from drtool.operations.rebalance.preview import preview
from drtool.operations.rebalance.request import PreviewRequest, RebalanceRequest, RebalanceResult, RingPreview
from drtool.operations.rebalance.run import rebalance

__all__ = ["PreviewRequest", "RebalanceRequest", "RebalanceResult", "RingPreview", "preview", "rebalance"]
